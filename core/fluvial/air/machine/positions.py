"""Position keys: they order everything that happens at run time as one walk through the script would, however facts arrive.

The key of an activation is the key of the frame in which it stands, followed by the number of its instruction. The script outside of folds
has the empty key. The key of a fold iteration is the key of the fold followed by ``(pass, generation, phase, index)``:

- *pass* and *generation* are 0, except in folds over streams (``streams``);
- *phase* is 0 for what stands before ``next``, 1 for the last instruction of the fold, and 2 for what stands after ``next``;
- *index* counts the iterations. After ``next`` it is negated, because there the last iteration comes first.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from fluvial.air.data.facts import ROOT_FRAME

Key: TypeAlias = tuple[float, ...]

BEYOND: Final = float("inf")
"""Greater than every part of a key: ``(*key, BEYOND)`` is the end of the activation with this key."""

ANYTIME: Final[Key] = (BEYOND,)
"""A position after all others."""

_BEFORE, _LAST, _AFTER = 0, 1, 2


class FramePosition(msgspec.Struct, frozen=True, gc=False):
    """One iteration of a fold, or the script outside of folds: its name in facts, and its position.

    Attributes:
        frame: its name in the ids of instances.
        before, after: its key, for instructions before and after ``next``.
        next_number: the number of the ``next``; instructions with greater numbers stand after it.
    """

    frame: bytes
    before: Key
    after: Key
    next_number: float

    def key(self, number: float) -> Key:
        """The position of the instruction with this number."""
        return (*(self.before if number <= self.next_number else self.after), number)


OUTSIDE: Final = FramePosition(ROOT_FRAME, (), (), BEYOND)
"""The script outside of all folds."""


def iteration_place(frame: bytes, chain: Key, index: int, next_number: float) -> FramePosition:
    """Where the body of an iteration stands; ``chain`` is the key of the fold with pass and generation."""
    return FramePosition(frame, (*chain, _BEFORE, index), (*chain, _AFTER, -index), next_number)


def last_place(frame: bytes, chain: Key, index: int) -> FramePosition:
    """Where the last instruction of a fold stands that runs after the iteration with this index."""
    key = (*chain, _LAST, index)
    return FramePosition(frame, key, key, BEYOND)
