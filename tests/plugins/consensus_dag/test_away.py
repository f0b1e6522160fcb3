"""A validator that was away for too long orders nothing until it has the vertices that others still have, also after a restart; and then what they order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

import msgspec
import pytest
from fluvial.consensus.effects import (
    Broadcast,
    BuildPayload,
    Effect,
    Forget,
    NeedHistory,
    Order,
    Persist,
    Send,
    SetTimer,
)
from fluvial.consensus.events import MessageReceived, PayloadBuilt, Synced, TimerFired
from fluvial.consensus.lab.compare import good_case
from fluvial.consensus.lab.run import LaboratoryRun
from fluvial.consensus.lab.schedule import Crash
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import NOTHING
from fluvial_consensus_dag import dag
from fluvial_consensus_dag.dag import Dag, floor_at
from fluvial_consensus_dag.messages import Bundle, Parent, Vertex

from tests.plugins.consensus_dag.test_pulls import PEERS, follower, hears, rounds
from tests.support.algorithms import DAG


@pytest.fixture(autouse=True)
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)


def uneven(many: int) -> list[Vertex]:
    """Vertices of four authors who do not have all of each other's at once, and sometimes make none."""
    rng = Random(1)
    found: list[Vertex] = []
    before: dict[int, Vertex] = {}
    last: dict[int, Vertex] = {}
    for number in range(1, many + 1):
        idle = rng.randrange(12)
        made: dict[int, Vertex] = {}
        for author in range(4):
            others = [one for one in before if one != author]
            if author == idle or (before and len(others) < 3 - (author in before)):
                continue
            chosen = [before[one] for one in rng.sample(others, 3 - (author in before))] if before else []
            parents = tuple(one.reference for one in [*([last[author]] if author in last else []), *chosen])
            made[author] = Vertex(0, number, author, parents, bytes([number, author]), number, bytes(64))
        found += made.values()
        last, before = {**last, **made}, made
    return found


OTHERS = uneven(100)
EARLY = [one for one in OTHERS if one.round <= 10]


def kept(decided: int) -> list[Vertex]:
    """What others still have when so many slots are decided."""
    return [one for one in OTHERS if one.round >= floor_at(decided)]


def knows(slot: int) -> Synced:
    """The host has the blocks up to a slot."""
    return Synced(Anchor(slot, slot, NOTHING, bytes(32), 1))


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


def orders(effects: Iterable[Effect]) -> list[Order]:
    return [one for one in effects if isinstance(one, Order)]


@pytest.fixture
def theirs() -> list[Order]:
    """What somebody orders who was never away."""
    engine = follower()
    return orders(goes_on(engine, engine.start([], 0), OTHERS))


def test_who_was_away_orders_what_others_order_once_it_has_what_they_have(theirs: list[Order]) -> None:
    assert len(theirs) > 60
    for slot in [one.slot for one in theirs if 35 <= one.slot < 95][::7]:
        engine = follower()
        goes_on(engine, engine.start([], 0), EARLY)
        effects = goes_on(engine, engine.handle(knows(slot), 1), kept(slot))
        assert orders(effects) == [one for one in theirs if one.slot > slot]


@pytest.mark.parametrize("records_max", [10, 1_000], ids=("with a window", "without one"))
def test_until_then_it_orders_nothing_also_after_a_restart(
    records_max: int, theirs: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dag, "RECORDS_MAX", records_max)
    slot = next(one.slot for one in theirs if one.slot >= 50)
    engine = follower(PEERS[0])
    effects = goes_on(engine, engine.start([], 0), EARLY)
    effects += goes_on(engine, engine.handle(knows(slot), 1), [one for one in kept(slot) if one.round <= slot])
    assert any(isinstance(one, NeedHistory) for one in engine.handle(TimerFired("stall"), 1)), "blocks come from others"
    records: list[bytes] = []
    for effect in effects:
        if isinstance(effect, Persist):
            records.append(effect.record)
        elif isinstance(effect, Forget):
            del records[: -effect.keep]
    again = follower(PEERS[0])
    assert not [one for one in orders(effects) if one.slot > 10]
    assert not orders(goes_on(again, again.start(records, 0), []))
    after = goes_on(again, [], kept(slot))
    assert sum(isinstance(one, Broadcast) for one in after) > 20, "it goes on making vertices"
    assert orders(after) == [one for one in theirs if one.slot > slot]


