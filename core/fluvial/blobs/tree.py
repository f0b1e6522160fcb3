"""The tree of a blob: how a content is cut into chunks, and how nodes over them lead to its id. Pure.

A content of at most :data:`CHUNK_BYTES` is one *leaf*, and its id is the leaf's hash. A larger one is cut into leaves of that size, the last
one shorter; each run of :data:`LINKS_MAX` leaves has a *node* above it, each run of that many nodes another one, up to a single
*root*, whose hash is the id. All leaves have the same depth. Leaves and nodes are the *blocks* of the blob; they are numbered from the
root down, each level from left to right::

    0                  root, depth 2
    1 2                nodes, depth 1
    3 4 5 … 176 177    leaves, depth 0

So the size of a content determines the whole shape: how many blocks there are, how many bytes each one has, and all bytes of a node but
the digests of its children. :class:`Tree` relies on that. It takes blocks in any order in which a parent comes before its children, checks each
alone, and accepts nothing but the one tree that has the blob's id. Cycles, endless trees and false sizes cannot be expressed.

Source: kubo ``ipfs add --cid-version 1 --raw-leaves`` (chunker ``size-262144``, balanced layout, 174 links); dag-pb specification (links
before data, each with hash, empty name, cumulative size); UnixFS specification (type file, file size, block sizes).

Deviation: trees of another shape (other chunk sizes, other layouts) are refused, though kubo reads them. Here one content has one id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from fluvial.blob_id import DIGEST_BYTES, BlobId
from fluvial.errors import RemoteProtocolError, ResourceLimit

CHUNK_BYTES: Final = 262_144
LINKS_MAX: Final = 174
DEPTH_MAX: Final = 4
SIZE_MAX: Final = CHUNK_BYTES * LINKS_MAX**DEPTH_MAX
"""The largest content, 240 TB; deeper trees are refused before anything is computed about them."""

NODE_BYTES_MAX: Final = 16_384
"""No node is larger: a link takes at most 53 bytes, its block size at most 8."""

_HASH: Final = b"\x0a\x24"
_CODECS: Final = (bytes.fromhex("01551220"), bytes.fromhex("01701220"))
_NAME: Final = b"\x12\x00"
_FILE: Final = b"\x08\x02"


def digest_of(block: bytes) -> bytes:
    """The SHA-256 digest of a block, 32 bytes."""
    return hashlib.sha256(block).digest()


@dataclass(frozen=True, slots=True)
class Layout:
    """The shape that follows from a content's size.

    Attributes:
        size: of the content, in bytes; at most :data:`SIZE_MAX`.
    """

    size: int

    @property
    def depth(self) -> int:
        """How many levels of nodes there are; 0 if the only block is a leaf."""
        return _depth(self.size)

    @property
    def chunks(self) -> int:
        """How many leaves there are; an empty content has one."""
        return self.width(0)

    @property
    def nodes(self) -> int:
        """How many nodes there are, which is also the number of the first leaf."""
        return self.first(0)

    @property
    def tree_bytes(self) -> int:
        """What all nodes together have."""
        return _cumulative(self.depth, self.size) - self.size

    def width(self, depth: int) -> int:
        """How many blocks have this depth."""
        return max(1, -(-self.size // _capacity(depth)))

    def first(self, depth: int) -> int:
        """The number of the leftmost block of a depth."""
        return sum(self.width(above) for above in range(depth + 1, self.depth + 1))

    def place(self, number: int) -> tuple[int, int]:
        """Depth and place within its level of a block.

        Raises:
            ValueError: there is no such block.
        """
        place = number
        for depth in range(self.depth, -1, -1):
            width = self.width(depth)
            if 0 <= place < width:
                return depth, place
            place -= width
        raise ValueError(f"a blob of {self.size:,} bytes has no block {number}")

    def below(self, number: int) -> int:
        """How many bytes of the content are below a block, or in it if it is a leaf."""
        depth, place = self.place(number)
        return min(_capacity(depth), self.size - place * _capacity(depth))

    def children(self, number: int) -> range:
        """The numbers of a node's children; none for a leaf."""
        depth, place = self.place(number)
        if depth == 0:
            return range(0)
        first, begin = self.first(depth - 1), place * LINKS_MAX
        return range(first + begin, first + min(begin + LINKS_MAX, self.width(depth - 1)))

    def block_bytes(self, number: int) -> int:
        """How many bytes a block has."""
        depth, _ = self.place(number)
        return _node_bytes(depth, self.below(number)) if depth else self.below(number)

    def offset(self, number: int) -> int:
        """Where a block begins: a leaf in the content, a node in all nodes concatenated."""
        depth, place = self.place(number)
        if depth == 0:
            return place * CHUNK_BYTES
        above = sum(self._level_bytes(upper) for upper in range(depth + 1, self.depth + 1))
        return above + place * _node_bytes(depth, _capacity(depth))

    def _level_bytes(self, depth: int) -> int:
        last = self.first(depth) + self.width(depth) - 1
        return (self.width(depth) - 1) * _node_bytes(depth, _capacity(depth)) + self.block_bytes(last)


