"""Tasks that handle what comes in, many messages each.

A task per message would cost more than the message: so a few workers take them from a line. Whoever takes one while others wait calls
another worker before it begins. If its message is handled without waiting for anything, it takes the next one itself and the other finds
nothing to do; if not, the other goes on. So no message waits for another that is slow.

After a few jobs they rest for a turn of the event loop, so that a flood over one connection holds up the others by little; and all connections together
begin jobs for some milliseconds of a turn (``rounds``), so that floods over many hold up nobody for long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from fluvial.waiting import Event

from fluvial_transport_tcp.rounds import WorkRounds

IDLE_MAX: Final = 4
"""Workers that wait for work, per connection; further ones end when there is none."""

JOBS_AT_ONCE: Final = 16
"""Begun one after the other before other connections get their turn."""

JobT = TypeVar("JobT")


class _Worker(Generic[JobT]):
    __slots__ = ("job", "scope", "since")

    def __init__(self) -> None:
        self.job: JobT | None = None
        self.since: float | None = None
        self.scope = anyio.CancelScope()


class Workers(Generic[JobT]):
    """The workers of one connection; who adds jobs bounds their number.

    Args:
        handle: does a job.
        give_up: does away with a job that took too long and was cancelled.
        timeout_s: how long a job may take, to the next tick.
        rounds: shared with all other connections.
    """

    def __init__(
        self,
        *,
        handle: Callable[[JobT], Awaitable[None]],
        give_up: Callable[[JobT], Awaitable[None]],
        timeout_s: float,
        rounds: WorkRounds,
    ) -> None:
        self._group: TaskGroup  # once started
        self._handle = handle
        self._give_up = give_up
        self._timeout_s = timeout_s
        self._rounds = rounds
        self._turns = 0  # had since there was nothing to do
        self._jobs: deque[JobT] = deque()
        self._idle: list[Event] = []
        self._workers: set[_Worker[JobT]] = set()
        self._called = False  # a worker is on its way to the line
        self._begun = 0  # jobs since the last rest
        self._resting = False  # a worker lets others have their turn, and goes on then
        self._closed = False

    def start(self, group: TaskGroup) -> None:
        """Take jobs from now on; the group ends after :meth:`close`, when the last job is done."""
        self._group = group

    @property
    def busy(self) -> bool:
        """Whether there is a job that is not done."""
        return self.jobs > 0

    @property
    def jobs(self) -> int:
        """How many jobs are not done."""
        return len(self._jobs) + len(self._workers) - len(self._idle)

    def add(self, job: JobT) -> None:
        """Put a job into the line."""
        self._jobs.append(job)
        self._call()

    def tick(self, now: float) -> None:
        """Cancel jobs that take too long.

        Args:
            now: ``anyio.current_time()``.
        """
        for worker in self._workers:
            if worker.job is None:
                continue
            if worker.since is None:
                worker.since = now
            elif now - worker.since > self._timeout_s:
                worker.scope.cancel()

    def close(self) -> None:
        """No more jobs will come; those in the line are done."""
        self._closed = True
        for idle in self._idle:
            idle.set()

    def _call(self) -> None:
        if self._called:
            return
        self._called = True
        if self._idle:
            self._idle.pop().set()
        else:
            self._group.start_soon(self._run)

    async def _run(self) -> None:
        worker = _Worker[JobT]()
        self._workers.add(worker)
        try:
            staying = True
            while staying:
                with anyio.CancelScope() as worker.scope:
                    staying = await self._work(worker)
                if worker.job is not None:
                    await self._give_up(worker.job)
                    worker.job = None
        finally:
            self._workers.discard(worker)

    async def _work(self, worker: _Worker[JobT]) -> bool:
        """Do jobs until there is nothing for this worker to do any more; False then."""
        while True:
            self._called = False
            while self._jobs and not self._resting:
                if self._begun >= JOBS_AT_ONCE:
                    await self._rest()
                    continue
                if not self._rounds.open():
                    await self._wait_for_turn()
                self._begun += 1
                worker.job, worker.since = self._jobs.popleft(), None
                if self._jobs:
                    self._call()
                else:
                    self._turns = 0
                await self._handle(worker.job)
                worker.job = None
            if self._closed or len(self._idle) >= IDLE_MAX:
                return False
            idle = Event()
            self._idle.append(idle)
            try:
                await idle.wait()
            finally:
                if idle in self._idle:
                    self._idle.remove(idle)

    async def _wait_for_turn(self) -> None:
        """Other connections have their turns meanwhile; other workers of this one leave the line alone."""
        self._resting = True
        try:
            await self._rounds.turn(self._turns)
            self._turns += 1
        finally:
            self._resting, self._begun = False, 0

    async def _rest(self) -> None:
        self._resting = True
        try:
            await checkpoint()
        finally:
            self._resting, self._begun = False, 0
