"""What can be said of a script before it runs; worked out once per script."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.positions import BEYOND
from fluvial.air.syntax import tree


@dataclass(frozen=True, slots=True)
class Plan:
    """See the module's docstring.

    Attributes:
        nodes: the instructions by number.
        ends: for each instruction's number the greatest number inside of it, its own if there is nothing.
        next_of: for each fold's number that of its ``next``; infinite if there is none.
        reads_errors: whether ``:error:`` or ``%last_error%`` is an operand anywhere.
        reads_last_error: whether ``%last_error%`` is.
        contested: names of which the meaning is a matter of positions (``scopes``): those that several instructions set, iterators that
            are set as well, those that may be read before they are set (``fail`` and error registers do so without being refused), and
            those that are set behind the ``next`` of a fold whose last instruction has its turn before that.
    """

    nodes: Sequence[tree.Instruction]
    ends: Sequence[int]
    next_of: Mapping[int, float]
    reads_errors: bool
    reads_last_error: bool
    contested: frozenset[str]


@once_per_script
def heads_of(_script: tree.Script) -> dict[int, str]:
    """The texts of instructions as errors show them, by number; each is put there when it is first shown."""
    return {}


@once_per_script
def plan_of(script: tree.Script) -> Plan:
    """The plan of a script; scripts are told apart by identity."""
    nodes = list(tree.walk(script.root))
    ends = _ends(nodes)
    next_of: dict[int, float] = {}
    folds: dict[str, int] = {}
    writers: dict[str, list[int]] = {}
    registers: set[type] = set()
    unchecked: set[str] = set()
    for node in nodes:
        if (name := name_set_by(node)) is not None:
            writers.setdefault(name, []).append(node.number)
        elif type(node) is tree.Fold:
            next_of[node.number] = BEYOND
            folds[node.iterator] = node.number
        elif type(node) is tree.Next:
            # Folds of one iterator never stand in one another.
            next_of[folds[node.iterator]] = node.number
        for operand in tree.operands(node):
            if type(operand) in _REGISTERS:
                registers.add(type(operand))
                unchecked.update(tree.names_in(operand))
            elif type(node) is tree.FailValue:
                unchecked.update(tree.names_in(operand))
    contested = {name for name, set_at in writers.items() if len(set_at) > 1 or name in folds or name in unchecked}
    contested.update(_first_set_within(writers, _behind_next(nodes, ends, next_of)))
    return Plan(nodes, ends, next_of, bool(registers), tree.LastError in registers, frozenset(contested))


_REGISTERS: Final = frozenset((tree.Error, tree.LastError))


def _ends(nodes: Sequence[tree.Instruction]) -> list[int]:
    ends = list(range(len(nodes)))
    for node in reversed(nodes):
        if inside := tree.children(node):
            ends[node.number] = ends[inside[-1].number]
    return ends


def name_set_by(node: tree.Instruction) -> str | None:
    """The name of a scalar, canon or canon map that an instruction sets."""
    target: object = None
    if type(node) is tree.CallInstruction:
        target = node.output
    elif type(node) is tree.Ap:
        target = node.target
    elif type(node) is tree.Canon:
        return node.target.name
    return target.name if type(target) is tree.Scalar else None


def _first_set_within(writers: Mapping[str, Sequence[int]], stretches: Iterable[tuple[int, int]]) -> Iterator[str]:
    """The names that are first set behind the beginning of a stretch and not behind its end; there may be tens of thousands of both."""
    names = sorted(writers, key=lambda name: writers[name][0])
    numbers = [writers[name][0] for name in names]
    done = 0
    for first, last in sorted(stretches):
        begin, end = max(done, bisect_right(numbers, first)), bisect_right(numbers, last)
        yield from names[begin:end]
        done = max(done, end)


def _behind_next(
    nodes: Sequence[tree.Instruction], ends: Sequence[int], next_of: Mapping[int, float]
) -> Iterator[tuple[int, int]]:
    """For each fold with a last instruction the numbers of its ``next`` and of the end of its body."""
    for number, following in next_of.items():
        fold = nodes[number]
        assert isinstance(fold, tree.Fold)
        if fold.last is not None and following != BEYOND:
            yield int(following), ends[fold.body.number]
