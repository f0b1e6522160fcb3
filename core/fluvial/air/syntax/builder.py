"""The stack of instructions that are being read, and the tree that grows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct

from fluvial.air.syntax.checks import Checks
from fluvial.air.syntax.errors import AirSyntaxError, SourceText, TooLarge
from fluvial.air.syntax.operands import OperandParser
from fluvial.air.syntax.reader import Group, Node
from fluvial.air.syntax.tree import (
    Canon,
    CanonMap,
    CanonStream,
    Fold,
    InitPeerId,
    Instruction,
    Next,
    PairPeer,
    Par,
    Position,
    Scalar,
    Seq,
    Stream,
    Triplet,
    Xor,
    names_in,
)

NESTING_MAX = 2_000
"""The deepest nesting of instructions, a chain of ``seq`` being one level; far beyond what people or compilers write."""


class CalledPeer(NamedTuple):
    """The peer of a call.

    Attributes:
        peer: as the script names it.
        newest: number of the last definition among those of the names in it (``Checks.mark``); -1 if there are none.
    """

    peer: Triplet = InitPeerId()
    newest: int = -1


class Frame(Struct):
    """An instruction whose inner instructions are being read.

    Attributes:
        kind: what instruction it is.
        pending: its inner instructions still to be read, the next one last.
        build: makes the instruction of its finished inner ones.
        iterator: of a fold, its iterator.
        over_stream: of a fold, whether it runs over a stream or stream map.
        mark: of a fold, how many names were defined before it (``Checks.mark``).
        before: of a fold, the last call before it.
        children: its finished inner instructions.
        ends_in: the iterator whose ``next`` ends what was read so far.
    """

    kind: type[Instruction]
    pending: list[Group]
    build: Callable[[list[Instruction]], Instruction]
    iterator: str = ""
    over_stream: bool = False
    mark: int = 0
    before: CalledPeer = CalledPeer()
    children: list[Instruction] = []
    ends_in: str | None = None
    _torn: bool = False

    def add(self, child: Instruction, ends_in: str | None) -> None:
        """Take a finished inner instruction; ``ends_in`` is the iterator whose ``next`` ends it."""
        first = not self.children
        self.children.append(child)
        if ends_in is None and self.ends_in is None:
            return
        if self.kind is Fold:
            if first and self.over_stream and ends_in != self.iterator:
                self.ends_in = ends_in
        elif first:
            self.ends_in = ends_in
        elif self.kind is Xor:
            # `next` of two different folds in the branches: which one ends it depends on the run
            self.ends_in = None if self.ends_in and ends_in else self.ends_in or ends_in
        else:
            self._torn = self._torn or self.ends_in is not None
            self.ends_in = None if self._torn else ends_in


class Builder:
    """Builds one script's tree, instruction by instruction in text order.

    Args:
        source: the script.
        nodes: its parts.
        paper: whether it is known to have an older form, so that peers may be pairs.
    """

    def __init__(self, source: SourceText, nodes: list[Node], *, paper: bool) -> None:
        self.source = source
        self.checks = Checks(source, nodes)
        self.operands = OperandParser(source, self.checks)
        self.size = 0
        self._last_call = CalledPeer()
        self._paper = paper
        self._frames: list[Frame] = []

    def number(self) -> int:
        """The next instruction's number; to be taken when an instruction begins."""
        self.size += 1
        return self.size - 1

    def at(self, group: Group) -> Position:
        """Where an instruction begins."""
        return self.source.position(group.start)

    def error(self, kind: type[AirSyntaxError], problem: str, node: Node, hint: str = "") -> AirSyntaxError:
        """An error about a part of the script, to be raised."""
        return self.operands.error(kind, problem, node, hint)

    def peer(self, operand: Triplet) -> Triplet:
        """A peer as the script means it: in a paper script a value may name a peer and a service."""
        if self._paper and isinstance(operand, Scalar | CanonStream | CanonMap):
            return PairPeer(operand)
        return operand

    def calls(self, operand: Triplet) -> Triplet:
        """As :meth:`peer`, for a call, which is the last one until there is another."""
        peer = self.peer(operand)
        # Looked at once: its lambda may have a hundred thousand names.
        self._last_call = CalledPeer(peer, max(map(self.checks.number_of, names_in(peer)), default=-1))
        return peer

    @property
    def last_peer(self) -> Triplet:
        """The peer of the last call."""
        return self._last_call.peer

    @property
    def in_seq(self) -> bool:
        """Whether the instruction that is met now stands directly in a ``seq``."""
        return bool(self._frames) and self._frames[-1].kind is Seq

    def put_in_seq(self, first: Group, second: Group) -> None:
        """Give two instructions to the ``seq`` around."""
        self._frames[-1].pending += (second, first)

    def open(self, frame: Frame, start: Node) -> None:
        """Begin an instruction with inner ones."""
        if len(self._frames) >= NESTING_MAX:
            hint = "nested `seq` count as one level; flatten the others, or loop with `fold`"
            raise self.error(TooLarge, f"more than {NESTING_MAX:,} instructions are nested here", start, hint)
        self._frames.append(frame)

    def fix_streams(self, group: Group) -> None:
        """Canonicalise the streams that an instruction reads in the white paper's way, before it in its ``seq``."""
        if not self.operands.reads:
            return
        reads = self.operands.take_reads()
        at = self.at(group)
        if not self.in_seq:
            number = self.number()
            self.open(Frame(Seq, [], lambda inner: Seq(number=number, at=at, children=tuple(inner))), group)
        for read in reads:
            fixed = Canon(
                number=self.number(),
                at=at,
                peer=self.last_peer,
                source=Stream(read.stream),
                target=CanonStream(read.now),
            )
            self._frames[-1].add(fixed, None)

    def next_part(self) -> Group:
        """The instruction to read next."""
        frame = self._frames[-1]
        part = frame.pending.pop()
        if frame.ends_in is not None and frame.kind in (Seq, Par):
            self.checks.after_next(frame.ends_in, part)
        return part

    def deliver(self, instruction: Instruction) -> Instruction | None:
        """Give a finished instruction to the one around it; the whole tree once nothing is around."""
        ends_in = instruction.iterator if type(instruction) is Next else None
        while self._frames:
            frame = self._frames[-1]
            frame.add(instruction, ends_in)
            if frame.pending:
                return None
            self._frames.pop()
            instruction, ends_in = frame.build(frame.children), frame.ends_in
            if frame.kind is Fold:
                self._close_fold(frame)
        return instruction

    def open_fold(self, frame: Frame, group: Group) -> None:
        """Begin a fold."""
        frame.before = self._last_call
        self.open(frame, group)

    def _close_fold(self, frame: Frame) -> None:
        self.checks.close_fold(frame.iterator)
        if self._last_call.newest >= frame.mark:
            self._last_call = frame.before
