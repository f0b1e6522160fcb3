"""How often work within a value hands control back, however the value is made: what is within it is counted together."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar

NODES: Final = 1_000
"""Nodes of a tree, or values, of a slice: a few microseconds each."""

ResultT = TypeVar("ResultT")
Found: TypeAlias = Generator[None, None, ResultT]
"""Yields at the end of each slice, and returns its result."""


def finished(work: Found[ResultT]) -> ResultT:
    """The result of work in slices, done at once."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: ResultT = end.value
            return result


class SlicePace:
    """Counts what is looked at.

    Args:
        nodes: of a slice.
    """

    __slots__ = ("_left", "_nodes")

    def __init__(self, nodes: int = 0) -> None:
        self._nodes: Final = nodes or NODES
        self._left = self._nodes

    def over(self, nodes: int = 1) -> bool:
        """Count nodes; whether the slice is over, and another one begins."""
        self._left -= nodes
        if self._left > 0:
            return False
        self._left = self._nodes
        return True
