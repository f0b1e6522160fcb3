"""The messages of one connection that wait to be handled: the kinds take turns, each kind first in, first out; pure.

A connection between two peers carries the flows of all whom either of them serves, and whatever else these peers ask each other: look-ups of names that
flows contain, signs of life, statements. In one line a flow would wait until a hundred of these have been answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

KINDS_MAX: Final = 32
"""Kinds with a line of their own; all others share one. A line has the memory of two messages, and names of kinds cost nothing."""
OTHERS: Final = ""

JobT = TypeVar("JobT")


class KindLine(Generic[JobT]):
    """See the module's docstring. What names of kinds there are is up to the sender, who divides its own turns by them."""

    __slots__ = ("_length", "_lines")

    def __init__(self) -> None:
        self._lines: dict[str, deque[JobT]] = {}  # in the order of their next turns; none is empty
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[JobT]:
        """All that wait, kind by kind."""
        for line in self._lines.values():
            yield from line

    def put(self, kind: str, job: JobT) -> None:
        """Put a job behind those of its kind."""
        lines = self._lines
        if (line := lines.get(kind)) is None:
            kind = kind if len(lines) < KINDS_MAX else OTHERS
            line = lines.setdefault(kind, deque())
        line.append(job)
        self._length += 1

    def take(self) -> JobT:
        """The job whose turn it is; there must be one."""
        kind = next(iter(self._lines))
        line = self._lines.pop(kind)
        job = line.popleft()
        if line:
            self._lines[kind] = line  # behind the other kinds
        self._length -= 1
        return job
