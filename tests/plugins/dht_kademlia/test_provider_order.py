"""Who is kept at a key, and in which order."""

from __future__ import annotations

import hypothesis.strategies as st
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.provider_order import ProviderRow, keep_providers
from hypothesis import given

from tests.plugins.dht_kademlia.peers import peer_of

PEERS = [peer_of(name) for name in "abcdefghij"]
WEIGHTS = st.fixed_dictionaries({peer: st.integers(0, 3) for peer in PEERS})
ROWS = st.lists(
    st.builds(ProviderRow, st.sampled_from(PEERS), st.integers(0, 3), st.integers(0, 3)),
    max_size=10,
    unique_by=lambda row: row.peer,
)
LIMITS = st.integers(1, 8).flatmap(lambda limit: st.tuples(st.just(limit), st.integers(0, limit - 1)))


@given(ROWS, WEIGHTS, LIMITS, st.randoms(use_true_random=False))
def test_the_choice_depends_on_no_order_and_fills_the_places(
    rows: list[ProviderRow], weights: dict[PeerId, int], limits: tuple[int, int], random: object
) -> None:
    limit, reserve = limits
    kept = keep_providers(rows, weights.__getitem__, limit=limit, reserve=reserve)
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert keep_providers(shuffled, weights.__getitem__, limit=limit, reserve=reserve) == kept
    assert len(kept.ordered) == min(limit, len(rows))
    strangers = sum(weights[row.peer] == 0 for row in rows)
    assert len(kept.weightless) >= min(strangers, reserve)
    assert len(kept.weighted) >= min(len(rows) - strangers, limit - reserve)
    assert [weights[peer] for peer in kept.weighted] == sorted((weights[peer] for peer in kept.weighted), reverse=True)


@given(ROWS, WEIGHTS, LIMITS)
def test_nobody_who_was_left_out_is_heavier_than_somebody_who_was_kept(
    rows: list[ProviderRow], weights: dict[PeerId, int], limits: tuple[int, int]
) -> None:
    kept = keep_providers(rows, weights.__getitem__, limit=limits[0], reserve=limits[1])
    left_out = [weights[row.peer] for row in rows if row.peer not in kept.ordered and weights[row.peer] > 0]
    if left_out and kept.weighted:
        assert max(left_out) <= min(weights[peer] for peer in kept.weighted)
