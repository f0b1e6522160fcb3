"""What peers weigh is asked once in a moment."""

from __future__ import annotations

import anyio
from fluvial.guard.recent_weights import MOMENT_S, REMEMBERED_MAX, RecentWeights
from fluvial.identity import PeerId
from fluvial.virtual.loop import run

from tests.support.nodes import id_of


class Asked:
    """Says what peers weigh, and notes who asked."""

    def __init__(self, **weights: int) -> None:
        self.weights = {id_of(name): weight for name, weight in weights.items()}
        self.peers: list[PeerId] = []

    def weight(self, peer: PeerId) -> int:
        self.peers.append(peer)
        return self.weights.get(peer, 0)


def test_a_weight_is_asked_once_in_a_moment_and_a_change_counts_after_it() -> None:
    async def main() -> None:
        asked = Asked(a=3)
        recent = RecentWeights(asked.weight)
        assert [recent(id_of("a")), recent(id_of("b")), recent(id_of("a"))] == [3, 0, 3]
        assert asked.peers == [id_of("a"), id_of("b")]
        asked.weights[id_of("a")] = 5
        assert recent(id_of("a")) == 3
        await anyio.sleep(MOMENT_S)
        assert recent(id_of("a")) == 5

    run(main)


def test_it_does_not_grow_with_the_names_that_are_asked_for() -> None:
    async def main() -> None:
        asked = Asked()
        recent = RecentWeights(asked.weight)
        for number in range(2 * REMEMBERED_MAX):
            recent(PeerId(f"name {number}"))
        recent(PeerId("name 0"))
        assert asked.peers.count(PeerId("name 0")) == 2, "it was forgotten"

    run(main)
