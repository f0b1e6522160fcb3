"""The steady loop over uvloop; needs the extra ``fluvial[uvloop]``.

uvloop does not show which callback has raised. So tasks that are begun by a plugin's code are remembered with the plugin: what comes out of one
of them is told under its name. What a plugin's bare callback raises (``call_soon``, ``call_later``) is told the loop's handler of exceptions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from fluvial.guard.blame import BLAME, Blame
from fluvial.guard.steady_loop import Steady

T = TypeVar("T")


class SteadyUvloop(Steady, uvloop.Loop):  # type: ignore[misc]  # both describe a loop, in slightly different words
    """See the module's docstring; for ``asyncio.Runner(loop_factory=…)``."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[asyncio.Task[Any], Blame] = {}

    def create_task(self, coro: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:  # type: ignore[override]
        """As every loop's."""
        task = super().create_task(coro, **options)
        if (blame := BLAME.get()) is not None:
            self._begun[task] = blame
            task.add_done_callback(self._forget_soon)
        return task

    def _forget_soon(self, task: asyncio.Task[Any]) -> None:
        """By then what it has raised has come out of the loop."""
        self.call_soon(self._begun.pop, task, None)

    def _report(self, error: BaseException) -> None:
        super()._report(error)
        # Of several that come out in one turn of the loop uvloop raises the last one; the others are found in their tasks.
        for task in list(self._begun):
            other = task.exception() if task.done() and not task.cancelled() else None
            if isinstance(other, SystemExit | KeyboardInterrupt):
                self._begun.pop(task)(other)

    def _origin(self, error: BaseException) -> tuple[Blame | None, asyncio.Task[Any] | None]:
        for task in list(self._begun):
            if task.done() and not task.cancelled() and task.exception() is error:
                return self._begun.pop(task), task
        return None, None
