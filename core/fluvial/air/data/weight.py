"""How much memory values take, estimated in bytes before or without going through them in Python, where that is possible.

An estimate is never much below the truth, and usually at most twice as much. The figures are those of CPython 3.11 on 64 bits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from sys import getsizeof
from typing import Any, Final, NamedTuple

import msgspec

from fluvial.air.data.content import Json
from fluvial.air.data.partial import Content, Fork, Leaf, Partial, Tree

LIST_BYTES: Final = 88
"""An array, without its elements."""
DICT_BYTES: Final = 200
"""An object with few fields, with the collector's header."""
ITEM_BYTES: Final = 8
"""The place of an element."""
ATOM_BYTES: Final = 32
"""A number."""
NUMBER_BYTES: Final = 28
"""The same, where it is known to be one: most are that large."""
TEXT_BYTES: Final = 60
"""A text, without its characters."""
NODE_BYTES: Final = 160
"""A node of a proof: a fork, a hash, or what surrounds a part that is shown."""

LIGHT_BYTES: Final = 262_144
"""Values of this weight are gone through, encoded and decoded in about a millisecond."""

SHORT_VALUES: Final = 16
SHORT_BYTES: Final = 4_096
"""See :func:`is_short`."""

CHUNK: Final = 4_096
"""Items that are looked at together: without a step of Python for each, and without a copy of a whole level of a large value."""
CHUNKS: Final = 8
"""Chunks that are weighed without handing control back: some milliseconds."""

_ATOMS: Final = frozenset((type(None), bool, int, float))
_SHORT: Final = _ATOMS | {str}


class EncodedJson(NamedTuple):
    """A heavy value that waits: its canonical bytes take a small part of what it takes itself.

    Attributes:
        data: the canonical bytes.
        weight: what the value takes in memory, in bytes, about.
    """

    data: bytes
    weight: int

    @property
    def json(self) -> Json:
        """The value, made anew."""
        return msgspec.msgpack.decode(self.data)


def in_chunks(values: Iterable[Any]) -> Iterator[tuple[Sequence[Any], set[type], int]]:
    """All that values are made of, keys of objects included, in chunks: the items, their types, and how deep they lie, the values themselves at 1.

    What is used twice comes twice.
    """
    pending: list[Iterator[Any]] = [iter(values)]
    while pending:
        chunk = list(islice(pending[-1], CHUNK))
        if not chunk:
            pending.pop()
            continue
        kinds = set(map(type, chunk))
        yield chunk, kinds, len(pending)
        if not kinds.isdisjoint(_CONTAINER_TYPES):
            pending.append(_members(chunk, kinds))


def _members(chunk: Sequence[Any], kinds: set[type]) -> Iterator[Any]:
    """What stands in the arrays and objects of a chunk, keys of objects included."""
    arrays = chain.from_iterable([item for item in chunk if type(item) is list or type(item) is tuple])
    if dict not in kinds:
        return arrays
    objects = [item for item in chunk if type(item) is dict]
    fields = chain(chain.from_iterable(objects), chain.from_iterable(item.values() for item in objects))
    return chain(arrays, fields)


_CONTAINER_TYPES: Final = frozenset((list, tuple, dict))


def chunk_weight(chunk: Sequence[Any], kinds: set[type]) -> int:
    """What the items of a chunk take, without what they are made of."""
    return NUMBER_BYTES * len(chunk) if kinds <= _ATOMS else sum(map(getsizeof, chunk))


def weight_within(values: Sequence[Any], most: int) -> int:
    """What values take together, counted only until it is more than ``most``; what is used twice counts twice.

    Never goes through more than ``most`` bytes' worth of them, however often they refer to one large value.
    """
    if most <= LIGHT_BYTES:
        return _light_weight(values, most)
    size = 0
    for chunk, kinds, _ in in_chunks(values):
        size += chunk_weight(chunk, kinds)
        if size > most:
            break
    return size


def fields_beyond(value: Any, most: int) -> bool:
    """Whether the objects in a value have more fields together than so many."""
    fields = 0
    for chunk, kinds, _ in in_chunks((value,)):
        if dict in kinds:
            fields += sum([len(item) for item in chunk if type(item) is dict])
            if fields > most:
                return True
    return False


def _light_weight(values: Sequence[Any], most: int) -> int:
    """As :func:`weight_within`, level by level: each service call asks this several times, mostly about a few short values."""
    size = 0
    level = values
    while level:
        size += sum(map(getsizeof, level))
        if size > most:
            break
        kinds = set(map(type, level))
        level = () if kinds.isdisjoint(_CONTAINER_TYPES) else list(_members(level, kinds))
    return size


def is_light(values: Sequence[Any]) -> bool:
    """Whether values can be worked with at once; costs next to nothing whatever they are."""
    return _light_weight(values, LIGHT_BYTES) <= LIGHT_BYTES


def is_short(values: Sequence[Any]) -> bool:
    """Whether values are few texts and numbers, as most arguments are: to find that out costs nothing, however often it is asked."""
    return (
        len(values) <= SHORT_VALUES
        and _SHORT.issuperset(map(type, values))
        and sum(map(getsizeof, values)) <= SHORT_BYTES
    )


