"""The DAG: hand-drawn graphs, an engine by hand, the kit, and mutants of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fluvial.consensus.effects import Accuse, Broadcast, BuildPayload, Effect, Order, Persist, Send
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import MessageReceived, PayloadBuilt, TimerFired
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import read_schedule
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import NOTHING, VERTEX, Validator, ValidatorSet, signed_bytes
from fluvial.testing.engine import EngineConformance
from fluvial_consensus_dag.committer import DagCommitter, SlotDecision
from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.deliveries import Deliveries
from fluvial_consensus_dag.graph import Graph
from fluvial_consensus_dag.messages import (
    VERTEX_PAYLOAD_BYTES_MAX,
    Bundle,
    NewVertex,
    Parent,
    Pull,
    Vertex,
    read_dag_message,
)
from fluvial_consensus_dag.plugin import TRAITS, DagOptions, make

from tests.plugins.consensus_dag.drawing import VALIDATORS, Drawing
from tests.plugins.consensus_dag.patterns import PATTERNS, honest

KEYS = [keys_of(f"node {number}") for number in range(4)]
SCHEDULES = Path(__file__).parents[2] / "conformance" / "consensus"


class TestDagInTheKit(EngineConformance):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return Algorithm(name="dag", make=make, options=DagOptions(), traits=TRAITS)


# --- the committer, and its mutants -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: one.__name__)
def test_the_committer_decides_as_the_rules_say(pattern: Callable[[Any], None]) -> None:
    pattern(honest)


class OneIsEnough(DagCommitter):
    """Commits with one certificate."""

    def _is_quorum(self, authors: list[int]) -> bool:
        return bool(authors)


class LowQuorum(DagCommitter):
    """A quorum of 2f."""

    def _is_quorum(self, authors: list[int]) -> bool:
        return self._validators.weight(authors) >= 2 * self._validators.faulty_max


class AnchorAlwaysSkips(DagCommitter):
    """Skips whatever is not committed directly."""

    def _by_anchor(self, slot: int, anchor: bytes) -> SlotDecision:
        return SlotDecision(None)


class AnchorNeedsNoCertificate(DagCommitter):
    """Commits what lies below the anchor, certified or not."""

    def _by_anchor(self, slot: int, anchor: bytes) -> SlotDecision:
        return SlotDecision(self._graph.reaches(anchor, self._graph.leader_vertices(slot)))


class SkippedAnchor(DagCommitter):
    """Takes a skipped slot for an anchor."""

    def _indirect(self, slot: int, last: int, found: dict[int, SlotDecision | None]) -> SlotDecision | None:
        anchor = found.get(slot + 3)
        if anchor is None:
            return None
        return SlotDecision(None) if anchor.vertex is None else self._by_anchor(slot, anchor.vertex)


class NeverSkips(DagCommitter):
    """Waits for a leader for ever."""

    def direct(self, slot: int) -> SlotDecision | None:
        found = super().direct(slot)
        return None if found is not None and found.vertex is None else found


@pytest.mark.parametrize(
    "mutant", [OneIsEnough, LowQuorum, AnchorAlwaysSkips, AnchorNeedsNoCertificate, SkippedAnchor, NeverSkips]
)
def test_a_pattern_kills(mutant: type[DagCommitter]) -> None:
    def killed(pattern: Callable[[Any], None]) -> bool:
        try:
            pattern(lambda graph: mutant(graph, VALIDATORS))
        except (AssertionError, IndexError):
            return True
        return False

    assert any(map(killed, PATTERNS)), f"{mutant.__doc__} and nobody notices"


# --- mutants of the engine ----------------------------------------------------------------------------------------------


class Dropping(Dag):
    """Persists nothing."""

    dropped: type[Any] = Persist

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        return [one for one in super().start(records, now) if not isinstance(one, self.dropped)]

    def handle(self, event: Any, now: int) -> Sequence[Effect]:
        return [one for one in super().handle(event, now) if not isinstance(one, self.dropped)]


class NoEvidence(Dropping):
    """Keeps what it knows of offences to itself."""

    dropped = Accuse


class NeverPulls(Dag):
    """Waits for what was lost."""

    def _ask_parents(self, sender: Any, vertices: Sequence[Vertex]) -> None:
        pass

    def _pull_everything(self) -> None:
        pass


class LeadersClock(Deliveries):
    """Takes the time of a block from its leader alone."""

    def time_of(self, leader: Vertex) -> int:
        return leader.time_ms


class TrustsTheLeadersClock(Dag):
    """Takes the time of a block from its leader alone."""

    def __init__(self, setup: EngineSetup) -> None:
        super().__init__(setup)
        self._deliveries = LeadersClock(self._graph)


class Impatient(Dag):
    """Does not wait for leaders."""

    def _is_round_full(self, before: int) -> bool:
        return True


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (Dropping, "p06-power-cut"),
        (NoEvidence, "h06-late-twin"),
        (NeverPulls, "h11-one-way-links"),
        (TrustsTheLeadersClock, "h04-fast-clock"),
    ],
)
def test_a_schedule_kills(mutant: type[Dag], name: str) -> None:
    schedule = read_schedule(SCHEDULES / f"{name}.json")
    algorithm = Algorithm(name="dag", make=lambda setup, options: mutant(setup), options=None, traits=TRAITS)
    assert not play(schedule, algorithm, schedule.seed)["passed"], f"{mutant.__doc__} and nobody notices"


# --- one engine by hand -------------------------------------------------------------------------------------------------


def validator(me: int, kind: type[Dag] = Dag) -> Dag:
    setup = EngineSetup(
        me=KEYS[me].peer_id,
        sign=KEYS[me].sign,
        verify=verify_once,
        chain=bytes(32),
        epoch=0,
        validators=VALIDATORS,
        anchor=Anchor(0, 0, NOTHING, bytes(32), 0),
        delta_ms=100,
    )
    return kind(setup)


def signed(
    number: int, author: int, parents: Sequence[Vertex] = (), *, time_ms: int = 0, by: int | None = None
) -> Vertex:
    references = tuple(one.reference for one in parents)
    unsigned = Vertex(0, number, author, references, b"", time_ms, bytes(64))
    signature = KEYS[author if by is None else by].sign(signed_bytes(bytes(32), VERTEX, 0, number, unsigned.id))
    return Vertex(0, number, author, references, b"", time_ms, signature)


def arrives(engine: Dag, vertex: Vertex, now: int = 1) -> Sequence[Effect]:
    return engine.handle(MessageReceived(KEYS[vertex.author].peer_id, encode(NewVertex(vertex))), now)


def builds(effects: Sequence[Effect]) -> list[int]:
    return [one.request for one in effects if isinstance(one, BuildPayload)]


def waits_for_the_leader(kind: type[Dag]) -> bool:
    """Whether a vertex of round 2 waits for the leader of round 1, who is author 1."""
    engine = validator(0, kind)
    engine.start([], 0)
    engine.handle(PayloadBuilt(1, b"", b"", 1), 1)
    arrives(engine, signed(1, 2))
    early = builds(arrives(engine, signed(1, 3)))
    return not early and builds(arrives(engine, signed(1, 1))) == [2]


def test_a_vertex_waits_for_the_leader_of_the_round_before() -> None:
    assert waits_for_the_leader(Dag)
    assert not waits_for_the_leader(Impatient), "this test would notice"


def test_a_vertex_is_persisted_before_it_is_sent() -> None:
    engine = validator(0)
    engine.start([], 0)
    effects = engine.handle(PayloadBuilt(1, b"x", b"", 1), 1)
    assert [type(one) for one in effects if isinstance(one, Persist | Broadcast)] == [Persist, Broadcast]


def test_after_a_crash_no_second_vertex_is_made_in_a_round() -> None:
    engine = validator(0)
    engine.start([], 0)
    records = [one.record for one in engine.handle(PayloadBuilt(1, b"x", b"", 1), 1) if isinstance(one, Persist)]
    again = validator(0)
    assert builds(again.start(records, 0)) == []


def test_a_missing_parent_is_pulled_from_who_has_sent_its_child() -> None:
    engine = validator(0)
    engine.start([], 0)
    parents = [signed(1, author) for author in (1, 2, 3)]
    child = signed(2, 3, parents)
    pulls = [one for one in arrives(engine, child) if isinstance(one, Send)]
    assert [one.to for one in pulls] == [KEYS[3].peer_id]
    message = read_dag_message(pulls[0].data)
    assert isinstance(message, Pull)
    assert set(message.ids) == {one.id for one in parents}
    engine.handle(MessageReceived(KEYS[3].peer_id, encode(Bundle(tuple(parents)))), 2)
    assert engine.inspect()["vertices"] == 4


def test_two_vertices_of_one_round_are_an_offence() -> None:
    engine = validator(0)
    engine.start([], 0)
    arrives(engine, signed(1, 2))
    accused = [one.evidence for one in arrives(engine, signed(1, 2, time_ms=9)) if isinstance(one, Accuse)]
    assert [one.offence for one in accused] == ["double_vertex"]
    assert accused[0].convicts(bytes(32), verify_once)


def test_forged_vertices_are_dropped() -> None:
    engine = validator(0)
    engine.start([], 0)
    arrives(engine, signed(1, 2, by=3))
    assert engine.inspect()["vertices"] == 0


def malformed() -> Iterator[Vertex]:
    first = [signed(1, author) for author in range(4)]
    yield signed(1, 1, [first[0]])  # the first round has no parents
    yield signed(2, 1, first[:2])  # no quorum
    yield signed(2, 1, [*first, signed(1, 0, time_ms=5)])  # one author twice
    yield signed(3, 1, first)  # nothing of the round before
    lie = Vertex(0, 2, 1, (Parent(1, 9, bytes(32)), *(one.reference for one in first)), b"", 0, bytes(64))
    yield lie
    second = [signed(2, author, first) for author in range(4)]
    yield signed(3, 1, [*second, first[2], signed(1, 2, time_ms=5)])  # two of one older round
    yield signed(3, 1, [*second, first[1]])  # two of its own
    large = bytes(VERTEX_PAYLOAD_BYTES_MAX + 1)
    yield Vertex(0, 2, 1, tuple(one.reference for one in first), large, 0, bytes(64))


@pytest.mark.parametrize(
    "vertex", list(malformed()), ids=("parents", "quorum", "twice", "old", "nobody", "copies", "own", "large")
)
def test_malformed_vertices_are_dropped(vertex: Vertex) -> None:
    assert not Graph(0, VALIDATORS).is_well_formed(vertex)


def test_two_copies_of_one_vertex_are_named_by_different_vertices() -> None:
    """Both came too late for the next round: each is wanted on record, and no vertex may name two of one author and round."""
    engine = validator(0)
    engine.start([], 0)
    own = [made(engine.handle(PayloadBuilt(1, b"", b"", 1), 1))]
    before = [own[-1], signed(1, 1), signed(1, 2)]
    for vertex in before[1:]:
        arrives(engine, vertex)
    copies = [signed(1, 3, time_ms=number) for number in range(2)]
    for number in (2, 3, 4):
        own.append(made([*engine.handle(TimerFired("round"), 1), *engine.handle(PayloadBuilt(number, b"", b"", 1), 1)]))
        assert Graph(0, VALIDATORS).is_well_formed(own[-1])
        others = [signed(number, author, before) for author in (1, 2)]
        for vertex in [*(copies if number == 2 else ()), *others]:
            arrives(engine, vertex)
        before = [own[-1], *others]
    named = [{parent.id for parent in one.parents} & {copy.id for copy in copies} for one in own]
    assert sorted(map(len, named)) == [0, 0, 1, 1]
    assert len(set.union(*named)) == 2


def made(effects: Sequence[Effect]) -> Vertex:
    """The vertex that an engine sends."""
    (message,) = [read_dag_message(one.data) for one in effects if isinstance(one, Broadcast)]
    assert isinstance(message, NewVertex)
    return message.vertex


def test_the_time_of_a_block_lies_between_the_clocks_of_correct_authors() -> None:
    drawing = Drawing()
    times = (1_000, 10**15, 1_020, 1_010)
    before = [drawing.vertex(1, author, [], time_ms=times[author]) for author in range(4)]
    leader = drawing.vertex(2, 2, before, time_ms=10**15)
    assert Deliveries(drawing.graph).time_of(leader) == 1_010


def test_many_with_little_power_do_not_make_the_time() -> None:
    powers = [9] * 3 + [1] * 9
    members = [Validator(str(keys_of(f"node {number}").peer_id), power) for number, power in enumerate(powers)]
    graph = Graph(0, ValidatorSet(members))
    times = [1_000, 1_010, 1_020, *[10**15] * 9]
    before = [Vertex(0, 1, author, (), b"", time_ms, bytes(64)) for author, time_ms in enumerate(times)]
    leader = Vertex(0, 2, 2, tuple(one.reference for one in before), b"", 10**15, bytes(64))
    for one in [*before, leader]:
        graph.add(one)
    assert Deliveries(graph).time_of(leader) == 1_010


def test_payloads_are_ordered_once() -> None:
    """Four engines that hear each other at once order every payload of each."""
    engines = [validator(number) for number in range(4)]
    ordered: list[list[bytes]] = [[] for _ in engines]
    pending: list[tuple[int, Effect]] = [
        (number, one) for number, engine in enumerate(engines) for one in engine.start([], 0)
    ]
    made = 0
    while pending and made < 60:
        number, effect = pending.pop(0)
        match effect:
            case BuildPayload(request):
                made += 1
                event: Any = PayloadBuilt(request, b"%d-%d" % (number, request), b"", made)
                pending += [(number, one) for one in engines[number].handle(event, 1)]
            case Broadcast(data):
                for other, engine in enumerate(engines):
                    if other != number:
                        pending += [
                            (other, one) for one in engine.handle(MessageReceived(KEYS[number].peer_id, data), 1)
                        ]
            case Order(payloads=payloads):
                ordered[number] += payloads
    shortest = min(map(len, ordered))
    assert shortest > 20
    assert len({tuple(one[:shortest]) for one in ordered}) == 1
    assert len(set(ordered[0])) == len(ordered[0])