def test_who_was_away_believes_no_more_than_others() -> None:
    """A vertex that stands on what nobody has is not stood on, as long as the others wait for that."""
    straight = list(rounds(60, (1, 2, 3)))
    engine = follower(PEERS[0])
    goes_on(engine, engine.start([], 0), [one for one in straight if one.round <= 10])
    newer = [one for one in straight if 30 <= one.round <= 51]
    goes_on(engine, engine.handle(knows(50), 1), newer)
    known = engine.inspect()["vertices"]
    newest = [one.reference for one in newer[-3:]]
    hears(engine, Vertex(0, 52, 1, (*newest, Parent(35, 2, bytes(32))), b"", 1, bytes(64)))
    assert engine.inspect()["vertices"] == known
    hears(engine, Vertex(0, 52, 1, (*newest, Parent(25, 2, bytes(32))), b"", 1, bytes(64)))
    assert engine.inspect()["vertices"] == known + 1


def test_what_comes_while_it_makes_no_vertices_is_written_a_little_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "RECORD_BYTES_MAX", 5_000)
    engine = follower(PEERS[0])
    engine.start([], 0)
    engine.handle(knows(90), 1)
    older = [one for one in kept(90) if one.round < 90]
    written = []
    for start in range(0, len(older), 10):
        bundle = encode(Bundle(tuple(older[start : start + 10])))
        effects = engine.handle(MessageReceived(PEERS[1], bundle), 1)
        assert not [one for one in effects if isinstance(one, BuildPayload)]
        written.append(sum(len(one.record) for one in effects if isinstance(one, Persist)))
    assert sum(size > 0 for size in written) >= 2
    assert max(written) < 10_000


def test_who_lacks_much_asks_again_as_soon_as_some_of_it_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "DEPTH", 150)
    monkeypatch.setattr(dag, "SLACK", 50)
    straight = list(rounds(300))
    knowing, engine = follower(PEERS[1]), follower(PEERS[0])
    for effects in (knowing.start([], 0), engine.start([], 0)):
        assert effects
    for vertex in straight:
        hears(knowing, vertex)
    effects = [*engine.handle(knows(290), 1), *hears(engine, straight[-1])]
    now = asked = 0
    while engine.inspect()["view"] < 298 and now < 30 * 25:
        now += 25
        wanted = [one for one in effects if isinstance(one, Send)]
        again = any(isinstance(one, SetTimer) and one.name == "pull" for one in effects)
        asked += len(wanted)
        effects = [*engine.handle(TimerFired("pull"), now)] if again else []
        for question in wanted:
            for answer in knowing.handle(MessageReceived(PEERS[0], question.data), now):
                assert isinstance(answer, Send)
                effects += engine.handle(MessageReceived(PEERS[1], answer.data), now)
    assert engine.inspect()["view"] >= 298
    assert asked < 20


@pytest.mark.long
def test_three_of_four_go_on_with_proofs_if_one_of_them_was_away_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "DEPTH", 8)
    monkeypatch.setattr(dag, "SLACK", 2)
    quiet = good_case("away", 4, end_ms=1_700)
    schedule = msgspec.structs.replace(quiet, faults=[Crash(node=3, at_ms=300, restart_ms=1_200)])
    run = LaboratoryRun(schedule, DAG, 1)
    run.play()
    run.copies[0].stop()
    before = max(copy.replica.chain.tip.height for copy in run.copies[1:] if copy.replica is not None)
    run.schedule = msgspec.structs.replace(schedule, end_ms=2_500)
    run.play()
    for copy in run.copies[1:]:
        assert copy.replica is not None
        assert not copy.replica.alarmed
        assert copy.replica.chain.store.proof(before + 5) is not None
