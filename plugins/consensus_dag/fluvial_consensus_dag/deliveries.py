"""What of the graph was ordered, and what a committed leader's vertex orders next.

Whoever has the graph can tell what others have ordered up to a slot, without having seen them do it: with the leader of a slot that is committed all its
history is ordered, and every leader that was committed three slots earlier or more lies in it. A quorum of authors has made certificates for that one, or an
anchor between has one in its history, and every vertex three rounds later stands on a quorum of authors.
"""

from __future__ import annotations

from collections.abc import Iterable

from fluvial.consensus.effects import Order

from fluvial_consensus_dag.graph import Graph
from fluvial_consensus_dag.messages import Vertex


class Deliveries:
    """See the module's docstring.

    Args:
        graph: the accepted vertices.

    Attributes:
        done: the vertices that were ordered, of the rounds that are kept.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.done: dict[bytes, None] = {}

    def order(self, slot: int, name: bytes, floor: int) -> Order:
        """What a leader's vertex orders that is committed.

        Args:
            slot: the leader's.
            name: of the vertex.
            floor: the first round of which something may be ordered.
        """
        leader = self._graph.vertices[name]
        fresh = [one for one in self._history_of(name, floor) if one.payload]
        return Order(
            slot=slot,
            proposer=leader.author,
            time_ms=self.time_of(leader),
            payloads=tuple(one.payload for one in fresh),
            reference=name,
            authors=tuple(one.author for one in fresh),
        )

    def catch_up(self, leaders: Iterable[bytes], floor: int) -> None:
        """Know what others have ordered, from a round on.

        Args:
            leaders: the vertices that are committed in a committed slot and in the two before it.
            floor: the round.
        """
        self.done.clear()
        for leader in leaders:
            self._history_of(leader, floor)

    def forget(self, name: bytes) -> None:
        """A vertex is not kept any more."""
        self.done.pop(name, None)

    def _history_of(self, name: bytes, floor: int) -> list[Vertex]:
        """What a leader's vertex stands on and was not ordered before; it is from now on."""
        found = []
        pending = [name]
        while pending:
            current = pending.pop()
            vertex = self._graph.vertices.get(current)
            if vertex is None or current in self.done or vertex.round < floor:
                continue
            self.done[current] = None
            found.append(vertex)
            pending += [parent.id for parent in vertex.parents if parent.round >= floor]
        return sorted(found, key=lambda one: (one.round, one.author, one.id))

    def time_of(self, leader: Vertex) -> int:
        """The lower median of the clocks of a leader's parents, by power: it lies between those of correct validators, whatever the others say."""
        parents = [one for one in leader.parents if one.round == leader.round - 1 and one.id in self._graph.vertices]
        times = sorted((self._graph.vertices[one.id].time_ms, one.author) for one in parents)
        half = (self._graph.power_of(author for _, author in times) + 1) // 2
        for time_ms, author in times:
            half -= self._graph.power_of([author])
            if half <= 0:
                return time_ms
        return 0
