"""Three of four validators that keep to the rules, in virtual time, and what the fourth says to each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fluvial.consensus.effects import Broadcast, BuildPayload, CancelTimer, Effect, Order, Send, SetTimer
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, TimerFired
from fluvial.encoding import encode
from fluvial_consensus_dag.messages import NewVertex, Parent, Vertex

from tests.plugins.consensus_dag.test_pulls import PEERS, follower

LIAR = 3


class HonestNetwork:
    """Validators 0, 1 and 2; nothing is lost, and messages arrive in the order in which they are sent.

    Attributes:
        engines: by index.
        orders: of each, the references of what it has ordered.
    """

    def __init__(self) -> None:
        self.engines = {index: follower(PEERS[index]) for index in range(3)}
        self.orders: dict[int, list[tuple[int, bytes, tuple[bytes, ...]]]] = {index: [] for index in range(3)}
        self._queue: deque[tuple[int, int, bytes]] = deque()
        self._timers: dict[tuple[int, str], int] = {}
        self._now = 0
        self._made = 0
        for index, engine in self.engines.items():
            self._act(index, engine.start([], 0))

    def says(self, vertex: Vertex, *to: int) -> None:
        """The fourth sends a vertex to some of them."""
        for index in to or self.engines:
            self._happens(index, MessageReceived(PEERS[LIAR], encode(NewVertex(vertex))))

    def run(self, rounds: int, *, steps_max: int = 20_000) -> int:
        """Go on until all are so many rounds further, or nothing leads there; how far the slowest has come."""
        goal = self.round + rounds
        for _ in range(steps_max):
            if self.round >= goal:
                break
            if self._queue:
                to, sender, data = self._queue.popleft()
                self._happens(to, MessageReceived(PEERS[sender], data))
            else:
                (index, name), self._now = min(self._timers.items(), key=lambda item: item[1])
                del self._timers[index, name]
                self._happens(index, TimerFired(name))
        return self.round

    @property
    def round(self) -> int:
        """How far the slowest is."""
        return min(engine.inspect()["view"] for engine in self.engines.values())

    @property
    def floors(self) -> list[int]:
        """The first round that each of them keeps."""
        return [engine._graph.floor for engine in self.engines.values()]

    def vertex(self, number: int, *more: Parent, as_known_by: int = 0) -> Vertex:
        """A vertex of the fourth, which stands on those of the others in the round before, as one of them knows them, and on more."""
        graph = self.engines[as_known_by]._graph
        before = [graph.vertices[ids[0]].reference for author, ids in graph.in_round(number - 1) if author != LIAR]
        return Vertex(0, number, LIAR, (*before, *more), b"", 0, bytes(64))

    def _happens(self, index: int, event: Event) -> None:
        self._act(index, self.engines[index].handle(event, self._now))

    def _act(self, index: int, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Broadcast(data):
                    self._queue += ((to, index, data) for to in self.engines if to != index)
                case Send(to, data):
                    if PEERS.index(to) in self.engines:
                        self._queue.append((PEERS.index(to), index, data))
                case BuildPayload(request):
                    self._made += 1
                    self._happens(index, PayloadBuilt(request, self._made.to_bytes(4, "big"), b"", self._now))
                case SetTimer(name, after_ms):
                    self._timers[index, name] = self._now + after_ms
                case CancelTimer(name):
                    self._timers.pop((index, name), None)
                case Order(slot, reference=reference, payloads=payloads):
                    self.orders[index].append((slot, reference, tuple(payloads)))
                case _:
                    pass
