"""How a part lives: it starts, works, and is stopped while everything that started before it still works.

::

    state      event                                     next       then
    ---------  ----------------------------------------  ---------  ---------------------------------------------------
    starting   the part says started()                   working    the block begins; its gates open
    starting   it raises, returns, or START_S is over    over       the error is raised where the block would begin
    working    the block ends                            stopping   its gates close, answers in progress end (DRAIN_S)
    working    it raises                                 stopping   the block is cancelled, the error is raised after it
    stopping   the part ends                             over
    stopping   STOP_S is over                            over       it is left behind, and the log names it

A part runs in a detached task. A cancellation of the node does not reach it; the exit of its own block cancels it. Nested task groups would not
do: a cancellation from outside reaches all of them at the same moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

import anyio
import structlog
from anyio.abc import TaskStatus

from fluvial.errors import FluvialError, PluginError, root_cause
from fluvial.faults import describe
from fluvial.guard.blame import Blame
from fluvial.guard.detached import Detached
from fluvial.guard.guard import safe

START_S: Final = 60.0
"""How long a part may take to start, in seconds."""
STOP_S: Final = 10.0
"""How long a part may take to stop before it is left behind, in seconds."""


class PartRun(Protocol):
    """The ``run`` of a part."""

    async def __call__(self, *, task_status: TaskStatus[None]) -> None:
        """Work until cancelled."""
        ...


ValueT = TypeVar("ValueT")


class _Status(Generic[ValueT]):
    """The ``task_status`` of a part."""

    def __init__(self) -> None:
        self.changed = anyio.Event()
        self.said = False

    def started(self, value: ValueT | None = None) -> None:
        """Called by the part; a second call does no harm."""
        self.said = True
        self.changed.set()


class Life:
    """One part's life.

    Args:
        name: of the part, for messages: ``transport tcp (fluvial-transport-tcp 0.1.0)``.
        run: its work.
        log: where an unexpected error and a part that hangs are reported.
        on_failed: called when it fails after it has started; not after :meth:`stop`.
        may_end: whether it may return before it is stopped; else that is a failure.
        blame: see :class:`Detached`.
    """

    def __init__(
        self,
        name: str,
        run: PartRun,
        *,
        log: structlog.stdlib.BoundLogger,
        on_failed: Callable[[FluvialError], None] | None = None,
        may_end: bool = False,
        blame: Blame | None = None,
    ) -> None:
        self.name: Final = name
        self._run = run
        self._log = log
        self._on_failed = on_failed
        self._may_end = may_end
        self._blame = blame
        self._status = _Status[None]()
        self._task: Detached[None] | None = None
        self._works = False

    async def start(self, *, within_s: float = START_S) -> None:
        """Start the part; returns when it has started.

        Raises:
            FluvialError: what the part raised, or that it did not start.
        """
        task = self._task = Detached(lambda: self._run(task_status=self._status), self.name, blame=self._blame)
        task.on_over(self._status.changed.set)
        try:
            with anyio.move_on_after(within_s):
                await self._status.changed.wait()
        except BaseException:  # the node is stopped while it starts
            await self.stop()
            raise
        if not self._status.changed.is_set():
            await self.stop()
            raise PluginError(f"{self.name} has not started within {within_s:g} s")
        if task.over and (error := self._error()) is not None:
            raise error
        if not self._status.said:
            raise PluginError(f"{self.name} ended before it had started")
        self._works = True
        task.on_over(self._ended)

    async def stop(self, *, within_s: float = STOP_S) -> None:
        """Cancel the part and wait until it is over, or leave it behind."""
        self._works = False
        if self._task is not None and not await self._task.end(within_s):
            self._log.error("part_left_behind", part=self.name, error=f"it does not stop within {within_s:g} s")

    def _ended(self) -> None:
        if self._works and self._on_failed is not None and (error := self._error()) is not None:
            self._works = False
            self._on_failed(error)

    def _error(self) -> FluvialError | None:
        """What went wrong with a part that has ended; None if it may have ended."""
        error = self._task.error if self._task is not None else None
        if isinstance(error, BaseExceptionGroup):
            error = root_cause(error)
        if isinstance(error, FluvialError):
            return error
        if error is None:
            ended = self._status.said and not self._may_end
            return PluginError(f"{self.name} has ended, which only an extra may") if ended else None
        self._log.error("part_failed", part=self.name, error=type(error).__name__, exc_info=safe(error))
        return PluginError(f"{self.name} failed: {describe(error)}", hint="the log has the traceback")


async def nothing() -> None:
    """The ``close`` of a part without gates."""


@asynccontextmanager
async def started(
    name: str,
    run: PartRun,
    *,
    log: structlog.stdlib.BoundLogger,
    start_s: float = START_S,
    stop_s: float = STOP_S,
    close: Callable[[], Awaitable[None]] = nothing,
    blame: Blame | None = None,
) -> AsyncIterator[None]:
    """Run a part while the block runs.

    Args:
        name: of the part, for messages.
        run: its work.
        log: as for :class:`Life`.
        start_s: how long it may take to start, in seconds.
        stop_s: how long it may take to stop, in seconds.
        close: closes its gates and waits for its answers in progress, with a deadline of its own; before the part is cancelled.
        blame: see :class:`Detached`.

    Raises:
        FluvialError: what the part raised; the block has been cancelled then.
    """
    failed: list[FluvialError] = []
    body = anyio.CancelScope()

    def fail(error: FluvialError) -> None:
        failed.append(error)
        body.cancel()

    life = Life(name, run, log=log, on_failed=fail, blame=blame)
    await life.start(within_s=start_s)
    try:
        with body:
            yield
    finally:
        with anyio.CancelScope(shield=True):
            await close()
            await life.stop(within_s=stop_s)
    if failed:
        raise failed[0]
