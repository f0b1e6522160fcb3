"""Run-time instances of instructions, and where they stand.

*Position keys* order everything that happens at run time as one walk through the script would, whatever the order in which facts arrive.
A key is that of the fold iteration in which the instance stands, followed by the instruction's number; an iteration's is the key
of its fold followed by ``(pass, generation, phase, index)``. Phase 0 holds what stands before ``next``, 1 the last instruction and 2, with
the index negated, what stands after ``next``. Passes and generations are 0 but in folds over streams.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from fluvial.air.data.facts import ROOT_FRAME

if TYPE_CHECKING:
    from fluvial.air.machine.errors import Catchable
    from fluvial.air.machine.knowledge import InstanceFacts
    from fluvial.air.machine.scopes import Scope
    from fluvial.air.syntax.tree import Instruction

Key: TypeAlias = tuple[float, ...]

BEYOND: Final = float("inf")
"""Greater than every part of a key: ``(*key, BEYOND)`` is where an instance ends."""

_BEFORE, _LAST, _AFTER = 0, 1, 2


class Completeness(IntEnum):
    """What an instance has come to; it only ever goes from open to one of the others.

    TRUE and KEEP are complete; KEEP leaves the completeness flag as it was before the instance. A failed one is not complete.
    """

    OPEN = 0
    TRUE = 1
    KEEP = 2
    FAILED = 3


OPEN, TRUE, KEEP, FAILED = Completeness.OPEN, Completeness.TRUE, Completeness.KEEP, Completeness.FAILED


class FramePosition(msgspec.Struct, frozen=True, gc=False):
    """An iteration of a fold, or the script outside of folds, as data and positions name it.

    Attributes:
        frame: names it in instance ids.
        before, after: its key, for instructions before and after ``next``.
        next_number: number of the ``next``; instructions with greater numbers stand after it.
    """

    frame: bytes
    before: Key
    after: Key
    next_number: float

    def key(self, number: float) -> Key:
        """The position of an instruction in it."""
        return (*(self.before if number <= self.next_number else self.after), number)


OUTSIDE: Final = FramePosition(ROOT_FRAME, (), (), BEYOND)
"""The script outside of all folds."""


def iteration_place(frame: bytes, chain: Key, index: int, next_number: float) -> FramePosition:
    """The place of an iteration's body; ``chain`` is the fold's key with pass and generation."""
    return FramePosition(frame, (*chain, _BEFORE, index), (*chain, _AFTER, -index), next_number)


def last_place(frame: bytes, chain: Key, index: int) -> FramePosition:
    """The place of a fold's last instruction, run after the iteration of this index."""
    key = (*chain, _LAST, index)
    return FramePosition(frame, key, key, BEYOND)


class Inst:
    """One instance.

    Attributes:
        node: the instruction.
        place: where it stands.
        scope: what names mean in it.
        key: its position.
        id: its name in facts; equal to the ``Instance`` of these parts.
        parent: the instance around it; None for the outermost.
        status: what it has come to.
        error, flag: if it failed, why, and how the completeness flag was left (OPEN stands for false).
        known: of a call or canon that was come to, what is known about it.
        due: whether it is on the agenda at its own position.
        child, other, index: what the instruction's own code keeps between two wake-ups.
    """

    __slots__ = (
        "child",
        "due",
        "error",
        "flag",
        "id",
        "index",
        "key",
        "known",
        "node",
        "other",
        "parent",
        "place",
        "scope",
        "status",
    )

    def __init__(self, node: Instruction, place: FramePosition, scope: Scope, parent: Inst | None) -> None:
        self.node: Any = node
        self.place = place
        number = node.number
        self.key: Final[Key] = (*(place.before if number <= place.next_number else place.after), number)
        self.id: Final[tuple[bytes, int]] = (place.frame, number)
        self.scope = scope
        self.parent = parent
        self.status = OPEN
        self.error: Catchable | None = None
        self.flag = KEEP
        self.known: InstanceFacts | None = None
        self.due = False
        self.child: Any = None
        self.other: Any = None
        self.index = 0

    def fail(self, error: Catchable, flag: Completeness) -> None:
        """It ends with an error."""
        self.status = FAILED
        self.error = error
        self.flag = flag