class Tree:
    """The blocks of one blob as far as they are known; whoever calls keeps the leaves.

    Args:
        blob: the id.
        size_max: the largest content, in bytes, of which blocks are taken; may be changed until the root is known.

    Attributes:
        layout: the shape; None until the root is known.
    """

    def __init__(self, blob: BlobId, *, size_max: int = SIZE_MAX) -> None:
        self.blob: Final = blob
        self.size_max = size_max
        self.layout: Layout | None = None
        self._digests = bytearray(blob.digest)
        self._nodes: dict[int, bytes] = {}

    @classmethod
    def of_chunks(cls, size: int, digests: Sequence[bytes]) -> Tree:
        """The tree over a content whose chunks have these digests."""
        layout = Layout(size)
        levels = [list(digests)]
        nodes: list[list[bytes]] = []
        for depth in range(1, layout.depth + 1):
            below = levels[-1]
            first = layout.first(depth)
            nodes.append(
                [
                    _encode(depth, layout.below(first + place), below[place * LINKS_MAX : (place + 1) * LINKS_MAX])
                    for place in range(layout.width(depth))
                ]
            )
            levels.append([digest_of(node) for node in nodes[-1]])
        root = levels[-1][0]
        tree = cls(BlobId.of_node(root) if layout.depth else BlobId.of_leaf(root))
        if layout.depth:
            for number, node in enumerate(node for level in reversed(nodes) for node in level):
                tree.take_node(number, node)
        else:
            tree.layout = layout
        return tree

    @classmethod
    def parse(cls, blob: BlobId, nodes: bytes) -> Tree:
        """The tree of a blob from all its nodes, concatenated as :attr:`nodes` has them.

        Raises:
            RemoteProtocolError: they are not the nodes of this blob.
        """
        tree = cls(blob)
        layout = Layout(_file_size(nodes))
        if len(nodes) != layout.tree_bytes:
            raise RemoteProtocolError(f"the nodes of {blob} have {len(nodes):,} bytes, not {layout.tree_bytes:,}")
        for number in range(layout.nodes):
            begin = layout.offset(number)
            node = nodes[begin : begin + layout.block_bytes(number)]
            if not tree.is_block(number, node):
                raise RemoteProtocolError(f"these {len(node):,} bytes are not block {number} of {blob}")
            tree.take_node(number, node)
        return tree

    @property
    def nodes(self) -> bytes:
        """All nodes, concatenated in the order of their numbers; all must be known."""
        assert self.layout is not None, "the root is not known yet"
        return b"".join(self._nodes[number] for number in range(self.layout.nodes))

    def take_content(self, content: bytes) -> None:
        """The content of a blob that is a single leaf, for which :meth:`is_block` holds.

        Raises:
            ResourceLimit: it is larger than what is taken.
        """
        self.layout = self._shape(len(content))

    def take_node(self, number: int, block: bytes) -> None:
        """A node for which :meth:`is_block` holds; its parent must be known.

        Raises:
            RemoteProtocolError: whoever made the blob did not lay it out as it must be.
            ResourceLimit: it is the root of a content that is larger than what is taken.
        """
        if number == 0:
            layout = self._shape(_file_size(block))
            digests = _decode(layout.depth, layout.size, block)
            self._digests += bytes(DIGEST_BYTES * (layout.nodes + layout.chunks - 1))
            self.layout = layout
        else:
            assert self.layout is not None
            depth, _ = self.layout.place(number)
            digests = _decode(depth, self.layout.below(number), block)
        children = self.layout.children(number)
        self._digests[children.start * DIGEST_BYTES : children.stop * DIGEST_BYTES] = b"".join(digests)
        self._nodes[number] = block

    def is_block(self, number: int, block: bytes) -> bool:
        """Whether these are the bytes of a block whose parent is known. Safe in any thread.

        Raises:
            RemoteProtocolError: they are, but no block of this number may have so many; whoever made the blob did not lay it out as it must be.
        """
        digest = self._digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        if digest_of(block) != digest:
            return False
        length = CHUNK_BYTES if self.layout is None else self.layout.block_bytes(number)
        if len(block) > length or (self.layout is not None and len(block) < length):
            raise RemoteProtocolError(f"block {number} of {self.blob} has {len(block):,} bytes, not {length:,}")
        return True

    def _shape(self, size: int) -> Layout:
        """The layout of a content, before anything is allocated for it."""
        if size > self.size_max:
            raise ResourceLimit(f"the blob {self.blob} has {size:,} bytes; at most {self.size_max:,} are taken")
        return Layout(size)


def root_layout(blob: BlobId, begin: bytes) -> Layout:
    """The layout of a blob from its root node.

    Args:
        blob: the id; not one of a single leaf.
        begin: the root, and whatever follows it in :attr:`Tree.nodes`.

    Raises:
        RemoteProtocolError: it does not begin with the root of this blob.
    """
    layout = Layout(_file_size(begin))
    root = begin[: layout.block_bytes(0)]
    if digest_of(root) != blob.digest:
        raise RemoteProtocolError(f"these {len(root):,} bytes are not the root of {blob}")
    _decode(layout.depth, layout.size, root)
    return layout


