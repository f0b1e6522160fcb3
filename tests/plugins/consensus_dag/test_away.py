"""A validator that was away for too long orders nothing until the next epoch, also after a restart: what it lacks would be missing in its blocks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from fluvial.consensus.effects import Broadcast, BuildPayload, Effect, Forget, NeedHistory, Order, Persist
from fluvial.consensus.events import PayloadBuilt, Synced, TimerFired
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import NOTHING
from fluvial_consensus_dag import dag
from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.messages import Parent, Vertex

from tests.plugins.consensus_dag.test_pulls import PEERS, follower, hears, rounds

OTHERS = list(rounds(100, (1, 2, 3)))
KEPT = [one for one in OTHERS if one.round >= 30]
"""What others still have when slot 50 is decided."""


def goes_on(engine: Dag, effects: Sequence[Effect], vertices: Iterable[Vertex]) -> list[Effect]:
    """All that an engine does that gets the payloads that it wants, and hears vertices."""
    found: list[Effect] = []
    for vertex in (None, *vertices):
        pending = list(effects if vertex is None else hears(engine, vertex))
        while pending:
            effect = pending.pop(0)
            found.append(effect)
            if isinstance(effect, BuildPayload):
                pending += engine.handle(PayloadBuilt(effect.request, b"", b"", 1), 1)
    return found


@pytest.mark.parametrize("records_max", [10, 1_000], ids=("with a window", "without one"))
def test_who_was_away_for_too_long_orders_nothing_after_a_restart(
    records_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)
    monkeypatch.setattr(dag, "RECORDS_MAX", records_max)
    engine = follower(PEERS[0])
    early = goes_on(engine, engine.start([], 0), [one for one in OTHERS if one.round <= 10])
    assert any(isinstance(one, Order) for one in early)
    away = engine.handle(Synced(Anchor(50, 50, NOTHING, bytes(32), 1)), 1)
    late = goes_on(engine, away, [one for one in KEPT if one.round <= 70])
    records: list[bytes] = []
    for effect in [*early, *late]:
        if isinstance(effect, Persist):
            records.append(effect.record)
        elif isinstance(effect, Forget):
            del records[: -effect.keep]
    again = follower(PEERS[0])
    after = goes_on(again, again.start(records, 0), KEPT)
    assert sum(isinstance(one, Broadcast) for one in after) > 20, "it goes on making vertices"
    assert any(isinstance(one, NeedHistory) for one in again.handle(TimerFired("stall"), 1)), "blocks come from others"
    assert not [one for one in [*late, *after] if isinstance(one, Order)]


def test_who_was_away_believes_no_more_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vertex that stands on what nobody has is not stood on, as long as the others wait for that."""
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)
    engine = follower(PEERS[0])
    goes_on(engine, engine.start([], 0), [one for one in OTHERS if one.round <= 10])
    newer = [one for one in KEPT if one.round <= 51]
    goes_on(engine, engine.handle(Synced(Anchor(50, 50, NOTHING, bytes(32), 1)), 1), newer)
    known = engine.inspect()["vertices"]
    newest = [one.reference for one in newer[-3:]]
    hears(engine, Vertex(0, 52, 1, (*newest, Parent(35, 2, bytes(32))), b"", 1, bytes(64)))
    assert engine.inspect()["vertices"] == known
    hears(engine, Vertex(0, 52, 1, (*newest, Parent(25, 2, bytes(32))), b"", 1, bytes(64)))
    assert engine.inspect()["vertices"] == known + 1
