"""Content ids of large values, computed in slices: an array of a hundred thousand numbers takes a tenth of a second, and nothing else is done meanwhile.

Many may be under way at one time, so each has only little in memory: what is needed of a part of a value is the root of its tree.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias

from fluvial.air.data.content import (
    LEAF_BYTES_MAX,
    ContentId,
    Json,
    content_id,
    merkle_root,
    node_id,
    room_in_leaf,
    root_over,
)

HASHES: Final = 2_000
"""Hashes of a slice: one or two milliseconds."""
STEPS_OF_A_HASH: Final = 8
"""Steps of :func:`~fluvial.air.data.content.room_in_leaf` that take as long as a hash, about."""

PART: Final = 512
"""Items of an array or object that are looked at together: a power of two, so that they are a tree of their own."""
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
            self.left += HASHES
            yield


def sliced_content_id(value: Json) -> SlicedId:
    """What :func:`fluvial.air.data.content.content_id` gives, in slices; raises as it does."""
    return (yield from _id_of(value, _Pace()))


def _id_of(value: Json, pace: _Pace) -> SlicedId:
    if not isinstance(value, (list, dict)):
        yield from pace.spend(1)
        return content_id(value)
    room = room_in_leaf(value)
    yield from pace.spend(1 + (LEAF_BYTES_MAX - max(room, 0)) // STEPS_OF_A_HASH)
    if room >= 0:
        return content_id(value)
    keys = sorted(value) if isinstance(value, dict) else None
    trees: list[bytes] = []
    for start in range(0, len(value), PART):
        if keys is None:
            leaves = yield from _ids_of(value[start : start + PART], pace)
        else:
            names = keys[start : start + PART]
            ids = yield from _ids_of([value[name] for name in names], pace)
            leaves = [content_id(name) + key for name, key in zip(names, ids, strict=True)]
        trees.append(merkle_root(leaves))
        yield from pace.spend(2 * len(leaves))
    return node_id(len(value), root_over(trees), of_object=keys is not None)


def _ids_of(items: list[Json], pace: _Pace) -> Generator[None, None, list[bytes]]:
    if _CONTAINERS.isdisjoint(map(type, items)):
        yield from pace.spend(len(items))
        return [content_id(item) for item in items]
    ids: list[bytes] = []
    for item in items:
        ids.append((yield from _id_of(item, pace)))
    return ids