class ChunkHasher:
    """Computes the tree of a content that comes in pieces of any size."""

    def __init__(self) -> None:
        self.size = 0
        self._digests: list[bytes] = []
        self._chunk = hashlib.sha256()

    def update(self, data: bytes) -> None:
        """The next bytes of the content."""
        view = memoryview(data)
        while view:
            room = CHUNK_BYTES - self.size % CHUNK_BYTES
            piece, view = view[:room], view[room:]
            self._chunk.update(piece)
            self.size += len(piece)
            if self.size % CHUNK_BYTES == 0:
                self._end_chunk()

    def tree(self) -> Tree:
        """The tree of everything that came; nothing can be added afterwards."""
        if self.size % CHUNK_BYTES or not self._digests:
            self._end_chunk()
        return Tree.of_chunks(self.size, self._digests)

    def _end_chunk(self) -> None:
        self._digests.append(self._chunk.digest())
        self._chunk = hashlib.sha256()


# --- the shape of a node, which its depth and the size below it determine ------------------------------------------------------


def _capacity(depth: int) -> int:
    """The most bytes of content below a block."""
    most: int = CHUNK_BYTES * LINKS_MAX**depth
    return most


def _depth(size: int) -> int:
    depth = 0
    while _capacity(depth) < size:
        depth += 1
    return depth


def _sizes(depth: int, size: int) -> list[int]:
    """How many bytes are below each child of a node."""
    bounds = [*range(0, size, _capacity(depth - 1)), size]
    return [end - begin for begin, end in pairwise(bounds)]


@lru_cache(maxsize=1024)
def _cumulative(depth: int, size: int) -> int:
    """The bytes of a block and of all below it."""
    if depth == 0:
        return size
    return _node_bytes(depth, size) + sum(_cumulative(depth - 1, below) for below in _sizes(depth, size))


@lru_cache(maxsize=1024)
def _node_bytes(depth: int, size: int) -> int:
    parts = _frame(depth, size)
    return sum(map(len, parts)) + (len(parts) - 1) * DIGEST_BYTES


@lru_cache(maxsize=64)
def _frame(depth: int, size: int) -> tuple[bytes, ...]:
    """What stands in a node before, between and behind the digests of its children."""
    sizes = _sizes(depth, size)
    parts = [b""]
    for below in sizes:
        tail = _NAME + b"\x18" + _varint(_cumulative(depth - 1, below))
        link = _HASH + _CODECS[min(depth - 1, 1)]
        parts[-1] += b"\x12" + _varint(len(link) + DIGEST_BYTES + len(tail)) + link
        parts.append(tail)
    data = _FILE + b"\x18" + _varint(size) + b"".join(b"\x20" + _varint(below) for below in sizes)
    parts[-1] += b"\x0a" + _varint(len(data)) + data
    return tuple(parts)


def _encode(depth: int, size: int, digests: Sequence[bytes]) -> bytes:
    head, *tails = _frame(depth, size)
    return head + b"".join(digest + tail for digest, tail in zip(digests, tails, strict=True))


def _decode(depth: int, size: int, node: bytes) -> list[bytes]:
    """The digests in a node; raises RemoteProtocolError if the rest is not as it must be."""
    digests = []
    at = 0
    frame = _frame(depth, size)
    for part in frame[:-1]:
        at += len(part)
        digests.append(node[at : at + DIGEST_BYTES])
        at += DIGEST_BYTES
    if len(node) != at + len(frame[-1]) or _encode(depth, size, digests) != node:
        raise RemoteProtocolError(
            f"a node over {size:,} bytes is not laid out as in a blob with chunks of {CHUNK_BYTES:,} bytes"
        )
    return digests


def _file_size(node: bytes) -> int:
    """The size of the content that a root claims; the rest of it is not checked.

    Raises:
        RemoteProtocolError: it claims none, or one that needs no root or that is too large.
    """
    size = 0
    fields = _Fields(node[:NODE_BYTES_MAX])
    for field, value in fields:
        if field == 1 and isinstance(value, bytes):  # the data stand behind the links
            size = next((number for inner, number in _Fields(value) if inner == 3 and isinstance(number, int)), 0)
            break
    if not CHUNK_BYTES < size <= SIZE_MAX:
        raise RemoteProtocolError(f"a root claims a content of {size:,} bytes, which no tree has")
    return size


class _Fields:
    """The fields of a protobuf message, as far as they can be read: varints as int, length-delimited ones as bytes."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0

    def __iter__(self) -> Iterator[tuple[int, int | bytes]]:
        while self._at < len(self._message):
            key = self._varint()
            if key & 7 == 0:
                yield key >> 3, self._varint()
            elif key & 7 == 2:
                length = self._varint()
                begin, self._at = self._at, self._at + length
                yield key >> 3, self._message[begin : self._at]
            else:
                return

    def _varint(self) -> int:
        value = 0
        for count, byte in enumerate(self._message[self._at : self._at + 10]):
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                self._at += count + 1
                return value
        raise RemoteProtocolError("a node of a blob ends within a number")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
