"""The tree of a blob: from a content to its id, and from an id to the blocks that may belong to it. Pure.

The shape of every tree is known (``fluvial.blobs.layout``). :class:`BlobTree` relies on that. It takes blocks in any order in which a parent comes
before its children, checks each alone, and accepts nothing but the one tree that has the blob's id. Cycles, endless trees and false sizes
cannot be expressed.

Deviation: trees of another shape (other chunk sizes, other layouts) are refused, though kubo reads them. Here one content has one id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from fluvial.blob_id import DIGEST_BYTES, BlobId
from fluvial.blobs.layout import (
    CHUNK_BYTES,
    LINKS_MAX,
    SIZE_MAX,
    Layout,
    claimed_size,
    decode_node,
    encode_node,
)
from fluvial.errors import RemoteProtocolError, ResourceLimit


def digest_of(block: bytes) -> bytes:
    """The SHA-256 digest of a block, 32 bytes."""
    return hashlib.sha256(block).digest()


class BlobTree:
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
    def of_chunks(cls, size: int, digests: Sequence[bytes]) -> BlobTree:
        """The tree over a content whose chunks have these digests."""
        layout = Layout(size)
        levels = [list(digests)]
        nodes: list[list[bytes]] = []
        for depth in range(1, layout.depth + 1):
            below = levels[-1]
            first = layout.first(depth)
            nodes.append(
                [
                    encode_node(depth, layout.below(first + place), below[place * LINKS_MAX : (place + 1) * LINKS_MAX])
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
    def parse(cls, blob: BlobId, nodes: bytes) -> BlobTree:
        """The tree of a blob from all its nodes, concatenated as :attr:`nodes` has them.

        Raises:
            RemoteProtocolError: they are not the nodes of this blob.
        """
        tree = cls(blob)
        layout = Layout(claimed_size(nodes))
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
            layout = self._shape(claimed_size(block))
            digests = decode_node(layout.depth, layout.size, block)
            self._digests += bytes(DIGEST_BYTES * (layout.nodes + layout.chunks - 1))
            self.layout = layout
        else:
            assert self.layout is not None
            depth, _ = self.layout.place(number)
            digests = decode_node(depth, self.layout.below(number), block)
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
        begin: the root, and whatever follows it in :attr:`BlobTree.nodes`.

    Raises:
        RemoteProtocolError: it does not begin with the root of this blob.
    """
    layout = Layout(claimed_size(begin))
    root = begin[: layout.block_bytes(0)]
    if digest_of(root) != blob.digest:
        raise RemoteProtocolError(f"these {len(root):,} bytes are not the root of {blob}")
    decode_node(layout.depth, layout.size, root)
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

    def tree(self) -> BlobTree:
        """The tree of everything that came; nothing can be added afterwards."""
        if self.size % CHUNK_BYTES or not self._digests:
            self._end_chunk()
        return BlobTree.of_chunks(self.size, self._digests)

    def _end_chunk(self) -> None:
        self._digests.append(self._chunk.digest())
        self._chunk = hashlib.sha256()
