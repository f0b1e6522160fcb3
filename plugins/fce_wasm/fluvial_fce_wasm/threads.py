"""Threads that run guests, and how a call gets there and back.

A queue before a thread and a wake-up of the event loop behind it cost several times what a short call costs. So there are three ways, and
:class:`Pace` chooses by what the last calls of a function took:

1. *inline*, in the thread of the event loop, for functions of stateless services that have been short several times in a row. Their guests can be
   stopped after :data:`INLINE_S`, thrown away, and the call made again in another way;
2. *handed over*: a thread makes the call, and the event loop waits for it a moment, at most :data:`PATIENCE_S`;
3. in the usual way, when that moment was not enough, and for functions of which that is known.

So whatever a guest does, it holds the event loop for one of these two times.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Hashable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

T = TypeVar("T")
PATIENCE_S: Final = 0.000_2
"""How long the event loop waits for a call that a thread makes: about what it costs not to wait."""
INLINE_S: Final = 0.001
"""How long a call may take that is made inline, beside the length of a tick (``guest/engine.py``)."""
INLINE_CHARACTERS_MAX: Final = 16_384
INLINE_MODULES_MAX: Final = 4
"""Their stacks are on that of the event loop's thread, which may have no more than eight megabytes."""
INLINE_RESULT_BYTES: Final = 65_536
PROVEN_CALLS: Final = 8
CALLS_AT_A_STRETCH: Final = 16
"""After so many calls without a turn of the event loop it gets one."""
SKIPS_MAX: Final = 1_024
IDLE_S: Final = 10.0
"""After so many seconds without calls a thread ends."""
THREADS_MAX: Final = 64
_SCALARS: Final = (int, float, bool, type(None))
STACK_BYTES: Final = 16 * 2**20
"""Of a thread: each module of a chain of calls has half a megabyte of it."""


class Pace:
    """What is known of how long the calls of each function of a service take."""

    def __init__(self) -> None:
        self._short: dict[Hashable, int] = {}
        self._late: dict[Hashable, tuple[int, int]] = {}

    def is_proven(self, function: Hashable) -> bool:
        """Whether the last calls of a function were short, so many that the next one may be made inline."""
        return self._short.get(function, 0) >= PROVEN_CALLS

    def patience_s(self, function: Hashable) -> float:
        """How long the event loop should wait for the next call of a function."""
        left, skips = self._late.get(function, (0, 0))
        if not left:
            return PATIENCE_S
        self._late[function] = (left - 1, skips)
        return 0.0

    def was_short(self, function: Hashable) -> None:
        """A call was over in time."""
        self._short[function] = self._short.get(function, 0) + 1

    def was_late(self, function: Hashable) -> None:
        """A call was not; of the next ones, twice as many are not waited for as the time before."""
        skips = min(SKIPS_MAX, 2 * self._late.get(function, (0, 2))[1])
        self._late[function] = (skips, skips)
        self._short[function] = 0


def is_small(arguments: Sequence[Any]) -> bool:
    """Whether it takes no time to write arguments: scalars and short texts."""
    for one in arguments:
        kind = type(one)
        if kind not in _SCALARS and (kind is not str or len(one) > INLINE_CHARACTERS_MAX):
            return False
    return True


class GuestCall:
    """One piece of work for a thread.

    Args:
        work: what to do.
        on_cancel: called when whoever waits is cancelled; the work goes on all the same, and is waited for.
    """

    __slots__ = ("_context", "_error", "_listener", "_looks", "_noticed", "_on_cancel", "_over", "_value", "_work")

    def __init__(self, work: Callable[[], Any], on_cancel: Callable[[], None]) -> None:
        self._work = work
        self._on_cancel = on_cancel
        self._context = copy_context()
        self._value: Any = None
        self._error: BaseException | None = None
        self._over = False
        self._noticed = threading.Lock()  # free as soon as the event loop needs to wait no longer
        self._noticed.acquire()
        self._looks = True
        self._listener: tuple[asyncio.AbstractEventLoop, anyio.Event] | None = None

    def run(self) -> None:
        """Do it, in a thread."""
        try:
            self._value = self._context.run(self._work)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        self._over = True
        self.look_away()
        if (
            self._listener is not None
        ):  # it is set before `over` is read, and this is the other way round: one of both sees the other
            loop, event = self._listener
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(event.set)

    def look_away(self) -> None:
        """Let the event loop go on, as the work takes longer or needs it; called by the thread that works."""
        if self._looks:
            self._looks = False
            self._noticed.release()

    def is_over_within(self, seconds: float) -> bool:
        """Wait for it in the thread of the event loop."""
        return self._noticed.acquire(timeout=seconds) and self._over

    async def ended(self) -> None:
        """Wait until it is over. Whoever is cancelled waits, too."""
        event = anyio.Event()
        self._listener = (asyncio.get_running_loop(), event)
        if self._over:
            return
        try:
            await event.wait()
        except anyio.get_cancelled_exc_class():
            self._on_cancel()
            with anyio.CancelScope(shield=True):
                await event.wait()
            raise

    def result(self) -> Any:
        """What it gave, when it is over; raises what it raised."""
        if self._error is None:
            return self._value
        try:
            raise self._error
        finally:
            self._error = None  # it refers to this frame


class LoopLine:
    """From a thread to the event loop on which this is made: a coroutine is run there, and the thread waits for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop: Callable[[], object] = lambda: None

    def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """What the coroutine gives; raises what it raises, and CancelledError."""
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._stop = asked.cancel
        return asked.result()

    def cancel(self) -> None:
        """Cancel the coroutine that is waited for, if there is one."""
        self._stop()


class _Worker:
    def __init__(self, retires: Callable[[_Worker], bool]) -> None:
        self._retires = retires
        self._call: GuestCall | None = None
        self._wanted = threading.Lock()
        self._wanted.acquire()
        before = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=self._work, name="fluvial-fce-guest", daemon=True).start()
        finally:
            threading.stack_size(before)

    def give(self, call: GuestCall) -> None:
        self._call = call
        self._wanted.release()

    def _work(self) -> None:
        while True:
            if not self._wanted.acquire(timeout=IDLE_S):
                if self._retires(self):
                    return
                continue  # it was just taken, and gets a call
            call, self._call = self._call, None
            assert call is not None
            call.run()
            del call


class GuestThreads:
    """Threads, as many as there are calls at the same time; used from one event loop."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._changing = threading.Lock()
        self._count = 0
        self._stretch = 0

    async def run(self, call: GuestCall, pace: Pace, function: Hashable) -> Any:
        """The result of a call, made in a thread; raises what it raises. Under virtual time it is made here and now."""
        if is_virtual() or (worker := self._taken()) is None:
            await in_thread(call.run)
            return call.result()
        worker.give(call)
        try:
            if seconds := pace.patience_s(function):
                if call.is_over_within(seconds):
                    pace.was_short(function)
                    await self.turn()
                    return call.result()
                pace.was_late(function)
            await call.ended()
        finally:
            self._idle.append(worker)
        return call.result()

    async def turn(self) -> None:
        """Callers that call again and again must not keep the event loop for themselves."""
        self._stretch += 1
        if self._stretch >= CALLS_AT_A_STRETCH:
            self._stretch = 0
            await anyio.lowlevel.checkpoint()

    def _taken(self) -> _Worker | None:
        with self._changing:
            if self._idle:
                return self._idle.pop()
            if self._count >= THREADS_MAX:
                return None
            self._count += 1
        return _Worker(self._retired)

    def _retired(self, worker: _Worker) -> bool:
        with self._changing:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            self._count -= 1
            return True
