"""Tasks of which there are several for each particle: those of a task group cost ten times as much to begin and to end.

As in a task group, an owner waits for all of them, and an error in one ends all. Unlike there nobody has a handle for one: whoever may want to end it
gives it a scope.

Source: N. J. Smith, "Notes on structured concurrency, or: Go statement considered harmful" (2018), for what a group owes; ``anyio.TaskGroup`` for how.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus


class LightTasks:
    """See the module's docstring. Tasks are begun while :meth:`run` goes on."""

    def __init__(self) -> None:
        self._tasks: Final[dict[anyio.CancelScope, asyncio.Task[None]]] = {}
        self._failed: asyncio.Future[None] | None = None
        self._over: asyncio.Future[None] | None = None

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """The root of a task: until cancelled; then no task is begun any more, and all are ended and waited for.

        Raises:
            BaseException: as one of the tasks did, which also ends the others.
        """
        failed = self._failed = asyncio.get_running_loop().create_future()
        try:
            task_status.started()
            await failed
        finally:
            self._failed = None
            for scope in tuple(self._tasks):
                scope.cancel()
            with anyio.CancelScope(shield=True):
                while self._tasks:
                    self._over = asyncio.get_running_loop().create_future()
                    await self._over

    def start(self, work: Coroutine[Any, Any, None], scope: anyio.CancelScope | None = None) -> None:
        """Begin a task in the next turn of the loop; nothing happens if all are being ended.

        Args:
            work: what it does.
            scope: in which it runs, a new one; whoever cancels it ends the task alone.
        """
        if self._failed is None:
            work.close()
            return
        scope = scope or anyio.CancelScope()
        self._tasks[scope] = asyncio.get_running_loop().create_task(self._run(work, scope))

    async def _run(self, work: Coroutine[Any, Any, None], scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await work
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):  # of the task alone, or of the whole process
            raise
        except BaseException as error:  # noqa: BLE001 - the owner raises it
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
        finally:
            del self._tasks[scope]
            if not self._tasks and self._over is not None and not self._over.done():
                self._over.set_result(None)