def weight_of(content: Content) -> int:
    """What a value takes, whole or in part; a value that is used twice inside of it counts twice."""
    for weight in weighing(content):
        if weight is not None:
            return weight
    raise AssertionError("weighing ends with the weight")


def weighing(content: Content) -> Iterator[int | None]:
    """As :func:`weight_of`, in slices: None at the end of each, and the weight at last."""
    kind = type(content)
    if kind is str:
        yield getsizeof(content)
    elif kind is list or kind is dict:
        light = _light_weight((content,), LIGHT_BYTES)
        yield light if light <= LIGHT_BYTES else (yield from _exact(content))
    elif kind is Partial:
        yield (yield from _of_partial(content))
    else:
        yield ATOM_BYTES


def _exact(value: Json) -> Generator[None, None, int]:
    size, left = 0, CHUNKS
    for chunk, kinds, _ in in_chunks((value,)):
        size += chunk_weight(chunk, kinds)
        left -= 1
        if not left:
            left = CHUNKS
            yield
    return size


def _of_partial(partial: Partial) -> Generator[None, None, int]:
    size, left = NODE_BYTES, CHUNK
    trees: list[Tree] = [] if partial.tree is None else [partial.tree]
    while trees:
        tree = trees.pop()
        size += NODE_BYTES
        if isinstance(tree, Fork):
            trees += (tree.left, tree.right)
        elif isinstance(tree, Leaf):
            if tree.key is not None:
                size += getsizeof(tree.key)
            for weight in weighing(tree.value):
                if weight is None:
                    yield
                else:
                    size += weight
        left -= 1
        if not left:
            left = CHUNK
            yield
    return size


# --- before bytes are decoded

_CONTAINERS: Final = bytes((*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF))
"""The first bytes of arrays and objects in MessagePack."""
_SHARED_FROM: Final = 0xFB
"""The first byte of -5. Python has each number from there to 256 once."""
_MARKED: Final = bytes((*range(0x80, 0xC0), *range(0xC4, _SHARED_FROM)))
"""The first bytes of all that is more than a small number or a constant."""

_FOLLOWING: Final = bytes(range(0x80, 0xC0))
"""Bytes in UTF-8 with which no character begins."""
_NARROW: Final = bytes(range(0xC4))
"""Bytes of characters up to U+00FF, of which each takes one byte in memory if there are no others in the text."""
_NOT_WIDE: Final = bytes(range(0xF0))
"""Bytes of characters up to U+FFFF; with one beyond these all characters of a text take four bytes each."""


def weight_of_encoded(data: bytes, most: int) -> int:
    """What decoding canonical bytes takes.

    Args:
        data: MessagePack; it may be damaged.
        most: as soon as it is more than that, the rest does not matter.

    Returns:
        The estimate; something above ``most`` if it is more than that.
    """
    quick = _quick_of_encoded(data)
    return quick if quick <= most else _scan(data, most)


def _quick_of_encoded(data: bytes) -> int:
    """No byte stands for more than one value; but those inside of texts and hashes count as well."""
    size = len(data)
    containers = size - len(data.translate(None, _CONTAINERS))
    marked = size - len(data.translate(None, _MARKED))
    return size * (ITEM_BYTES + 1) + DICT_BYTES * containers + TEXT_BYTES * (marked - containers)


_WIDTHS: Final = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
"""Bytes of numbers, by first byte."""
_LENGTHS: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Bytes of the lengths of texts and byte strings, by first byte."""


def _scan(data: bytes, most: int) -> int:
    """Value by value, without making any."""
    size, at, end = 0, 0, len(data)
    while at < end and size <= most:
        first = data[at]
        at += 1
        if first < 0x80 or first >= _SHARED_FROM:
            size += ITEM_BYTES
        elif first < 0x90 or first in (0xDE, 0xDF):
            size += ITEM_BYTES + DICT_BYTES
            at += 0 if first < 0x90 else 2 if first == 0xDE else 4
        elif first < 0xA0 or first in (0xDC, 0xDD):
            size += ITEM_BYTES + LIST_BYTES
            at += 0 if first < 0xA0 else 2 if first == 0xDC else 4
        elif first < 0xC0:
            length = first - 0xA0
            size += ITEM_BYTES + TEXT_BYTES + _text_bytes(data[at : at + length])
            at += length
        elif (width := _LENGTHS.get(first)) is not None:
            length = int.from_bytes(data[at : at + width], "big")
            at += width
            size += ITEM_BYTES + TEXT_BYTES + _text_bytes(data[at : at + length])
            at += length
        else:
            size += ITEM_BYTES + ATOM_BYTES
            at += _WIDTHS.get(first, 0)
    return size


def _text_bytes(text: bytes) -> int:
    """What the characters of an encoded text take; its widest character decides how much each of them does."""
    if text.isascii():
        return len(text)
    characters = len(text.translate(None, _FOLLOWING))
    return characters * (4 if text.translate(None, _NOT_WIDE) else 2 if text.translate(None, _NARROW) else 1)
