"""What can be said of a script before it runs; worked out once per script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fluvial.air.machine.instances import BEYOND
from fluvial.air.syntax import tree

PLANS_MAX: Final = 256
"""Scripts whose plans are kept."""


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's docstring.

    Attributes:
        next_of: for each fold's number that of its ``next``; infinite if there is none.
        end_of: for each ``par``'s number the greatest number inside of it.
        reads_last_error: whether ``%last_error%`` occurs at all.
    """

    next_of: Mapping[int, float]
    end_of: Mapping[int, int]
    reads_last_error: bool


@lru_cache(maxsize=PLANS_MAX)
def plan_of(script: tree.Script) -> Plan:
    """The plan of a script; scripts are told apart by identity."""
    next_of: dict[int, float] = {}
    end_of: dict[int, int] = {}
    reads = False
    folds: dict[str, int] = {}
    waiting: list[tree.Instruction | tuple[str, int | None] | int] = [script.root]
    number = -1
    while waiting:
        item = waiting.pop()
        if isinstance(item, int):
            end_of[item] = number
        elif isinstance(item, tuple):
            iterator, outer = item
            if outer is not None:
                folds[iterator] = outer
        else:
            number = item.number
            reads = reads or _reads_last_error(item)
            if type(item) is tree.Fold:
                next_of[item.number] = BEYOND
                waiting.append((item.iterator, folds.get(item.iterator)))
                folds[item.iterator] = item.number
            elif type(item) is tree.Next:
                next_of[folds[item.iterator]] = item.number
            elif type(item) is tree.Par:
                waiting.append(item.number)
            waiting.extend(reversed(tree.children(item)))
    return Plan(next_of, end_of, reads)


def _reads_last_error(instruction: tree.Instruction) -> bool:
    return any(type(operand) is tree.LastError for operand in tree.operands(instruction))
