"""Who reads which names, in which stretch of a script; worked out once per script, when values could be left out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

from msgspec.structs import replace

from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.plan import plan_of
from fluvial.air.syntax import tree

REGIONS_MAX: Final = 1024
"""Stretches of one script that are kept."""

Numbered = TypeVar("Numbered", bound=tuple[Any, ...])


class NameRead(NamedTuple):
    """An instruction reads a name: its number, and the lambda behind the name."""

    number: int
    path: tree.Lambda | None


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """See the module's docstring.

    Attributes:
        end_of: for each instruction's number the greatest number inside of it, its own if there is nothing.
        readers: for each name the instructions that read it, in order; for streams the folds and canons over them.
        nexts: every ``next``: its number and iterator, in order.
        regions: stretches that were asked for.
    """

    end_of: Sequence[int]
    readers: Mapping[str, Sequence[NameRead]]
    nexts: Sequence[tuple[int, str]]
    regions: dict[tuple[int, int], Region] = field(default_factory=dict)


@once_per_script
def reads_of(script: tree.Script) -> Reads:
    """What a script reads; scripts are told apart by identity."""
    plan = plan_of(script)
    instructions = plan.nodes
    readers: dict[str, list[NameRead]] = {}
    for instruction in instructions:
        for operand in tree.operands(instruction):
            for name, path in names_in(operand):
                readers.setdefault(name, []).append(NameRead(instruction.number, path))
    nexts = [(one.number, one.iterator) for one in instructions if type(one) is tree.Next]
    return Reads(plan.ends, _without_unread(instructions, readers), nexts)


class Region(NamedTuple):
    """A stretch of the script.

    Attributes:
        reads: the names that are read in it, each with the lambda behind it.
        onward: the iterators of the ``next`` in it.
    """

    reads: Collection[tuple[str, tree.Lambda | None]]
    onward: Collection[str]


def region(script: Reads, first: int, last: int) -> Region:
    """The instructions from one number to another."""
    if (kept := script.regions.get((first, last))) is not None:
        return kept
    if len(script.regions) >= REGIONS_MAX:
        script.regions.clear()
    found = dict.fromkeys(
        (name, read.path) for name, readers in script.readers.items() for read in _between(readers, first, last)
    )
    onward = dict.fromkeys(iterator for _, iterator in _between(script.nexts, first, last))
    kept = script.regions[first, last] = Region(found, onward)
    return kept


def _between(numbered: Sequence[Numbered], first: int, last: int) -> Sequence[Numbered]:
    return numbered[bisect_left(numbered, first, key=itemgetter(0)) : bisect_right(numbered, last, key=itemgetter(0))]


def names_in(operand: tree.Operand) -> Iterator[tuple[str, tree.Lambda | None]]:
    """The names that an operand reads."""
    if type(operand) is tree.Literal or type(operand) is tree.InitPeerId:
        return
    if type(operand) is tree.PairPeer or type(operand) is tree.PairService:
        operand = replace(operand.value, path=None)
    if type(operand) is tree.Scalar or type(operand) is tree.CanonStream or type(operand) is tree.CanonMap:
        yield operand.name, operand.path
    elif type(operand) is tree.Stream or type(operand) is tree.StreamMap:
        yield operand.name, None
    path = getattr(operand, "path", None)
    if type(path) is tree.Path:
        yield from [(step.name, None) for step in path.accessors if type(step) is tree.ByName]


def _without_unread(
    instructions: Sequence[tree.Instruction], reads: Mapping[str, Sequence[NameRead]]
) -> Mapping[str, Sequence[NameRead]]:
    """Without the canons of streams of whose elements nobody reads anything afterwards."""
    unread = {
        one.number
        for one in instructions
        if type(one) is tree.Canon
        and isinstance(one.target, tree.CanonStream)
        and all(isinstance(read.path, tree.Length) for read in reads.get(one.target.name, ()))
    }
    return {
        name: [read for read in found if read.number not in unread or not name.startswith("$")]
        for name, found in reads.items()
    }
