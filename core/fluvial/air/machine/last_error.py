"""``%last_error%``: the innermost failing instruction sets it, unless the error is a failed test or the register is locked.

Setting locks it; the start of a handler and the end of a ``par`` with a branch that did not fail unlock it. What it holds at a position is
what one walk through the script up to there would leave in it. Source: AquaVM 0.62, last error descriptor.

After whatever sets it, and whether or not it has an effect, the register is locked. So what sets it has an effect if it always has, or if what
stands right before it unlocks the register, or nothing does. That is kept up to date where something changes: no walk is ever made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from sys import getsizeof
from typing import Final, NamedTuple, TypeAlias

from fluvial.air.data.content import Json
from fluvial.air.machine.errors import NO_ERROR
from fluvial.air.machine.positions import Key
from fluvial.air.machine.provenance import Provenance


class _Failure(NamedTuple):
    """What sets the register; ``always``: also if it is locked."""

    error: Json
    origin: Provenance | None
    always: bool


_Place: TypeAlias = tuple[Key, bool]
"""Where the register changes, and whether it is unlocked there: after it was set at the same position."""

_CHANGE_BYTES: Final = 1_000
"""Memory of an error in the register, without its text and position."""
_UNLOCKING_BYTES: Final = 250
"""Memory of what unlocks it, without its position."""


class LastErrorRegister:
    """The register; ``used`` is false if no instruction of the script reads it: then nothing is kept.

    Attributes:
        held: how many bytes of memory it takes, about.
    """

    __slots__ = ("_failures", "_keys", "_places", "_shown", "_used", "held")

    def __init__(self, *, used: bool) -> None:
        self.held = 0
        self._used: Final = used
        self._places: list[_Place] = []
        self._failures: list[_Failure | None] = []  # at each place; None where it is unlocked
        self._keys: list[Key] = []
        self._shown: list[_Failure] = []  # behind each of these keys

    def set(self, key: Key, error: Json, origin: Provenance | None, *, always: bool = False) -> None:
        """An instruction at this position failed; ``always``: it sets the register also if that is locked."""
        if self._used:
            self._add((key, False), _Failure(error, origin, always))

    def forget(self, key: Key) -> None:
        """The instruction at this position has not failed after all."""
        begin, end = self._range((key, False))
        for at in reversed(range(begin, end)):
            self._remove(at)

    def unlock(self, key: Key) -> None:
        """From this position on the next error may be remembered."""
        if self._used:
            self._add((key, True), None)

    def keep_locked(self, key: Key) -> None:
        """Take back what was unlocked at this position: a ``par`` of which the second branch failed as well."""
        begin, end = self._range((key, True))
        if begin < end:
            self._remove(begin)

    def at(self, key: Key) -> tuple[Json, Provenance | None]:
        """The error object that is read at a position, and the failed call if it was one."""
        place = bisect_left(self._keys, key)
        if not place:
            return NO_ERROR, None
        shown = self._shown[place - 1]
        return shown.error, shown.origin

    # --- changes

    def _range(self, place: _Place) -> tuple[int, int]:
        return bisect_left(self._places, place), bisect_right(self._places, place)

    def _add(self, place: _Place, failure: _Failure | None) -> None:
        at = bisect_right(self._places, place)
        self._places.insert(at, place)
        self._failures.insert(at, failure)
        self.held += _weight(place[0], failure)
        self._settle(place[0])
        self._settle_behind(at)

    def _remove(self, at: int) -> None:
        key, _ = self._places.pop(at)
        self.held -= _weight(key, self._failures.pop(at))
        self._settle(key)
        self._settle_behind(at - 1)

    def _settle_behind(self, at: int) -> None:
        """Whether the next failure has an effect is another question now."""
        if at + 1 < len(self._places) and not self._places[at + 1][1]:
            self._settle(self._places[at + 1][0])

    def _settle(self, key: Key) -> None:
        """Find out what the failures at a position show, of which there are hardly ever more than one."""
        begin, end = self._range((key, False))
        shown = None
        for at in range(begin, end):
            failure = self._failures[at]
            if failure is not None and (failure.always or at == 0 or self._places[at - 1][1]):
                shown = failure
        place = bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            del self._keys[place], self._shown[place]
        if shown is not None:
            self._keys.insert(place, key)
            self._shown.insert(place, shown)


def _weight(key: Key, failure: _Failure | None) -> int:
    """What a change at a position takes. In many folds a position takes far more than all the rest."""
    if failure is None:
        return _UNLOCKING_BYTES + getsizeof(key)
    return _CHANGE_BYTES + getsizeof(key) + (getsizeof(failure.error["message"]) if failure.error else 0)
