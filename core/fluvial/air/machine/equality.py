"""Equality of values, as ``match`` has it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from fluvial.air.data.content import Json
from fluvial.air.data.pace import NODES, Found, SlicePace
from fluvial.air.data.weight import is_light
from fluvial.encoding import encode

_CONTAINERS: Final = (list, dict)
_ATOMS: Final = frozenset((type(None), bool, int, float))

TOGETHER: Final = 512
"""Items of an array or object that are compared together."""
STRETCHES_IN_SLICE: Final = 8
"""How often that is done without handing control back: a millisecond or two."""

_ZERO, _MINUS_ZERO = encode(0.0), encode(-0.0)


def same_json(left: Json, right: Json) -> bool:
    """Deep equality of JSON values, in which an integer never equals a float and true never equals 1."""
    if not isinstance(left, _CONTAINERS):
        return type(left) is type(right) and bool(left == right)
    return left is right or (bool(left == right) and _are_encoded_alike(encode(left), encode(right)))


def comparing(left: Json, right: Json) -> Found[bool]:
    """As :func:`same_json`, in slices: of values of megabytes it takes some hundredths of a second."""
    pace = SlicePace()
    todo: list[tuple[Json, Json]] = [(left, right)]
    while todo:
        one, other = todo.pop()
        if one is other:
            continue
        if type(one) is not type(other):
            return False
        if not isinstance(one, _CONTAINERS):
            if one != other:
                return False
            continue
        if len(one) != len(other):
            return False
        for ours, theirs in _stretches(one, other):
            if theirs is None:
                return False
            if _ATOMS.issuperset(map(type, ours)) or is_light(ours):
                if not same_json(ours, theirs):
                    return False
            else:
                todo += zip(ours, theirs, strict=True)
            if pace.over(NODES // STRETCHES_IN_SLICE):
                yield
    return True


def _stretches(
    one: list[Json] | dict[str, Json], other: list[Json] | dict[str, Json]
) -> Iterator[tuple[list[Json], list[Json] | None]]:
    """What stands in the same places of two arrays or objects of the same size; None if the other one has not all of these."""
    if isinstance(one, list):
        assert isinstance(other, list), "both are of one kind"
        for begin in range(0, len(one), TOGETHER):
            yield one[begin : begin + TOGETHER], other[begin : begin + TOGETHER]
        return
    assert isinstance(other, dict), "both are of one kind"
    names = iter(one)
    while some := list(islice(names, TOGETHER)):
        theirs = [other[name] for name in some] if all(map(other.__contains__, some)) else None
        yield [one[name] for name in some], theirs


def _are_encoded_alike(left: bytes, right: bytes) -> bool:
    """Whether values that Python takes for equal are, by their canonical bytes: so it takes no step of Python for each item.

    What is equal and encoded in another way is a number of another kind, or one of the two zeros among the floats. Their bytes begin
    with one that stands within no other form, or in texts, which are the same in both.
    """
    return left == right or left.replace(_MINUS_ZERO, _ZERO) == right.replace(_MINUS_ZERO, _ZERO)
