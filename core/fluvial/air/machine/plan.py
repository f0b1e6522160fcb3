"""What can be said of a script before it runs; worked out once per script."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from fluvial.air.machine.instances import BEYOND
from fluvial.air.syntax import tree

PLANS_MAX: Final = 256
"""Scripts whose plans are kept."""

REGIONS_MAX: Final = 1024
"""Stretches of scripts that are kept."""

Numbered = TypeVar("Numbered", bound=tuple[Any, ...])


class Read(NamedTuple):
    """An instruction reads a name: its number, and the lambda behind the name."""

    number: int
    path: tree.Lambda | None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """See the module's docstring.

    Attributes:
        next_of: for each fold's number that of its ``next``; infinite if there is none.
        end_of: for each instruction's number the greatest number inside of it, its own if there is nothing.
        reads: for each name the instructions that read it, in order; for streams the folds and canons over them.
        nexts: every ``next``: its number and iterator, in order.
        reads_last_error: whether ``%last_error%`` occurs at all.
    """

    next_of: Mapping[int, float]
    end_of: Sequence[int]
    reads: Mapping[str, Sequence[Read]]
    nexts: Sequence[tuple[int, str]]
    reads_last_error: bool


class Region(NamedTuple):
    """A stretch of the script.

    Attributes:
        reads: the names that are read in it, each with the lambda behind it.
        onward: the iterators of the ``next`` in it.
    """

    reads: Collection[tuple[str, tree.Lambda | None]]
    onward: Collection[str]


@lru_cache(maxsize=REGIONS_MAX)
def region(plan: Plan, first: int, last: int) -> Region:
    """The instructions from one number to another."""
    reads = dict.fromkeys(
        (name, read.path) for name, found in plan.reads.items() for read in _between(found, first, last)
    )
    return Region(reads, dict.fromkeys(iterator for _, iterator in _between(plan.nexts, first, last)))


def _between(numbered: Sequence[Numbered], first: int, last: int) -> Sequence[Numbered]:
    return numbered[bisect_left(numbered, first, key=itemgetter(0)) : bisect_right(numbered, last, key=itemgetter(0))]


@lru_cache(maxsize=PLANS_MAX)
def plan_of(script: tree.Script) -> Plan:
    """The plan of a script; scripts are told apart by identity."""
    instructions = list(tree.walk(script.root))
    reads: dict[str, list[Read]] = {}
    last_error = False
    for instruction in instructions:
        for operand in tree.operands(instruction):
            last_error = last_error or isinstance(operand, tree.LastError)
            for name, path in _names(operand):
                reads.setdefault(name, []).append(Read(instruction.number, path))
    nexts = [(one.number, one.iterator) for one in instructions if isinstance(one, tree.Next)]
    return Plan(_next_of(script.root), _ends(instructions), _without_unread(instructions, reads), nexts, last_error)


def _next_of(root: tree.Instruction) -> dict[int, float]:
    next_of: dict[int, float] = {}
    folds: dict[str, int] = {}
    waiting: list[tree.Instruction | tuple[str, int | None]] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            iterator, outer = item
            if outer is not None:
                folds[iterator] = outer
            continue
        if isinstance(item, tree.Fold):
            next_of[item.number] = BEYOND
            waiting.append((item.iterator, folds.get(item.iterator)))
            folds[item.iterator] = item.number
        elif isinstance(item, tree.Next):
            next_of[folds[item.iterator]] = item.number
        waiting.extend(reversed(tree.children(item)))
    return next_of


def _ends(instructions: Sequence[tree.Instruction]) -> Sequence[int]:
    ends = list(range(len(instructions)))
    for instruction in reversed(instructions):
        if inside := tree.children(instruction):
            ends[instruction.number] = ends[inside[-1].number]
    return ends


def _names(operand: tree.Operand) -> Iterator[tuple[str, tree.Lambda | None]]:
    """The names that an operand reads."""
    if isinstance(operand, tree.PairPeer | tree.PairService):
        operand = replace(operand.value, path=None)
    if isinstance(operand, tree.Scalar | tree.CanonStream | tree.CanonMap):
        yield operand.name, operand.path
    elif isinstance(operand, tree.Stream | tree.StreamMap):
        yield operand.name, None
    path = getattr(operand, "path", None)
    if isinstance(path, tree.Path):
        yield from ((step.name, None) for step in path.accessors if isinstance(step, tree.ByName))


def _without_unread(
    instructions: Sequence[tree.Instruction], reads: Mapping[str, Sequence[Read]]
) -> Mapping[str, Sequence[Read]]:
    """Without the canons of streams of whose elements nobody reads anything afterwards."""
    unread = {
        one.number
        for one in instructions
        if isinstance(one, tree.Canon)
        and isinstance(one.target, tree.CanonStream)
        and all(isinstance(read.path, tree.Length) for read in reads.get(one.target.name, ()))
    }
    return {
        name: [read for read in found if read.number not in unread or not name.startswith("$")]
        for name, found in reads.items()
    }
