"""Snapshots: a state in chunks, each of which is verified alone against the state root.

A chunk is a whole subtree: all keys whose places begin with the same bits, and the hashes beside the way from the root down to it. Who asks names the place
from which on it lacks keys; the answer must be a subtree that begins there. So nobody can leave a key out unseen, chunks may come from several peers, a
liar is known by its first chunk, and who answers keeps nothing between two questions and looks at no more leaves than one chunk holds.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final

import msgspec

from fluvial.errors import RemoteProtocolError
from fluvial.ledger.state import State
from fluvial.ledger.tree import (
    DEPTH_MAX,
    Branch,
    Node,
    TreeLeaf,
    bit_of,
    folded,
    hash_of,
    joined,
    subtree_of,
)

CHUNK_BYTES_MAX: Final = 40_000
"""Keys and values of a chunk with more than one key; with its hashes and framing it stays below what each peer takes in a message."""
LEAVES_MAX: Final = 4_096
VALUE_BYTES_MAX: Final = 1 << 20
_PLACES: Final = 1 << DEPTH_MAX


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True):
    """A subtree with the way to it.

    Attributes:
        start: the first place that belongs to the subtree, 32 bytes.
        siblings: the hashes beside the way, from the root down; as many as the bits that the subtree's places have in common.
        leaves: (module, key, value), in the order of their places.
    """

    start: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    siblings: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=DEPTH_MAX)]
    leaves: Annotated[
        tuple[tuple[str, bytes, Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)]], ...],
        msgspec.Meta(max_length=LEAVES_MAX),
    ]


def chunk_at(state: State, start: bytes, *, bytes_max: int = CHUNK_BYTES_MAX) -> SnapshotChunk:
    """The largest subtree that begins at a place and fits into a chunk.

    Args:
        state: a snapshot.
        start: 32 bytes: zeros for the first chunk, then what :meth:`StateAssembly.missing` says.
        bytes_max: of keys and values; a single key may need more.

    Raises:
        RemoteProtocolError: no subtree begins there.
    """
    way: list[tuple[Node, bytes]] = [(state.tree, b"")]
    node = state.tree
    while isinstance(node, Branch):
        right = bit_of(start, len(way) - 1)
        beside, node = (node.left, node.right) if right else (node.right, node.left)
        way.append((node, hash_of(beside)))
    depth = len(way) - 1
    if not _begins(start, depth):
        raise RemoteProtocolError("no subtree of this state begins at that place")
    leaves = _leaves(node, bytes_max, alone=True) or []
    while depth and _begins(start, depth - 1):
        larger = _leaves(way[depth - 1][0], bytes_max, alone=False)
        if larger is None:
            break
        depth, leaves = depth - 1, larger
    siblings = tuple(beside for _, beside in way[1 : depth + 1])
    return SnapshotChunk(start, siblings, tuple((one.module, one.key, one.value) for one in leaves))


class StateAssembly:
    """A state that is put together from chunks. Each costs its own leaves alone, so that a large state stalls nobody.

    Args:
        root: of the state, from a block that was proven final.
    """

    def __init__(self, root: bytes) -> None:
        self._root: Final = root
        self._whole: list[tuple[int, Node]] = []  # (depth, subtree), from left to right; siblings are joined at once
        self._at = 0

    @property
    def missing(self) -> bytes | None:
        """The place from which on keys are missing; None if the state is whole."""
        return None if self._at >= _PLACES else self._at.to_bytes(32, "big")

    @property
    def state(self) -> State:
        """The state, once nothing is missing."""
        assert self.missing is None, "chunks are missing"
        return State(self._whole[0][1])

    def add(self, chunk: SnapshotChunk) -> None:
        """Take the next chunk.

        Raises:
            RemoteProtocolError: it does not begin where keys are missing, or is not part of this state.
        """
        depth = len(chunk.siblings)
        if chunk.start != self.missing or not _begins(chunk.start, depth):
            raise RemoteProtocolError("this chunk does not begin where keys are missing")
        leaves = [TreeLeaf(module, key, value) for module, key, value in chunk.leaves]
        # With a part of its key a module's name could have the place of another one's.
        if any("\0" in one.module for one in leaves):
            raise RemoteProtocolError("no module of the ledger has such a name")
        places = [one.place for one in leaves]
        inside = all(
            int.from_bytes(one, "big") >> (DEPTH_MAX - depth) == self._at >> (DEPTH_MAX - depth) for one in places
        )
        if not inside or any(before >= after for before, after in pairwise(places)):
            raise RemoteProtocolError("keys of this chunk are not in their places")
        subtree = subtree_of(leaves, depth)
        if any(len(one) != 32 for one in chunk.siblings) or folded(subtree, chunk.start, chunk.siblings) != self._root:
            raise RemoteProtocolError("this chunk is not part of the state")
        self._put(depth, subtree)
        self.skip(chunk)

    def _put(self, depth: int, node: Node) -> None:
        """Keep the next subtree, joined with what stands on its left as far as both are halves of one."""
        index = self._at >> (DEPTH_MAX - depth)
        while index & 1:
            node = joined(self._whole.pop()[1], node)
            index, depth = index >> 1, depth - 1
        self._whole.append((depth, node))

    def skip(self, chunk: SnapshotChunk) -> None:
        """Go on behind a chunk without taking it, for who hands chunks out."""
        self._at += 1 << (DEPTH_MAX - len(chunk.siblings))


def _begins(start: bytes, depth: int) -> bool:
    """Whether a place is the first one of its subtree at a depth: all further bits are 0."""
    return int.from_bytes(start, "big") & ((1 << (DEPTH_MAX - depth)) - 1) == 0


def _leaves(node: Node, bytes_max: int, *, alone: bool) -> list[TreeLeaf] | None:
    """The leaves of a subtree in order; None if they do not fit. No more are looked at than fit."""
    found: list[TreeLeaf] = []
    size = 0
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, Branch):
            pending += [one.right, one.left]
        elif one is not None:
            size += len(one.module) + len(one.key) + len(one.value) + 12
            found.append(one)
            if (size > bytes_max or len(found) > LEAVES_MAX) and not (alone and len(found) == 1):
                return None
    return found
