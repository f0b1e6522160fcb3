"""Content ids: a value's id is the root of a Merkle tree over its JSON structure.

A value whose canonical bytes (``fluvial.encoding``) are at most :data:`LEAF_BYTES_MAX` is a leaf; a larger text or number is a leaf too,
a larger array or object is a node over the ids of its parts. So a part of a large value, or nothing of it, can stand for the
whole without a change of the id, and small values cost one hash.

::

    leaf(v)            = H(00 ‖ encode(v))
    node([a, b, …])    = H(01 ‖ n ‖ tree(id(a), id(b), …))
    node({k: a, …})    = H(02 ‖ n ‖ tree(H(00 ‖ encode(k)) ‖ id(a), …))      in ascending order of the keys' UTF-8 bytes

``H`` is SHA-256, ``n`` the number of parts in four bytes, and ``tree`` the Merkle tree hash of RFC 6962 §2.1 over the given byte
strings. With ``n`` the place of every part is certain (``data.partial``).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Generator, Sequence
from itertools import chain, islice
from math import isfinite
from typing import Any, Final, NewType, TypeAlias

from fluvial.encoding import encode

Json: TypeAlias = Any
"""None, bool, int (-2**63 … 2**64 - 1), float, str, list or dict with str keys."""

ContentId = NewType("ContentId", bytes)
"""32 bytes."""

LEAF_BYTES_MAX: Final = 256
"""Below this a proof for a part would cost more than the value; the longest proof step is 32 bytes."""

ENCODED_AGAIN_MAX: Final = 65_536
"""A value up to so many bytes is encoded for the id of each array or object around its parts; that takes less time than to avoid it."""

JSON_DEPTH_MAX: Final = 128
"""Arrays and objects within each other; serde_json, which reads values in the reference, has the same limit."""

VALUE_SIZE: Final = 8
"""What :func:`check_json` counts for a value besides the characters of a text: about its memory in bytes."""

CHECKED: Final = 8_192
"""Values that are looked at in a slice: about a millisecond."""

_JSON: Final = frozenset((type(None), bool, int, float, str, list, dict))
_LEAF, _ARRAY, _OBJECT = b"\x00", b"\x01", b"\x02"


def check_json(value: Json, size_max: int = sys.maxsize) -> int:
    """See that a value is JSON and within the limits, before anything recursive or costly is done with it.

    Args:
        value: anything.
        size_max: limit of what is returned.

    Returns:
        Its size: :data:`VALUE_SIZE` for every value in it, one for every character of its texts and keys, each as often as it occurs.

    Raises:
        ValueError: it is no JSON, nested deeper than :data:`JSON_DEPTH_MAX`, or larger than ``size_max``.
    """
    checking = checking_json(value, size_max)
    while True:
        try:
            next(checking)
        except StopIteration as end:
            size: int = end.value
            return size


def checking_json(
    value: Json, size_max: int = sys.maxsize, depth_max: int = JSON_DEPTH_MAX
) -> Generator[None, None, int]:
    """As :func:`check_json`, in slices; a part of a value may have fewer levels."""
    size = VALUE_SIZE
    level: list[Json] = [value]
    for _ in range(depth_max + 1):
        below: list[Json] = []
        for start in range(0, len(level), CHECKED):
            if start:
                yield
            size = _checked(level[start : start + CHECKED], below, size, size_max)
        if not below:
            return size
        level = below
    raise ValueError(f"a value is nested deeper than {depth_max} levels")


def _checked(items: list[Json], below: list[Json], size: int, size_max: int) -> int:
    """See that these are JSON, and put what they are made of into ``below``; the size with all of that. Raises as :func:`check_json`."""
    kinds = set(map(type, items))
    if not kinds <= _JSON:
        raise ValueError(f"{next(item for item in items if type(item) not in _JSON)!r:.80} is no JSON value")
    if float in kinds and not all(map(isfinite, floats := [item for item in items if type(item) is float])):
        raise ValueError(f"{next(item for item in floats if not isfinite(item))} is no JSON value")
    if str in kinds:
        size += sum(map(len, [item for item in items if type(item) is str]))
    if list in kinds:
        arrays = [item for item in items if type(item) is list]
        size += VALUE_SIZE * sum(map(len, arrays))
        _check_size(size, size_max)
        below += chain.from_iterable(arrays)
    if dict in kinds:
        objects = [item for item in items if type(item) is dict]
        size += sum(map(_key_size, chain.from_iterable(objects))) + VALUE_SIZE * sum(map(len, objects))
        _check_size(size, size_max)
        below += chain.from_iterable(item.values() for item in objects)
    _check_size(size, size_max)
    return size


def _check_size(size: int, size_max: int) -> None:
    if size > size_max:
        raise ValueError(f"a value is larger than {size_max}")


def _key_size(key: object) -> int:
    if type(key) is not str:
        raise ValueError(f"the key {key!r:.80} is no text")
    return len(key)


KnownIds: TypeAlias = dict[int, tuple[Json, ContentId]]
"""Ids of arrays and objects that are not changed, by their address; each with the object, so that the address stays its own."""


def content_id(value: Json, known: KnownIds | None = None, *, in_large: bool = False) -> ContentId:
    """The id of a JSON value.

    Args:
        value: the value.
        known: ids of large arrays and objects, which are looked up and noted: parts of one value that lie within each other cost once.
        in_large: whether it is a part of a value so large that it matters how often it is encoded.

    Raises:
        OverflowError, TypeError, ValueError: it is no JSON value within the limits of :data:`Json`.
        RecursionError: it is nested too deeply; :func:`check_json` bounds depth where values come in.
    """
    if known is not None and (found := known.get(id(value))) is not None:
        return found[1]
    if not (in_large and isinstance(value, (list, dict)) and is_surely_large(value)):
        encoded = encode(value)
        if len(encoded) <= LEAF_BYTES_MAX or not isinstance(value, (list, dict)):
            return ContentId(hashlib.sha256(_LEAF + encoded).digest())
        in_large = len(encoded) > ENCODED_AGAIN_MAX
    leaves = leaves_of(value, known, in_large=in_large)
    key = node_id(len(leaves), merkle_root(leaves), of_object=isinstance(value, dict))
    if known is not None:
        known[id(value)] = value, key
    return key


def is_surely_large(value: list[Json] | dict[str, Json]) -> bool:
    """Whether a value is certainly longer than a leaf; looks at few of its items.

    Else a value that is nested a hundred times would be encoded a hundred times, to find that out at each level.
    """
    return room_in_leaf(value) < 0


def room_in_leaf(value: list[Json] | dict[str, Json]) -> int:
    """How many bytes a leaf has left beside a value, at most; below 0 if the value is certainly longer. Takes a step for each byte that is taken."""
    room = LEAF_BYTES_MAX
    if len(value) > room:
        return -1
    below: list[Json] = [value]
    while below and room >= 0:
        item = below.pop()
        kind = type(item)
        room -= 1
        if kind is str:
            room -= len(item)
        elif kind is list:
            below += item[: room + 1]
        elif kind is dict:
            below += islice(item, room + 1)
            below += islice(item.values(), room + 1)
    return room


def leaves_of(
    value: list[Json] | dict[str, Json], known: KnownIds | None = None, *, in_large: bool = False
) -> list[bytes]:
    """What stands in the leaves of an array's or object's tree, in order; ``known`` and ``in_large`` as for :func:`content_id`."""
    if isinstance(value, list):
        return [content_id(item, known, in_large=in_large) for item in value]
    keys = sorted(value)
    return [content_id(key) + content_id(value[key], known, in_large=in_large) for key in keys]


def node_id(size: int, root: bytes, *, of_object: bool) -> ContentId:
    """The id of an array or object of which the number of parts and the root of their tree are known."""
    return ContentId(_hash((_OBJECT if of_object else _ARRAY) + size.to_bytes(4, "big") + root))


def is_large(value: Json) -> bool:
    """Whether a value is longer than a leaf: only then is there something to gain from leaving it out."""
    if isinstance(value, str):
        size = len(value)
        return size > LEAF_BYTES_MAX or (size * 4 > LEAF_BYTES_MAX and len(encode(value)) > LEAF_BYTES_MAX)
    return isinstance(value, (list, dict)) and (is_surely_large(value) or len(encode(value)) > LEAF_BYTES_MAX)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of byte strings: 32 bytes.

    Source: RFC 6962 §2.1.
    """
    if not leaves:
        return _hash(b"")
    sha256 = hashlib.sha256
    return root_over([sha256(b"\x00" + leaf).digest() for leaf in leaves])


def root_over(trees: Sequence[bytes]) -> bytes:
    """The hash of at least one tree beside each other; all of one size, a power of two, but for the last one, which may be smaller.

    Source: RFC 6962 §2.1. Built level by level: pairs from the left, a lone last node goes up unchanged, which is the same tree.
    """
    sha256 = hashlib.sha256
    level = list(trees)
    while len(level) > 1:
        pairs = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def leaf_hash(leaf: bytes) -> bytes:
    """The tree of one leaf. Source: RFC 6962 §2.1."""
    return _hash(b"\x00" + leaf)


def fork_hash(left: bytes, right: bytes) -> bytes:
    """The tree over two trees. Source: RFC 6962 §2.1."""
    return _hash(b"\x01" + left + right)


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
