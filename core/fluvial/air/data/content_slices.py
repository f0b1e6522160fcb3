"""Content ids of large values, computed in slices: an array of a hundred thousand numbers takes a tenth of a second, and nothing else is done meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

from fluvial.air.data.content import ContentId, Json, content_id, is_surely_large, node_id

HASHES: Final = 2_000
"""Hashes of a slice: one or two milliseconds."""

PART: Final = 500
"""Items of an array that are looked at together."""
_CONTAINERS: Final = frozenset((list, dict))

SlicedId: TypeAlias = Generator[None, None, ContentId]
"""Yields at the end of each slice; returns the id."""


class _Pace:
    """Counts the hashes of a slice."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = HASHES

    def spend(self, hashes: int) -> Iterator[None]:
        self.left -= hashes
        if self.left <= 0:
            self.left = HASHES
            yield


def sliced_content_id(value: Json) -> SlicedId:
    """What :func:`fluvial.air.data.content.content_id` gives, in slices; raises as it does."""
    return (yield from _id_of(value, _Pace()))


def _id_of(value: Json, pace: _Pace) -> SlicedId:
    if not isinstance(value, (list, dict)) or not is_surely_large(value):
        yield from pace.spend(1)
        return content_id(value)
    leaves: list[bytes] = []
    if isinstance(value, dict):
        for key in sorted(value, key=str.encode):
            leaves.append(content_id(key) + (yield from _id_of(value[key], pace)))
    else:
        items = iter(value)
        while part := list(islice(items, PART)):
            if _CONTAINERS.isdisjoint(map(type, part)):
                leaves += map(content_id, part)
                yield from pace.spend(len(part))
            else:
                for item in part:
                    leaves.append((yield from _id_of(item, pace)))
    root = yield from _root_of(leaves, pace)
    return node_id(len(leaves), root, of_object=isinstance(value, dict))


def _root_of(leaves: Sequence[bytes], pace: _Pace) -> Generator[None, None, bytes]:
    """The Merkle tree hash of at least one byte string; as ``content.merkle_root``."""
    sha256 = hashlib.sha256
    level: list[bytes] = []
    below = iter(leaves)
    while part := list(islice(below, HASHES)):
        level += [sha256(b"\x00" + leaf).digest() for leaf in part]
        yield from pace.spend(len(part))
    while len(level) > 1:
        above: list[bytes] = []
        pairs = zip(level[::2], level[1::2], strict=False)
        while some := list(islice(pairs, HASHES)):
            above += [sha256(b"\x01" + left + right).digest() for left, right in some]
            yield from pace.spend(len(some))
        level = above + level[len(above) * 2 :]
    return level[0]
