"""``%last_error%``: the innermost failing instruction sets it, unless the error is a failed test or the register is locked.

Setting locks it; the start of a handler and the end of a ``par`` with a branch that did not fail unlock it. What it holds at a position is
what one walk through the script up to there would leave in it. Source: AquaVM 0.62, last error descriptor.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Final

from fluvial.air.data.content import Json
from fluvial.air.machine.errors import NO_ERROR
from fluvial.air.machine.positions import Key
from fluvial.air.machine.provenance import Provenance


@dataclass(frozen=True, slots=True, order=True)
class _RegisterChange:
    key: Key
    unlocks: bool
    always: bool = field(default=False, compare=False)
    error: Json = field(default=None, compare=False)
    origin: Provenance | None = field(default=None, compare=False)


_CHANGE_BYTES: Final = 1_000
"""Memory of an error in the register, without its text."""


class LastErrorRegister:
    """The register; ``used`` is false if no instruction of the script reads it: then nothing is kept."""

    __slots__ = ("_events", "_used")

    def __init__(self, *, used: bool) -> None:
        self._used: Final = used
        self._events: list[_RegisterChange] = []

    def set(self, key: Key, error: Json, origin: Provenance | None, *, always: bool = False) -> None:
        """An instruction at this position failed; ``always``: it sets the register also if that is locked."""
        if self._used:
            insort(self._events, _RegisterChange(key, False, always, error, origin))

    def forget(self, key: Key) -> None:
        """The instruction at this position has not failed after all."""
        self._events = [event for event in self._events if event.unlocks or event.key != key]

    def unlock(self, key: Key) -> None:
        """From this position on the next error may be remembered."""
        if self._used:
            insort(self._events, _RegisterChange(key, True))

    def keep_locked(self, key: Key) -> None:
        """Take back what was unlocked at this position: a ``par`` of which the second branch failed as well."""
        if self._used and _RegisterChange(key, True) in self._events:
            self._events.remove(_RegisterChange(key, True))

    @property
    def held(self) -> int:
        """How many bytes of memory it takes, about."""
        return sum(_CHANGE_BYTES + getsizeof(event.error["message"]) for event in self._events if event.error)

    def at(self, key: Key) -> tuple[Json, Provenance | None]:
        """The error object that is read at a position, and the failed call if it was one."""
        error: Json = NO_ERROR
        origin: Provenance | None = None
        locked = False
        for event in self._events[: bisect_left(self._events, _RegisterChange(key, False))]:
            if event.unlocks:
                locked = False
            elif event.always or not locked:
                error, origin, locked = event.error, event.origin, True
        return error, origin
