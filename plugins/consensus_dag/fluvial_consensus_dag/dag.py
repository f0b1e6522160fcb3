"""The engine: makes one vertex a round, collects those of others, and orders payloads as the committer decides.

There are no votes and no timers for a leader: a vertex is all that is ever sent, and lost ones are pulled by whoever sees that a parent is missing.
Nobody checks a payload before it is ordered, so the engine certifies no state: the host gathers checkpoints.

Deviation from Mysticeti: a vertex's round is never made twice after a crash, since it is persisted before it is sent; vertices that lie more than
``DEPTH`` rounds below a committed leader are never ordered, so that memory is bounded by a rule on which all agree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fluvial.consensus.effects import (
    Accuse,
    Broadcast,
    BuildPayload,
    Effect,
    Forget,
    NeedHistory,
    Persist,
    Send,
    SetTimer,
)
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, PayloadChecked, Synced, TimerFired
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial.ledger.statements import VERTEX, Evidence, signed_bytes

from fluvial_consensus_dag.committer import DagCommitter
from fluvial_consensus_dag.deliveries import Deliveries
from fluvial_consensus_dag.graph import Graph
from fluvial_consensus_dag.messages import (
    BUNDLE_BYTES_MAX,
    BUNDLE_MAX,
    RECORD_BYTES_MAX,
    WEAK_MAX,
    AwayRecord,
    Bundle,
    DagRecord,
    NewVertex,
    Parent,
    Pull,
    Vertex,
    WindowRecord,
    read_dag_message,
    size_of,
    vertex_records,
)
from fluvial_consensus_dag.pending import PendingVertices

DEPTH: Final = 200
"""Vertices so many rounds below a committed leader are never ordered. Four validators that fill theirs have each other keep 1 MiB for each round."""
SLACK: Final = 25
"""Rounds that are forgotten together, by all at the same slot: whoever has forgotten a round takes on trust that a parent is of it, and stands on its child."""
SAME_SLOT_MAX: Final = 2
"""Vertices of one author and round that are taken without having been asked for; two are the proof of an offence."""
AHEAD_MAX: Final = 10_000
RECORDS_MAX: Final = 128
GROWTH_MAX: Final = 32
ASKED_MAX: Final = 64


class Dag:
    """One validator, or a follower that makes no vertices.

    Args:
        setup: its world.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup
        self._validators = setup.validators
        self._index = setup.validators.index(setup.me)
        self._graph = Graph(setup.epoch, setup.validators)
        self._committer = DagCommitter(self._graph, setup.validators)
        self._decided = 0
        self._blind = False
        self._deliveries = Deliveries(self._graph)
        self._own: Vertex | None = None
        self._own_round = 0
        self._covered: dict[bytes, None] = {}
        self._uncovered: dict[bytes, None] = {}
        self._pending = PendingVertices(len(setup.validators))
        self._accused: dict[int, None] = {}
        self._unwritten: list[Vertex] = []
        self._written: deque[int] = deque()  # of each record that is kept, the highest round in it
        self._records = 0
        self._building = 0
        self._due = 0
        self._seen_quorum = 0
        self._moved = False
        self._turn = 0
        self._asked: dict[PeerId, int] = {}
        self._answered: dict[PeerId, int] = {}
        self._now = 0
        self._effects: list[Effect] = []

    # --- the engine's three methods -------------------------------------------------------------------------------------

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin, or go on with the vertices of an earlier run."""
        self._now = now
        self._recall(records)
        self._set(SetTimer("stall", 3 * self._setup.delta_ms))
        if records or self._setup.anchor.height:
            self._set(NeedHistory())
            self._pull_everything()
        self._progress()
        return self._taken()

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        self._now = now
        match event:
            case MessageReceived(sender, data):
                self._receive(sender, data)
            case TimerFired("round"):
                self._due = self._graph.quorum_round + 1
                self._progress()
            case TimerFired("stall"):
                self._stalled()
            case TimerFired("pull"):
                self._pull_everything()
            case TimerFired():
                pass
            case PayloadBuilt():
                self._built(event)
            case PayloadChecked():
                pass  # this engine never asks for it
            case Synced(anchor):
                self._synced(anchor.slot)
        return self._taken()

    def inspect(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {"view": self._graph.quorum_round, "decided": self._decided, "vertices": len(self._graph.vertices)}

    # --- messages -------------------------------------------------------------------------------------------------------

    def _receive(self, sender: PeerId, data: bytes) -> None:
        match read_dag_message(data):
            case NewVertex(vertex):
                self._take(sender, vertex)
                self._ask_parents(sender, [vertex])
            case Bundle(vertices):
                known = len(self._graph.vertices)
                for vertex in vertices:
                    self._take(sender, vertex)
                if len(self._graph.vertices) > known and self._pending.wanted:
                    self._set(SetTimer("pull", max(1, self._setup.delta_ms // 4)))  # there is more where that came from
                if sum(map(size_of, self._unwritten)) >= RECORD_BYTES_MAX:
                    self._write_vertices()  # who catches up makes none of its own for a while, with which they would go
                self._asked.pop(sender, None)
                self._ask_parents(sender, list(vertices))
            case Pull() as pull:
                self._answer(sender, pull)
            case None:
                return
        self._progress()

    def _take(self, sender: PeerId, vertex: Vertex) -> None:
        """Check a vertex and accept it, or let it wait for its parents."""
        name = vertex.id
        graph = self._graph
        if name in graph.vertices or name in self._pending or vertex.epoch != self._setup.epoch:
            return
        if not graph.floor <= vertex.round <= graph.quorum_round + AHEAD_MAX or not graph.is_well_formed(vertex):
            return
        same = graph.rounds.get(vertex.round, {}).get(vertex.author, ())
        if len(same) >= SAME_SLOT_MAX and name not in self._pending.wanted:
            return
        message = signed_bytes(self._setup.chain, VERTEX, vertex.epoch, vertex.round, name)
        if not self._setup.verify(self._validators.keys[vertex.author], vertex.signature, message):
            return
        missing = graph.missing(vertex)
        if not missing:
            self._accept(vertex)
            return
        self._pending.put(vertex, missing)

    def _accept(self, vertex: Vertex) -> None:
        """Add a vertex to the graph, and those that have waited for it."""
        ready = [vertex]
        while ready:
            one = ready.pop()
            if one.id in self._graph.vertices or not self._graph.fits(one):
                continue
            self._accuse(one)
            self._graph.add(one)
            if self._index is not None:
                self._unwritten.append(one)
            if one.author != self._index:
                self._uncovered[one.id] = None
            self._moved = True
            for child in self._pending.children(one.id):
                if not self._graph.missing(child):
                    ready.append(self._pending.take(child.id))

    def _accuse(self, vertex: Vertex) -> None:
        """Two vertices of one author in one round are the only offence there is."""
        others = self._graph.rounds.get(vertex.round, {}).get(vertex.author, ())
        if others and vertex.author not in self._accused:
            self._accused[vertex.author] = None
            other = self._graph.vertices[others[0]]
            key = self._validators.keys[vertex.author]
            first, second = ((VERTEX, one.id, one.signature) for one in (other, vertex))
            self._set(Accuse(Evidence(self._setup.epoch, vertex.round, key, first, second)))

    # --- what is missing ------------------------------------------------------------------------------------------------

    def _ask_parents(self, sender: PeerId, vertices: Sequence[Vertex]) -> None:
        """Pull the missing parents from who has sent their children, all of their history at once."""
        missing = [
            parent.id
            for vertex in vertices
            if vertex.id in self._pending
            for parent in self._graph.missing(vertex)
            if parent.id not in self._pending
        ]
        if missing and self._now - self._asked.get(sender, -self._setup.delta_ms) >= self._setup.delta_ms // 2:
            self._asked[sender] = self._now
            self._send(sender, Pull(tuple(dict.fromkeys(missing))[:ASKED_MAX], tuple(self._graph.highest)))

    def _pull_everything(self) -> None:
        """Ask two validators, others each time, for whatever is lacking."""
        others = [peer for peer in self._validators.peers if peer != self._setup.me]
        lacking = [name for name in self._pending.wanted if name not in self._pending]
        for _ in range(min(2, len(others))):
            self._turn += 1
            peer = others[self._turn % len(others)]
            self._send(peer, Pull(tuple(lacking[:ASKED_MAX]), tuple(self._graph.highest)))

    def _answer(self, sender: PeerId, pull: Pull) -> None:
        graph = self._graph
        pause = self._setup.delta_ms // 8
        if len(pull.have) != len(self._validators) or self._now - self._answered.get(sender, -pause) < pause:
            return
        self._answered[sender] = self._now
        asked = [one for one in pull.ids if one in graph.vertices]
        newest = [ids[0] for number in (graph.top, graph.top - 1) for _, ids in graph.in_round(number)]
        lacking = graph.lacking(asked or newest, pull.have, asked, self._deliveries.done)
        room = BUNDLE_BYTES_MAX
        bundle: list[Vertex] = []
        for vertex in lacking[:BUNDLE_MAX]:
            room -= size_of(vertex)
            if room < 0 and bundle:
                break
            bundle.append(vertex)
        if bundle:
            self._send(sender, Bundle(tuple(bundle)))

    def _stalled(self) -> None:
        """Nothing came for a while: perhaps the newest vertices were lost, one's own among them."""
        self._set(SetTimer("stall", 3 * self._setup.delta_ms))
        if not self._moved and self._own is not None:
            self._set(Broadcast(encode(NewVertex(self._own)), "proposal"))
        if not self._moved or self._blind:
            self._set(NeedHistory())
        if not self._moved or self._pending.wanted:
            self._pull_everything()
        self._moved = False

    def _synced(self, slot: int) -> None:
        """The host knows the ledger up to a slot. Too far ahead, the graph in between cannot be had any more: order nothing, until what is kept of it is here."""
        if slot > self._decided + DEPTH or (self._blind and slot > self._decided):
            was_blind, self._blind = self._blind, True
            self._decided = slot
            if self._index is not None and not was_blind:
                self._persist(AwayRecord(slot))
        self._progress()

    # --- one's own vertices ---------------------------------------------------------------------------------------------

    def _progress(self) -> None:
        """Order what is decided, and make a vertex if it is time."""
        self._deliver()
        quorum = self._graph.quorum_round
        if quorum > self._seen_quorum:
            self._seen_quorum = quorum
            self._set(SetTimer("round", 2 * self._span() + self._setup.idle_ms))
        number = quorum + 1
        if self._index is None or number <= max(self._own_round, self._decided) or self._building == number:
            return
        if number == 1 or self._due >= number or self._is_round_full(number - 1):
            self._building = number
            self._set(BuildPayload(number, None, self._graph.payload_max))

    def _is_round_full(self, before: int) -> bool:
        """Whether a round has all that the next vertex should have among its parents, so that leaders get their support in time."""
        graph = self._graph
        if not graph.leader_vertices(before):
            return False
        if graph.weight_of(before) >= self._validators.power:
            return True
        for leader in graph.leader_vertices(before - 1):
            supporters = [
                author for author, ids in graph.in_round(before) if any(graph.support[one] == leader for one in ids)
            ]
            if self._validators.weight(supporters) < self._validators.quorum:
                return False
        return True

    def _built(self, built: PayloadBuilt) -> None:
        if built.request == self._building:
            self._building = 0
        number = self._graph.quorum_round + 1
        if self._index is None or number <= max(self._own_round, self._decided):
            return
        parents = self._parents(number)
        unsigned = Vertex(self._setup.epoch, number, self._index, parents, built.payload, built.time_ms, bytes(64))
        message = signed_bytes(self._setup.chain, VERTEX, unsigned.epoch, number, unsigned.id)
        signature = self._setup.sign(message)
        vertex = Vertex(unsigned.epoch, number, self._index, parents, built.payload, built.time_ms, signature)
        self._own, self._own_round = vertex, number
        self._accept(vertex)
        self._cover([vertex.id])
        self._write_vertices()
        self._set(Broadcast(encode(NewVertex(vertex)), "proposal"))
        self._records += 1
        if self._records >= RECORDS_MAX:
            self._write_window()
        self._progress()

    def _parents(self, number: int) -> tuple[Parent, ...]:
        """One's own previous vertex, one of each author of the round before, and older ones that nothing here stands on yet."""
        vertices = self._graph.vertices
        chosen: dict[bytes, Parent] = {}
        if self._own is not None and self._own.id in vertices:
            chosen[self._own.id] = self._own.reference
        for author, ids in sorted(self._graph.in_round(number - 1)):
            if self._own is None or author != self._index:
                chosen[ids[0]] = vertices[ids[0]].reference
        self._cover(list(chosen))
        older = sorted(self._uncovered, key=lambda one: (-vertices[one].round, vertices[one].author, one))
        slots = {(one.round, one.author) for one in chosen.values()}
        weak = 0
        for name in older:
            if weak >= WEAK_MAX:
                break
            vertex = vertices[name]
            if name in self._uncovered and vertex.round < number - 1 and (vertex.round, vertex.author) not in slots:
                chosen[name] = vertex.reference
                slots.add((vertex.round, vertex.author))
                self._cover([name])
                weak += 1
        return tuple(chosen.values())

    def _cover(self, names: Sequence[bytes]) -> None:
        """Note that one's own vertices stand on these and on all below them."""
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self._covered or name not in self._graph.vertices:
                continue
            self._covered[name] = None
            self._uncovered.pop(name, None)
            pending += [parent.id for parent in self._graph.standing(self._graph.vertices[name])]

    def _span(self) -> int:
        """Δ, or more if nothing was decided for many rounds."""
        beyond = self._graph.quorum_round - self._decided - 5 - self._validators.faulty_max
        grown = self._setup.delta_ms
        for _ in range(min(max(0, beyond), 16)):
            grown = grown * 3 // 2
        return min(grown, GROWTH_MAX * self._setup.delta_ms)

    # --- ordering -------------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Order the payloads in the history of each leader's vertex that is committed, in the order of the slots."""
        if self._blind:
            self._catch_up()
        for decision in [] if self._blind else self._committer.decide(self._decided + 1):
            self._decided += 1
            if decision.vertex is not None:
                self._set(self._deliveries.order(self._decided, decision.vertex, max(1, self._decided - DEPTH)))
        if floor_at(self._decided) > self._graph.floor:
            self._forget_below(floor_at(self._decided))
            self._deliver()  # what has waited for those rounds may decide more

    def _catch_up(self) -> None:
        """See again, once the graph shows what others had ordered with the last block here, which is of a committed slot."""
        leaders = [one.vertex for one in self._committer.decide(self._decided - 2)[:3]]
        if len(leaders) == 3 and leaders[-1] is not None:
            self._deliveries.catch_up([one for one in leaders if one is not None], self._decided - DEPTH)
            self._blind = False

    # --- memory ---------------------------------------------------------------------------------------------------------

    def _forget_below(self, floor: int) -> None:
        for name in self._graph.prune(floor):
            self._deliveries.forget(name)
            for known in (self._covered, self._uncovered):
                known.pop(name, None)
        for vertex in self._pending.forget_below(floor):
            if vertex.id in self._pending and not self._graph.missing(vertex):
                self._accept(self._pending.take(vertex.id))

    def _persist(self, record: DagRecord) -> None:
        self._set(Persist(encode(record)))
        self._written.append(_highest(record))

    def _write_vertices(self) -> None:
        for record in vertex_records(self._unwritten):
            self._persist(record)
        self._unwritten.clear()

    def _write_window(self) -> None:
        """Let go of the records whose vertices are all forgotten; no vertex is written twice."""
        floor = self._graph.floor
        while self._written and self._written[0] < floor:
            self._written.popleft()
        self._persist(WindowRecord(self._decided, floor, self._own_round, (), tuple(self._deliveries.done)))
        if self._blind:
            self._persist(AwayRecord(self._decided))
        self._set(Forget(len(self._written)))
        self._records = 0

    def _recall(self, records: Sequence[bytes]) -> None:
        """Know the vertices of an earlier run again; they were checked then."""
        found: list[DagRecord] = [
            decode(data, DagRecord, what="record of the DAG")  # type: ignore[arg-type]  # a union
            for data in records
        ]
        graph = self._graph
        for record in found:
            match record:
                case WindowRecord():
                    graph.floor, self._decided, self._own_round = record.floor, record.decided, record.own_round
                    self._deliveries.done = dict.fromkeys(record.delivered)
                    self._blind = False
                case AwayRecord(slot):
                    self._blind = True
                    self._decided = max(self._decided, slot)
                    graph.floor = max(graph.floor, floor_at(self._decided))
        graph.quorum_round = graph.floor - 1
        for record in found:
            self._written.append(_highest(record))
            for vertex in _vertices_of(record):
                is_own = vertex.author == self._index and vertex.round >= self._own_round
                if is_own:
                    self._own_round = vertex.round
                if vertex.round >= graph.floor:
                    self._accept(vertex)
                    if is_own:
                        self._own = vertex
                        self._cover([vertex.id])
        self._unwritten.clear()

    # --- small things ---------------------------------------------------------------------------------------------------

    def _send(self, to: PeerId, message: Pull | Bundle) -> None:
        self._set(Send(to, encode(message), "sync"))

    def _set(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _taken(self) -> Sequence[Effect]:
        effects, self._effects = self._effects, []
        return effects


def floor_at(decided: int) -> int:
    """The first round that is kept once so many slots are decided."""
    return max(1, (decided - DEPTH) // SLACK * SLACK)


def _vertices_of(record: DagRecord) -> Sequence[Vertex]:
    return () if isinstance(record, AwayRecord) else record.vertices


def _highest(record: DagRecord) -> int:
    """The highest round of the vertices in a record; 0 if there are none."""
    return max((one.round for one in _vertices_of(record)), default=0)
