"""Where failures on several peers come together: what the script alone says of it; worked out once per script, when it is first needed.

A ``par`` of which one branch failed on one peer and the other one on another fails nowhere, unless both failures come to one peer. The
*meeting point* of the ``xor`` that would catch the error is the peer with which the flow would then go on: that of the first call or canon
in the handler, or behind it. All peers must find the same one, so only names count that have a value wherever the ``xor`` is reached;
else it is the initiator.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.plan import plan_of
from fluvial.air.machine.positions import BEYOND
from fluvial.air.syntax import tree

NOWHERE: Final = 0
"""No instruction: what follows another one is never the outermost one."""

_Kinds: TypeAlias = tuple[type[tree.Instruction], ...]


@dataclass(frozen=True, slots=True)
class Meetings:
    """See the module's docstring.

    Attributes:
        failing: the numbers of instructions that can end with an error; a few more than really can.
        peers: for the number of each ``xor`` the operand that names its meeting point, to be evaluated where the ``xor`` stands; missing
            if nothing comes of its handler.
    """

    failing: frozenset[int]
    peers: Mapping[int, tree.Triplet]


@once_per_script
def meetings_of(script: tree.Script) -> Meetings:
    """The meeting points of a script; scripts are told apart by identity."""
    outline = _Outline(script)
    names = _KnownNames(outline)
    then = _Continuations(outline)
    peers: dict[int, tree.Triplet] = {}
    for node in outline.nodes:
        if not isinstance(node, tree.Xor):
            continue
        found = then.after_left(node)
        if found:
            operand = getattr(outline.nodes[found], "peer", None)
            peers[node.number] = operand if operand and names.known(operand, node.number) else tree.InitPeerId()
        elif outline.contains(node.right, _WRITING):
            peers[node.number] = tree.InitPeerId()
    return Meetings(_failing(outline), peers)


_NAMING: Final[_Kinds] = (tree.CallInstruction, tree.Canon, tree.Next)
_THROWING: Final[_Kinds] = (tree.FailLiteral, tree.FailValue)
_WRITING: Final[_Kinds] = (tree.Ap, tree.ApMap)


class _Outline:
    """The instructions by number, what they stand in and where they end."""

    def __init__(self, script: tree.Script) -> None:
        plan = plan_of(script)
        self.nodes: Final = plan.nodes
        self.ends: Final = plan.ends
        self.next_of: Final = plan.next_of
        self.parents: Final[list[tree.Instruction | None]] = [None] * len(self.nodes)
        for node in self.nodes:
            for child in tree.children(node):
                self.parents[child.number] = node
        self._following: Final = {kinds: self._first_from(kinds) for kinds in (_NAMING, _THROWING, _WRITING)}

    def _first_from(self, kinds: _Kinds) -> list[int]:
        """For each number that of the first instruction of these kinds from there on."""
        found = [len(self.nodes)] * (len(self.nodes) + 1)
        for node in reversed(self.nodes):
            found[node.number] = node.number if isinstance(node, kinds) else found[node.number + 1]
        return found

    def first_named(self, start: int, end: int) -> int:
        """The first call, canon or ``next`` with a number from ``start`` to ``end``."""
        found = self._following[_NAMING][start]
        return found if found <= end else NOWHERE

    def contains(self, node: tree.Instruction, kinds: _Kinds) -> bool:
        """Whether an instruction of these kinds is in one."""
        return self._following[kinds][node.number] <= self.ends[node.number]


class _Continuations:
    """Which call, canon or ``next`` comes first after an instruction, if that completes and if it fails."""

    def __init__(self, outline: _Outline) -> None:
        self._outline = outline
        self._completed = [NOWHERE] * len(outline.nodes)
        self._failed = [NOWHERE] * len(outline.nodes)
        for number, parent in enumerate(outline.parents):
            if parent is not None:
                self._completed[number], self._failed[number] = self._in(parent, number)

    def after_left(self, node: tree.Xor) -> int:
        """What comes when the left part has failed: in the right part, or after it."""
        outline, number = self._outline, node.number
        if found := outline.first_named(node.right.number, outline.ends[number]):
            return found
        completed, failed = self._completed[number], self._failed[number]
        return failed or completed if outline.contains(node.right, _THROWING) else completed or failed

    def _in(self, parent: tree.Instruction, number: int) -> tuple[int, int]:
        """For a part of an instruction whose own continuations are known."""
        outline = self._outline
        completed, failed = self._completed[parent.number], self._failed[parent.number]
        match parent:
            case tree.Seq():
                return outline.first_named(outline.ends[number] + 1, outline.ends[parent.number]) or completed, failed
            case tree.Xor() if number == parent.left.number:
                return completed, self.after_left(parent)
            case tree.Fold() if (following := outline.next_of[parent.number]) != BEYOND:
                # A later iteration stands in the `next` of the one before.
                behind = outline.first_named(int(following) + 1, outline.ends[parent.body.number])
                return behind or completed, failed or int(following)
            case tree.Fold(iterable=tree.Stream() | tree.StreamMap()):
                return completed, NOWHERE
            case _:
                return completed, failed


def _completed_ends(outline: _Outline) -> Sequence[int]:
    """For each instruction the last number of those that can be reached only when it is complete."""
    ends = list(outline.ends)
    for number, parent in enumerate(outline.parents):
        if isinstance(parent, tree.Seq | tree.New | tree.Match | tree.Mismatch):
            ends[number] = ends[parent.number]  # found before: its number is smaller
    return ends


class _KnownNames:
    """Which names have a value wherever an instruction is reached, and the same one on all peers."""

    def __init__(self, outline: _Outline) -> None:
        self._ends = outline.ends
        self._folds: dict[str, list[int]] = {}
        self._written: dict[str, list[tuple[int, float]]] = {}
        completed = _completed_ends(outline)
        for node in outline.nodes:
            match node:
                case tree.CallInstruction(output=tree.Scalar(name)) | tree.Ap(target=tree.Scalar(name)):
                    self._written.setdefault(name, []).append((node.number, completed[node.number]))
                case tree.Canon(target=target):
                    self._written.setdefault(target.name, []).append((node.number, completed[node.number]))
                case tree.New(target=target):
                    self._written.setdefault(target.name, []).append((node.number, NOWHERE))
                case tree.Fold(iterator=iterator):
                    self._folds.setdefault(iterator, []).append(node.number)

    def known(self, operand: tree.Triplet, number: int) -> bool:
        """Whether the operand can be evaluated where the instruction of this number is reached."""
        return all(self._known(name, number) for name in tree.names_in(operand))

    def _known(self, name: str, number: int) -> bool:
        written, folds = self._written.get(name, ()), self._folds.get(name, ())
        if folds:
            # Folds of one iterator never stand in one another.
            before = bisect_left(folds, number)
            return not written and before > 0 and number <= self._ends[folds[before - 1]]
        return len(written) == 1 and written[0][0] < number <= written[0][1]


def _failing(outline: _Outline) -> frozenset[int]:
    """The least set of instructions that fail by themselves or because of what is in them."""
    failing: set[int] = set()
    waiting: list[int] = [node.number for node in outline.nodes if _fails_by_itself(node)]
    while waiting:
        number = waiting.pop()
        if number in failing:
            continue
        failing.add(number)
        parent = outline.parents[number]
        match parent:
            case None:
                continue
            case tree.Par(left=left, right=right) | tree.Xor(left=left, right=right):
                if left.number in failing and right.number in failing:
                    waiting.append(parent.number)
            case tree.Fold():
                if (following := outline.next_of[parent.number]) != BEYOND:
                    waiting.append(int(following))
                if number == parent.body.number and not isinstance(parent.iterable, tree.Stream | tree.StreamMap):
                    waiting.append(parent.number)
            case _:
                waiting.append(parent.number)
    return frozenset(failing)


def _fails_by_itself(node: tree.Instruction) -> bool:
    match node:
        case tree.CallInstruction() | tree.Ap() | tree.ApMap() | tree.Match() | tree.Mismatch():
            return True
        case tree.FailLiteral() | tree.FailValue():
            return True
        case tree.Canon(peer=peer):
            return not isinstance(peer, tree.Literal | tree.InitPeerId)
        case tree.Fold(iterable=iterable):
            return isinstance(iterable, tree.Scalar) or getattr(iterable, "path", None) is not None
        case _:
            return False
