"""Vertices that wait for their parents: bounded in bytes and in number for each author, so that one who lies takes the room of nobody else.

What was dropped is pulled again, oldest first: a vertex that comes after its parents never waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX

from fluvial_consensus_dag.messages import Parent, Vertex

PENDING_BYTES_MAX: Final = 64 << 20
"""Of all authors together, if each has its part."""
PART_BYTES_MIN: Final = 2 * PAYLOAD_BYTES_MAX
"""Of one author, however many there are."""
PENDING_MAX: Final = 4_096
"""Vertices of all authors together, if each has its part."""
PART_MIN: Final = 64
"""Vertices of one author, however many there are."""
VERTEX_BYTES: Final = 800
PARENT_BYTES: Final = 320
"""What a vertex and each of its parents take in memory, with what is noted of who waits for it; measured: 600, and 305."""


def weight_of(vertex: Vertex) -> int:
    """What a vertex that waits takes in memory."""
    return VERTEX_BYTES + len(vertex.payload) + PARENT_BYTES * len(vertex.parents)


class PendingVertices:
    """See the module's docstring.

    Args:
        authors: how many there are.
    """

    def __init__(self, authors: int) -> None:
        self._part: Final = max(PENDING_BYTES_MAX // authors, PART_BYTES_MIN)
        self._part_count: Final = max(PENDING_MAX // authors, PART_MIN)
        self._vertices: dict[bytes, Vertex] = {}
        self._children: dict[bytes, list[bytes]] = {}
        self._names: dict[int, dict[bytes, None]] = {}
        self._bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._vertices)

    def __contains__(self, name: bytes) -> bool:
        return name in self._vertices

    @property
    def wanted(self) -> dict[bytes, list[bytes]]:
        """The parents that are waited for, each with those that wait for it."""
        return self._children

    def put(self, vertex: Vertex, missing: Sequence[Parent]) -> bool:
        """Let a vertex wait for its parents; of an author who has no room, those of the highest rounds go, perhaps this one."""
        weight = weight_of(vertex)
        mine = self._names.setdefault(vertex.author, {})
        while self._bytes.get(vertex.author, 0) + weight > self._part or len(mine) >= self._part_count:
            highest = max(mine, key=lambda one: self._vertices[one].round, default=None)
            if highest is None or self._vertices[highest].round <= vertex.round:
                return False
            self.drop(highest)
        mine[vertex.id] = None
        self._vertices[vertex.id] = vertex
        self._bytes[vertex.author] = self._bytes.get(vertex.author, 0) + weight
        for parent in missing:
            self._children.setdefault(parent.id, []).append(vertex.id)
        return True

    def children(self, parent: bytes) -> Sequence[Vertex]:
        """Those that have waited for a parent, which has come; they stay until they are taken."""
        return [self._vertices[one] for one in self._children.pop(parent, ()) if one in self._vertices]

    def take(self, name: bytes) -> Vertex:
        """A vertex, which waits no more."""
        vertex = self._vertices.pop(name)
        del self._names[vertex.author][name]
        self._bytes[vertex.author] -= weight_of(vertex)
        return vertex

    def drop(self, name: bytes) -> None:
        """Forget a vertex, and for what it waited."""
        self._stop_waiting(name, self.take(name).parents)

    def forget_below(self, floor: int) -> Sequence[Vertex]:
        """Forget the vertices of rounds that are over; nothing of those rounds is waited for any more. Returns those that have waited for that."""
        for name in [one for one, vertex in self._vertices.items() if vertex.round < floor]:
            self.drop(name)
        found: list[Vertex] = []
        for vertex in self._vertices.values():
            over = [one for one in vertex.parents if one.round < floor]
            if self._stop_waiting(vertex.id, over):
                found.append(vertex)
        return found

    def _stop_waiting(self, name: bytes, parents: Iterable[Parent]) -> bool:
        """A vertex does not wait for some parents any more; returns whether it has waited for one of them."""
        waited = False
        for parent in parents:
            waiting = self._children.get(parent.id)
            if waiting is not None and name in waiting:
                waited = True
                waiting.remove(name)
                if not waiting:
                    del self._children[parent.id]
        return waited
