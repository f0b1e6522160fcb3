"""Order and repetition of deliveries do not matter.

That holds for flows in which nothing depends on the order of a stream's elements, which is each peer's own until a canon fixes it: the flows
of ``tampered.PLAYS``. There each canon is reached only after all that it fixes, and folds over streams do the same for each element.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.machine.machine import Effects, Machine

from tests.core.air.machine.tampered import PLAYS, Played, known

SEEDS = range(8)


class Shuffled(Played):
    """A flow whose deliveries arrive in any order, each of them any number of times, old ones again."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__(name)
        self._rng = random.Random(seed)

    def _come(self, name: str, data: bytes) -> Effects:
        effects = super()._come(name, data)
        for _ in range(self._rng.randrange(3)):
            again = self._rng.choice(self.deliveries)
            if again.data and len(self.deliveries) < 200:
                self.queue.append((again.to, again.data))
                self._senders.append(again.sender)
        order = self._rng.sample(range(len(self.queue)), len(self.queue))
        self.queue[:] = [self.queue[place] for place in order]
        self._senders[:] = [self._senders[place] for place in order]
        return effects


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLAYS)
def test_any_order_and_repetition_lead_to_the_same_calls(name: str, seed: int) -> None:
    shuffled = Shuffled(name, seed).run()
    assert shuffled.calls_of() == Played(name).run().calls_of()
    assert shuffled.errors == []
    assert shuffled.evidence() == []


def fresh(played: Played, name: str) -> Machine:
    keys = played.names.keys[name]
    return Machine(played.script, played.particle.key, keys.peer_id, **played.environment)


def behaviour(machine: Machine, last: Effects) -> tuple[object, ...]:
    """What a peer has and does next; facts that say the same are the same."""
    return (
        {batch.id for batch in machine.batches()},
        {(wait.instance, wait.reason, wait.peer) for wait in machine.waits()},
        {key for batch in machine.batches() for key in batch.contents()} <= machine.contents().keys(),
        last.finished,
        last.error,
    )


def merged(played: Played, name: str, order: Sequence[Known]) -> tuple[object, ...]:
    """What a peer that begins with nothing comes to; requests and departures are those of all merges."""
    machine = fresh(played, name)
    requests, peers = set(), set()
    effects = machine.merge(Known((), {}))
    for part in [None, *order]:
        if part is not None:
            effects = machine.merge(part)
        requests |= {(one.instance, repr(one.arguments)) for one in effects.requests}
        peers |= set(effects.next_peers)
    return (*behaviour(machine, effects), requests, peers)


@pytest.mark.parametrize("name", PLAYS)
@pytest.mark.parametrize("peer", ["a", "b", "c"])
def test_merging_is_commutative_and_idempotent(name: str, peer: str) -> None:
    """What a peer gets from the others, delivery by delivery: A then B, B then A, both twice."""
    played = Played(name).run()
    others = [
        one
        for one in played.deliveries
        if one.data and played.names.keys[peer].peer_id not in signers(played, one.data)
    ]
    parts = [Known(*known(played, one.data)) for one in others]
    assert parts or peer == "a"
    for one in parts:
        for other in parts:
            there = merged(played, peer, [one, other])
            assert merged(played, peer, [other, one]) == there
            assert merged(played, peer, [one, other, other, one]) == there


def signers(played: Played, data: bytes) -> set[str]:
    batches: Sequence[Batch] = known(played, data)[0]
    return {batch.signer for batch in batches}
