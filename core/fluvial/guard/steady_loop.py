"""An event loop that nobody can stop but those who run it.

asyncio's loop ends when ``SystemExit`` or ``KeyboardInterrupt`` comes out of any task or callback, and when anybody calls ``stop()``. In a node
one ``sys.exit()`` of a plugin, in a task that it began itself, would end the whole peer in the middle of everything. Here the exception is the
result of that task, as every other exception is; the loop reports it and goes on with the next callback. Nothing is lost: asyncio takes a
callback from its queue before it calls it.

::

    what comes out of the loop        the awaited future is   then
    --------------------------------  ----------------------  -------------------------------------------
    SystemExit, KeyboardInterrupt     not done                it is reported, and the loop goes on
    stop() of somebody else           not done                the loop goes on
    any of them                       done                    ``run_until_complete`` ends, as usual, with the future's own result
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fluvial.guard.blame import BLAME, Blame

T = TypeVar("T")

if TYPE_CHECKING:
    _Loop = asyncio.AbstractEventLoop
else:
    _Loop = object


class Steady(_Loop):
    """What makes a loop steady; in front of a loop's class."""

    _awaited: asyncio.Future[Any] | None = None

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """What a future or coroutine returns."""
        before = self._awaited
        self._awaited = awaited = asyncio.ensure_future(cast("Awaitable[T]", future), loop=self)
        try:
            return super().run_until_complete(awaited)
        finally:
            self._awaited = before

    def run_forever(self) -> None:
        """Run until what is awaited is done; without it as asyncio's loop does."""
        awaited = self._awaited
        if awaited is None:
            super().run_forever()
            return
        while True:
            try:
                super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if not _is_of(error, awaited):
                    self._report(error)
            if awaited.done():
                return

    def _report(self, error: BaseException) -> None:
        """Tell whoever is to blame, or the loop's handler of exceptions."""
        blame, task = self._origin(error)
        if blame is not None:
            blame(error)
        else:
            self.call_exception_handler({"message": "Something wanted to end the process", "exception": error})
        if task is not None and task.done() and not task.cancelled():
            task.exception()  # it was told; asyncio need not tell it again when nobody awaits the task

    def _origin(self, error: BaseException) -> tuple[Blame | None, asyncio.Task[Any] | None]:
        """Who is to blame for what came out of the loop, and the task that it came from."""
        raise NotImplementedError


class SteadyLoop(Steady, asyncio.SelectorEventLoop):
    """See the module's docstring; for ``asyncio.Runner(loop_factory=…)``."""

    def _origin(self, error: BaseException) -> tuple[Blame | None, asyncio.Task[Any] | None]:
        if (handle := _handle_of(error)) is None:
            return None, None
        task = getattr(handle._callback, "__self__", None)
        return handle._context.get(BLAME), task if isinstance(task, asyncio.Task) else None


def _is_of(error: BaseException, future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is error


def _handle_of(error: BaseException) -> Any:
    """The ``asyncio.Handle`` that raised, None if there is none. What is read of it, ``_context`` and ``_callback``, are private names of asyncio: tests hold them."""
    step = error.__traceback__
    while step is not None:
        found = step.tb_frame.f_locals.get("self")
        if isinstance(found, asyncio.Handle):
            return found
        step = step.tb_next
    return None
