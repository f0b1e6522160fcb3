"""Who reads which names, in which stretch of a script; worked out once per script, when values could be left out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from msgspec.structs import replace

from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.plan import plan_of
from fluvial.air.syntax import tree

REGION_ITEMS: Final = 48
"""A stretch that is kept takes the memory of so many references, without what is in it."""
KEPT_ITEMS: Final = 16
"""The stretches of a script that are kept have so many references for each of its instructions and reads."""

Numbered = TypeVar("Numbered", bound=tuple[Any, ...])


ReadName: TypeAlias = tuple[str, tree.Lambda | None]
"""A name, and the lambda behind it."""


class NameRead(NamedTuple):
    """An instruction reads a name: its number, and what it reads, which is one object for all who read the same."""

    number: int
    what: ReadName


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """See the module's docstring.

    Attributes:
        end_of: for each instruction's number the greatest number inside of it, its own if there is nothing.
        reads: what instructions read, in order; of streams what folds and canons read.
        readers: the same for each name.
        nexts: every ``next``: its number and iterator, in order.
        regions: stretches that were asked for.
    """

    end_of: Sequence[int]
    reads: Sequence[NameRead]
    readers: Mapping[str, Sequence[NameRead]]
    nexts: Sequence[tuple[int, str]]
    regions: KeptRegions


@once_per_script
def reads_of(script: tree.Script) -> Reads:
    """What a script reads; scripts are told apart by identity."""
    plan = plan_of(script)
    instructions = plan.nodes
    readers: dict[str, list[NameRead]] = {}
    one_of_each: dict[ReadName, ReadName] = {}
    count = len(instructions)
    for instruction in instructions:
        for operand in tree.operands(instruction):
            for what in names_in(operand):
                count += 1
                what = one_of_each.setdefault(what, what)
                readers.setdefault(what[0], []).append(NameRead(instruction.number, what))
    nexts = [(one.number, one.iterator) for one in instructions if type(one) is tree.Next]
    read = _without_unread(instructions, readers)
    in_order = sorted(chain.from_iterable(read.values()), key=itemgetter(0))
    return Reads(plan.ends, in_order, read, nexts, KeptRegions(KEPT_ITEMS * count))


class Region(NamedTuple):
    """A stretch of the script.

    Attributes:
        reads: the names that are read in it, each with the lambda behind it.
        onward: the iterators of the ``next`` in it.
    """

    reads: Collection[ReadName]
    onward: Collection[str]


class KeptRegions:
    """Stretches that may be asked for again. They are dropped when they become too large together.

    Args:
        items_max: how many references they may have.
    """

    __slots__ = ("_items", "_items_max", "_kept")

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._items = 0
        self._kept: dict[tuple[int, int], Region] = {}

    def get(self, first: int, last: int) -> Region | None:
        """A stretch, if it is kept."""
        return self._kept.get((first, last))

    def put(self, first: int, last: int, found: Region) -> None:
        """Keep a stretch."""
        items = REGION_ITEMS + len(found.reads) + len(found.onward)
        if self._items + items > self._items_max:
            self._kept.clear()
            self._items = 0
        if items <= self._items_max:
            self._kept[first, last] = found
            self._items += items


def region(script: Reads, first: int, last: int) -> Region:
    """The instructions from one number to another; costs what is read in them, however long the script is."""
    if (kept := script.regions.get(first, last)) is not None:
        return kept
    reads = {id(read.what): read.what for read in _between(script.reads, first, last)}  # to compare paths takes long
    onward = dict.fromkeys(iterator for _, iterator in _between(script.nexts, first, last))
    found = Region(tuple(reads.values()), tuple(onward))
    script.regions.put(first, last, found)
    return found


def _between(numbered: Sequence[Numbered], first: int, last: int) -> Sequence[Numbered]:
    return numbered[bisect_left(numbered, first, key=itemgetter(0)) : bisect_right(numbered, last, key=itemgetter(0))]


def names_in(operand: tree.Operand) -> Iterator[ReadName]:
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
        and all(isinstance(read.what[1], tree.Length) for read in reads.get(one.target.name, ()))
    }
    return {
        name: [read for read in found if read.number not in unread or not name.startswith("$")]
        for name, found in reads.items()
    }
