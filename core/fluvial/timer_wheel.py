"""Timers that are nearly always cancelled before they are due, such as deadlines of answers: one of the event loop for all of a moment.

A timer of the event loop costs a place in a heap, and comparisons with others. Here time is divided into slots of a few milliseconds; a timer is put into its
slot, and taken out when it is cancelled. Only a slot that has timers has a timer of the loop.

Source: G. Varghese, T. Lauck, *Hashed and Hierarchical Timing Wheels*, SOSP 1987, scheme 5 with slots made when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from fluvial.waiting import at, soon

SLOT_S: Final = 0.02
"""What a timer may be late, in seconds."""
_PER_S: Final = 1 / SLOT_S


class WheelTimer(msgspec.Struct, eq=False):
    """One timer; made by :meth:`TimerWheel.at`.

    Attributes:
        happen: what is called.
        slot: where it is until then.
    """

    happen: Callable[[], object]
    slot: dict[WheelTimer, None]

    def cancel(self) -> None:
        """It is not wanted any more."""
        self.slot.pop(self, None)


class TimerWheel:
    """See the module's docstring; of one event loop, which must run when a timer is set."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: dict[int, dict[WheelTimer, None]] = {}

    def at(self, when_s: float, happen: Callable[[], object]) -> WheelTimer:
        """Call something at a time of the running loop's clock or up to ``SLOT_S`` later, unless the timer is cancelled before."""
        number = int(when_s * _PER_S) + 1
        if (slot := self._slots.get(number)) is None:
            slot = self._slots[number] = {}
            at(number / _PER_S, partial(self._due, number))
        timer = WheelTimer(happen, slot)
        slot[timer] = None
        return timer

    def _due(self, number: int) -> None:
        _fire(self._slots.pop(number))


def _fire(slot: dict[WheelTimer, None]) -> None:
    """Call what is left in a slot, in the order in which it was put there; a timer may cancel others meanwhile."""
    try:
        for timer in tuple(slot):
            if timer in slot:
                del slot[timer]
                timer.happen()
    finally:
        if slot:  # one has raised, which is the loop's to report
            soon(partial(_fire, slot))
