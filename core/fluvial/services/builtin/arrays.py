"""``array``: sums, sets of strings, slices."""

from __future__ import annotations

from typing import Any

from fluvial.effectors import I64, U64, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.services.builtin.numbers import checked
from fluvial.services.builtin.pieces import pieces
from fluvial.services.status import Status


class Array(Effector[NoConfig]):
    """Operations on arrays. Those on strings drop duplicates and keep the order in which elements first appear."""

    # Deviation: the order of the set operations is defined here; the reference gives any, another one on each peer and each run.

    service_id = "array"
    pure = True

    @function(inline=True)
    def sum(self, xs: list[I64]) -> I64:
        """The sum of all numbers."""
        # Deviation: only the sum itself must fit; the reference fails if a part of it, in the order given, does not.
        return checked(sum(map(sum, pieces(xs))), "the sum")

    @function(inline=True)
    def length(self, array: list[Any]) -> int:
        """How many elements an array has."""
        return len(array)

    @function(inline=True)
    def dedup(self, xs: list[str]) -> list[str]:
        """Each string once."""
        return list(_distinct(xs))

    @function(inline=True)
    def intersect(self, xs: list[str], ys: list[str]) -> list[str]:
        """The strings that are in both, in the order of `xs`."""
        others = _distinct(ys)
        return [x for x in _distinct(xs) if x in others]

    @function(inline=True)
    def diff(self, xs: list[str], ys: list[str]) -> list[str]:
        """The strings of `xs` that are not in `ys`."""
        others = _distinct(ys)
        return [x for x in _distinct(xs) if x not in others]

    @function(inline=True)
    def sdiff(self, xs: list[str], ys: list[str]) -> list[str]:
        """The strings that are in one of the two only, those of `xs` first."""
        here, there = _distinct(xs), _distinct(ys)
        return [*(x for x in here if x not in there), *(y for y in there if y not in here)]

    @function(inline=True)
    def slice(self, array: list[Any], from_: U64, to: U64) -> list[Any]:
        """The elements from index `from_` to before index `to`; of an empty array always none."""
        if array and not from_ <= to <= len(array):
            raise ServiceError(
                Status.NO_RESULT,
                f"no elements {from_} to {to} in an array of {len(array)}: 0 <= from <= to <= {len(array)}",
            )
        return array[from_:to]


def _distinct(texts: list[str]) -> dict[str, None]:
    """The strings as keys, in the order of their first appearance."""
    found: dict[str, None] = {}
    for some in pieces(texts):
        found.update(dict.fromkeys(some))
    return found
