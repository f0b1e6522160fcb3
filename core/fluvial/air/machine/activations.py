"""Activations: the run-time instances of instructions, each with the state that its kind of instruction needs.

They are plain data. What an activation does when it has a turn is written in ``control``, ``assignments``, ``calls``, ``canons``, ``folds`` and
``throwing``; when it has a turn is decided by the ``agenda``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeAlias

from fluvial.air.data.pace import Found
from fluvial.air.machine.errors import Catchable
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.positions import FramePosition, Key
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.scopes import Scope, Viewpoint
from fluvial.air.machine.streams import LocalStream
from fluvial.air.machine.values import Value
from fluvial.air.syntax import tree


class Completeness(IntEnum):
    """The state of an activation; it changes once at most, from open to one of the others.

    TRUE and KEEP are complete. KEEP leaves the completeness flag of the flow as it was before the activation. FAILED is not complete.
    """

    OPEN = 0
    TRUE = 1
    KEEP = 2
    FAILED = 3


OPEN, TRUE, KEEP, FAILED = Completeness.OPEN, Completeness.TRUE, Completeness.KEEP, Completeness.FAILED


@dataclass(slots=True, eq=False)
class Activation(Viewpoint):
    """One activation of an instruction.

    Attributes:
        node: the instruction.
        place: the frame in which it stands.
        parent: the activation around it; None for the outermost one.
        status: its state.
        due: whether it is on the agenda at its own position.
        error, flag: once it has failed, the error, and how it leaves the completeness flag (OPEN stands for false).
    """

    node: tree.Instruction
    place: FramePosition
    parent: Activation | None
    status: Completeness = OPEN
    due: bool = False
    flag: Completeness = KEEP
    error: Catchable | None = None

    @property
    def id(self) -> tuple[bytes, int]:
        """Its name in facts; equal to the ``Instance`` of these parts."""
        return self.place.frame, self.node.number

    def fail(self, error: Catchable | None, flag: Completeness) -> None:
        """It ends with an error: its own, or that of a part that has failed."""
        self.status = FAILED
        self.error = error
        self.flag = flag

    def follow(self, child: Activation) -> None:
        """It ends as its only part does, if that has ended."""
        if child.status is FAILED:
            self.fail(child.error, child.flag)
        else:
            self.status = child.status


@dataclass(slots=True, eq=False)
class SimpleActivation(Activation):
    """An instruction that keeps nothing from turn to turn: ``ap``, ``fail``, ``null``, ``never``."""


@dataclass(slots=True, eq=False)
class SeqActivation(Activation):
    """``seq``: the part that runs, and which one it is."""

    node: tree.Seq
    child: Activation | None = None
    index: int = 0


@dataclass(slots=True, eq=False)
class ParActivation(Activation):
    """``par``: both branches, once they have begun."""

    node: tree.Par
    left: Activation | None = None
    right: Activation | None = None


@dataclass(slots=True, eq=False)
class XorActivation(Activation):
    """``xor``: both parts, once they have begun; ``caught``: whether the failure of the left part was noticed."""

    node: tree.Xor
    left: Activation | None = None
    right: Activation | None = None
    caught: bool = False


@dataclass(slots=True, eq=False)
class BodyActivation(Activation):
    """``new``, ``match``, ``mismatch``.

    Attributes:
        child: the body, once it has begun.
        passed: whether the test has passed.
        work: how large values are being compared, in slices.
    """

    node: tree.New | tree.Match | tree.Mismatch
    child: Activation | None = None
    passed: bool = False
    work: Found[bool] | None = None


@dataclass(slots=True, eq=False)
class FoldActivation(Activation):
    """``fold`` over something fixed: the first iteration, and before it has begun the elements."""

    node: tree.Fold
    child: Activation | None = None
    elements: Sequence[Value] | None = None


@dataclass(slots=True, eq=False)
class StreamFoldActivation(Activation):
    """``fold`` over a stream.

    Attributes:
        stream: the stream, once it is known.
        visited: how many elements of the stream it has looked at.
        paid: how many elements of the next chain were counted as work.
        changed: the chain of iterations whose state has changed since the last turn.
    """

    node: tree.Fold
    stream: LocalStream[StreamFoldActivation] | None = None
    visited: int = 0
    paid: int = 0
    changed: Activation | None = None


@dataclass(slots=True, eq=False)
class NextActivation(Activation):
    """``next``: the next iteration or the last instruction, once it has begun; ``at_end``: it is the last instruction."""

    node: tree.Next
    child: Activation | None = None
    at_end: bool = False


@dataclass(slots=True, eq=False)
class FactActivation(Activation):
    """A call or canon, which needs a fact of its peer.

    Attributes:
        call: peer, service and function; only the peer for a canon. None until they are known.
        known: the facts about this instance; None until ``call`` is known.
    """

    node: tree.CallInstruction | tree.Canon
    call: Provenance | None = None
    known: InstanceFacts | None = None

    @property
    def peer(self) -> str:
        """The peer whose fact it needs, once that is known."""
        assert self.call is not None, "the peer was resolved before anything is waited for"
        return self.call.peer


@dataclass(slots=True, eq=False)
class CanonActivation(FactActivation):
    """``canon``.

    Attributes:
        proven: the first of the elements that its peer has fixed, as far as they follow from signed facts.
        size: of those that were put together from others, as ``check_json`` counts it.
        work: what is left to do of its turn, if that goes on in the next slice.
    """

    node: tree.Canon
    proven: list[Value] = field(default_factory=list)
    size: int = 0
    work: Iterator[None] | None = None


@dataclass(slots=True, eq=False)
class CallActivation(FactActivation):
    """``call``.

    Attributes:
        arguments: its arguments, once all are known.
        read: the first of them, while they are being read in slices.
        asked: whether the service of this peer was asked.
        work: how the arguments are being named, in slices.
    """

    node: tree.CallInstruction
    arguments: tuple[Value, ...] | None = None
    read: list[Value] | None = None
    asked: bool = False
    work: Iterator[None] | None = None


def _fold(
    key: Key, scope: Scope, node: tree.Fold, place: FramePosition, parent: Activation | None
) -> FoldActivation | StreamFoldActivation:
    kind = StreamFoldActivation if type(node.iterable) in tree.STREAMS else FoldActivation
    return kind(key, scope, node, place, parent)


Maker: TypeAlias = Callable[[Key, Scope, Any, FramePosition, Activation | None], Activation]
"""Makes the activation of an instruction: its key, its scope, the node, its place, the activation around it."""

MAKERS: Final[Mapping[type[tree.Instruction], Maker]] = {
    tree.Ap: SimpleActivation,
    tree.ApMap: SimpleActivation,
    tree.CallInstruction: CallActivation,
    tree.Canon: CanonActivation,
    tree.FailLiteral: SimpleActivation,
    tree.FailValue: SimpleActivation,
    tree.Fold: _fold,
    tree.Match: BodyActivation,
    tree.Mismatch: BodyActivation,
    tree.Never: SimpleActivation,
    tree.New: BodyActivation,
    tree.Next: NextActivation,
    tree.Null: SimpleActivation,
    tree.Par: ParActivation,
    tree.Seq: SeqActivation,
    tree.Xor: XorActivation,
}
"""By kind of instruction."""
