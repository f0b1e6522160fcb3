"""Contents for the tests, the same in every run."""

from __future__ import annotations

from fluvial.blobs.tree import BlobTree, ChunkHasher


def pattern(size: int) -> bytes:
    """Bytes that no two chunks have in common: byte i is ``(i mod 251) xor (i div 65,536 mod 256)``."""
    cycle = bytes(range(251)) * (65_536 // 251 + 2)
    out = bytearray()
    for begin in range(0, size, 65_536):
        piece = cycle[begin % 251 :][: min(65_536, size - begin)]
        out += piece.translate(bytes(value ^ (begin // 65_536 & 255) for value in range(256)))
    return bytes(out)


def tree_of(content: bytes) -> BlobTree:
    """The tree of a content."""
    hasher = ChunkHasher()
    hasher.update(content)
    return hasher.tree()
