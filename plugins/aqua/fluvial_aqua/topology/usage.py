"""What an instruction needs and gives: found in one pass over the tree."""

from __future__ import annotations

from bisect import bisect_left

from fluvial_aqua.model.operands import Operand, Reference
from fluvial_aqua.model.tree import Instruction, Walk, inner, names_read, names_written, station_needed


class Usage:
    """Answers questions about instructions of one tree.

    Args:
        root: the tree.
    """

    def __init__(self, root: Instruction) -> None:
        self._needs: dict[int, bool] = {}
        self._ranges: dict[int, tuple[int, int]] = {}
        self._first_read: dict[str, int] = {}
        self._last_read: dict[str, int] = {}
        self._writes: list[tuple[int, str]] = []
        self._made: dict[str, int] = {}
        self._position = 0
        self._visit(root)

    def needs_peer(self, op: Instruction) -> bool:
        """Whether anything in an instruction is done at a certain peer."""
        return self._needs[id(op)]

    def is_read_outside(self, op: Instruction) -> bool:
        """Whether something that an instruction sets is read outside of it."""
        start, end = self._ranges[id(op)]
        at = bisect_left(self._writes, (start, ""))
        while at < len(self._writes) and self._writes[at][0] < end:
            name = self._writes[at][1]
            if self._first_read.get(name, start) < start or self._last_read.get(name, start) >= end:
                return True
            at += 1
        return False

    def is_made_inside(self, op: Instruction, operand: Operand) -> bool:
        """Whether a name that an operand reads gets its value inside of an instruction."""
        if not isinstance(operand, Reference):
            return False
        start, end = self._ranges[id(op)]
        return start <= self._made.get(operand.name, -1) < end

    def _visit(self, op: Instruction) -> bool:
        start = self._position
        self._position += 1
        for name in names_read(op):
            self._first_read.setdefault(name, start)
            self._last_read[name] = start
        written = names_written(op)
        self._writes += ((start, name) for name in written)
        for name in (*written, op.iterator) if isinstance(op, Walk) else written:
            self._made.setdefault(name, start)
        needs = station_needed(op)
        for one in inner(op):
            needs |= self._visit(one)
        self._needs[id(op)] = needs
        self._ranges[id(op)] = (start, self._position)
        return needs
