"""Equality of values, as ``match`` has it."""

from __future__ import annotations

from typing import Final

from fluvial.air.data.content import Json
from fluvial.encoding import encode

_CONTAINERS: Final = (list, dict)

_ZERO, _MINUS_ZERO = encode(0.0), encode(-0.0)


def same_json(left: Json, right: Json) -> bool:
    """Deep equality of JSON values, in which an integer never equals a float and true never equals 1."""
    if not isinstance(left, _CONTAINERS):
        return type(left) is type(right) and bool(left == right)
    return left is right or (bool(left == right) and _are_encoded_alike(encode(left), encode(right)))


def _are_encoded_alike(left: bytes, right: bytes) -> bool:
    """Whether values that Python takes for equal are, by their canonical bytes: so it takes no step of Python for each item.

    What is equal and encoded in another way is a number of another kind, or one of the two zeros among the floats. Their bytes begin
    with one that stands within no other form, or in texts, which are the same in both.
    """
    return left == right or left.replace(_MINUS_ZERO, _ZERO) == right.replace(_MINUS_ZERO, _ZERO)
