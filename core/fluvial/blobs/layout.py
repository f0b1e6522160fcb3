"""The shape of a blob's tree, which follows from the content's size alone, and the bytes of its nodes. Pure.

A content of at most :data:`CHUNK_BYTES` is one *leaf*, and its id is the leaf's hash. A larger one is cut into leaves of that size, the last
one shorter; each run of :data:`LINKS_MAX` leaves has a *node* above it, each run of that many nodes another one, up to a single
*root*, whose hash is the id. All leaves have the same depth. Leaves and nodes are the *blocks* of the blob; they are numbered from the
root down, each level from left to right::

    0                  root, depth 2
    1 2                nodes, depth 1
    3 4 5 … 176 177    leaves, depth 0

So the size of a content determines how many blocks there are, how many bytes each one has, and all bytes of a node except the digests of its children.

Source: kubo ``ipfs add --cid-version 1 --raw-leaves`` (chunker ``size-262144``, balanced layout, 174 links); dag-pb specification (links
before data, each with hash, empty name, cumulative size); UnixFS specification (type file, file size, block sizes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from fluvial.blob_id import DIGEST_BYTES
from fluvial.errors import RemoteProtocolError

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


class Layout(msgspec.Struct, frozen=True):
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


def encode_node(depth: int, size: int, digests: Sequence[bytes]) -> bytes:
    """A node.

    Args:
        depth: its depth, at least 1.
        size: the bytes of content below it.
        digests: of its children, as many as the size asks for.
    """
    head, *tails = _frame(depth, size)
    return head + b"".join(digest + tail for digest, tail in zip(digests, tails, strict=True))


def decode_node(depth: int, size: int, node: bytes) -> list[bytes]:
    """The digests of the children in a node, for which depth and size below it are known.

    Raises:
        RemoteProtocolError: the rest of it is not as it must be.
    """
    digests = []
    at = 0
    frame = _frame(depth, size)
    for part in frame[:-1]:
        at += len(part)
        digests.append(node[at : at + DIGEST_BYTES])
        at += DIGEST_BYTES
    if len(node) != at + len(frame[-1]) or encode_node(depth, size, digests) != node:
        raise RemoteProtocolError(
            f"a node over {size:,} bytes is not laid out as in a blob with chunks of {CHUNK_BYTES:,} bytes"
        )
    return digests


def claimed_size(node: bytes) -> int:
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
