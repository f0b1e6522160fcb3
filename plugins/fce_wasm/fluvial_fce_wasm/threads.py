"""Where the steps of a guest are made: in the thread of the event loop, or in a worker thread.

A change of thread costs many times what a short call does, so a call begins in the thread of the event loop, unless its arguments are large. When its
time slice is over (``guest/engine.py``), or the host has given it a large answer, a worker thread makes the rest of its steps; nothing is lost. :class:`Pace` remembers which functions
take long, and lets most of their next calls begin in a worker thread. So whatever a guest does, it rarely holds the event loop, and never for longer than a tick.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from time import perf_counter, thread_time
from typing import Any, Final, TypeVar

import anyio
from fluvial.virtual.threads import in_thread

T = TypeVar("T")
SHORT_S: Final = 0.000_5
"""A function that holds the event loop for longer is a slow one."""
CALL_INLINE_S: Final = 0.005
"""How long one call may hold it in all, between questions to the host."""
INLINE_CHARACTERS_MAX: Final = 16_384
INLINE_VALUES_MAX: Final = 256
INLINE_RESULT_BYTES: Final = 65_536
CALLS_AT_A_STRETCH: Final = 16
"""After so many calls without a turn of the event loop it gets one."""
SKIPS_MIN: Final = 4
SKIPS_MAX: Final = 1_024
FORGIVEN: Final = 64
"""So many short calls outweigh one that was skipped."""
THREADS_MAX: Final = 64


class _Record:
    __slots__ = ("left", "short", "skips")

    def __init__(self) -> None:
        self.left = self.short = 0
        self.skips = SKIPS_MIN // 4


class Pace:
    """Which functions of a service hold the event loop for too long.

    A first late call may have been made to wait by somebody else, so it makes a function watched only: the next calls are measured in time
    of the processor, which takes longer. Of a watched function each late call lets twice as many of the next ones begin in a worker thread as the one before.
    """

    def __init__(self) -> None:
        self._watched: dict[Hashable, _Record] = {}

    def is_quick(self, function: Hashable) -> bool:
        """Whether the next call of a function should begin in the thread of the event loop; to be asked once for each call."""
        if not self._watched or (record := self._watched.get(function)) is None or not record.left:
            return True
        record.left -= 1
        return False

    def clock(self, function: Hashable) -> Callable[[], float]:
        """What its calls are to be measured with: seconds."""
        return thread_time if self._watched and function in self._watched else perf_counter

    def was_short(self, function: Hashable) -> None:
        """A call held the event loop for a moment only."""
        if not self._watched or (record := self._watched.get(function)) is None:
            return
        record.short += 1
        if record.short >= FORGIVEN * record.skips:
            record.short, record.skips = 0, record.skips // 2
            if record.skips < SKIPS_MIN:
                del self._watched[function]

    def was_late(self, function: Hashable) -> None:
        """A call held it for too long."""
        record = self._watched.setdefault(function, _Record())
        record.skips = min(SKIPS_MAX, 2 * record.skips)
        record.left = record.skips if record.skips >= SKIPS_MIN else 0
        record.short = 0


def is_small(arguments: Sequence[Any]) -> bool:
    """Whether it takes no time to lay out arguments, or an answer of the host: few values, and short texts. Anything but JSON and bytes is small, as it is refused."""
    values, characters = INLINE_VALUES_MAX, INLINE_CHARACTERS_MAX
    waiting: Iterable[Any] = arguments
    while waiting:
        inner: list[Any] = []
        for one in waiting:
            kind = type(one)
            if kind is str or kind is bytes:
                characters -= len(one)
            elif kind is list or kind is tuple or kind is dict:
                values -= len(one)
                if values < 0:
                    return False
                inner += one.values() if kind is dict else one
        waiting = inner
    return characters >= 0


class GuestThreads:
    """Worker threads of guests, and turns for the event loop; used from one event loop."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None
        self._handing_over = anyio.Lock()
        self._stretch = 0

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work`` in a worker thread. Whoever is cancelled waits for it, and has it."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(THREADS_MAX)
        with anyio.CancelScope(shield=True):
            value = await in_thread(work, limiter=self._limiter)
        return value  # noqa: RET504 - the scope could swallow an exception, as far as mypy knows

    async def hand_over(self, work: Callable[[], T]) -> T:
        """As :meth:`run`, of the first step of a call with large arguments: one after another, as on their way into a guest they take many times their memory."""
        async with self._handing_over:
            return await self.run(work)

    def is_stretch_over(self) -> bool:
        """Whether the event loop must have a turn now, as callers that call again and again must not keep it for themselves."""
        self._stretch += 1
        if self._stretch < CALLS_AT_A_STRETCH:
            return False
        self._stretch = 0
        return True
