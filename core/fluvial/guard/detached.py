"""Work in a task of its own that can be left behind.

A task group waits for its tasks, whatever they do, so code that ignores its cancellation would block its caller for ever. The owner of a detached
task decides how long to wait. It then asks the task to end, as a cancel scope would (shielded code goes on). A task that does not end is left
behind; from then on its shields are broken, too. Every exception of the task is kept, ``SystemExit``, ``KeyboardInterrupt`` and a stray
``CancelledError`` included: none reaches the event loop, which would stop for some of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from contextvars import copy_context
from typing import Final, Generic, TypeVar

import anyio

from fluvial.begun import Begun
from fluvial.guard.blame import BLAME, Blame
from fluvial.guard.stand_in import StandIns

T = TypeVar("T")

BREAK_S: Final = 1.0
"""How often work that was left behind is cancelled, whatever it shields."""
BREAKS_MAX: Final = 10


class Detached(Generic[T]):
    """See the module's docstring.

    Args:
        work: starts it.
        name: of the task, for debuggers.
        blame: told if something that the work leaves to the event loop wants to end the process; its owner's by default.
        at_once: make the first stretch, up to where the work waits for something, now, as a part of one of these, and not in the next turn of the event
            loop. It may be all of it, so a caller that does this again and again must let the loop have its turns.

    Attributes:
        error: the exception that it ended with, once it is over.
    """

    __slots__ = ("_breaks", "_over", "_result", "_scope", "_task", "_tell", "error", "name")

    def __init__(
        self,
        work: Callable[[], Awaitable[T]],
        name: str,
        *,
        blame: Blame | None = None,
        at_once: StandIns | None = None,
    ) -> None:
        self.name: Final = name
        self.error: BaseException | None = None
        self._result: T | None = None
        self._breaks = 0
        self._over = False
        self._tell: list[Callable[[], object]] = []
        if at_once is not None:
            stand_in = at_once.begin(Begun(self._run(work)), name, blame)
            self._scope, self._task = stand_in.scope, stand_in.task
            return
        context = copy_context()
        if blame is not None:
            context.run(BLAME.set, blame)
        self._scope = anyio.CancelScope()
        run = self._run(work, self._scope)
        self._task = asyncio.get_running_loop().create_task(run, name=name, context=context)

    async def _run(self, work: Callable[[], Awaitable[T]], scope: anyio.CancelScope | None = None) -> None:
        try:
            with scope or nullcontext():
                self._result = await work()
        except BaseException as error:  # noqa: BLE001 - kept for the owner; the loop must not see it
            # Without this frame, which has the task: in a circle they would stay, with all that the work had, until garbage is collected.
            traceback = error.__traceback__
            self.error = error.with_traceback(None if traceback is None else traceback.tb_next)
            del traceback
        finally:
            self._over = True
            for tell in self._tell:
                tell()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    @property
    def result(self) -> T:
        """What the work returned; only when it is over without an error, and was not asked to end."""
        assert self.over, "it goes on"
        assert self.error is None, "there is no result"
        return self._result  # type: ignore[return-value]  # set wherever there is no error

    def on_over(self, tell: Callable[[], object]) -> None:
        """Call ``tell``, which must not raise, when it is over: at once if it is."""
        if self._over:
            tell()
        else:
            self._tell.append(tell)

    async def wait(self, within_s: float) -> bool:
        """Wait at most so many seconds; True if it is over. If the caller is cancelled, only the waiting ends."""
        if self._over:
            return True
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()

        def wake() -> None:
            if not waiter.done():
                waiter.set_result(None)

        timer = loop.call_later(within_s, wake)
        self._tell.append(wake)
        try:
            await waiter
        finally:
            timer.cancel()
            self._tell.remove(wake)
        return self._over

    async def end(self, within_s: float) -> bool:
        """Ask it to end and wait; False if it is left behind. A cancellation of the caller does not interrupt this."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            in_time = await self.wait(within_s)
        if not in_time:
            self._break()
        return in_time

    def _break(self) -> None:
        if not self._over and self._breaks < BREAKS_MAX:
            self._breaks += 1
            self._task.cancel()
            asyncio.get_running_loop().call_later(BREAK_S, self._break)
