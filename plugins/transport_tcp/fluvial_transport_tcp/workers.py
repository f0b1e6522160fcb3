"""Tasks that handle what comes in, many messages each, for all connections of a node.

A task per message would cost more than the message, and tasks that wait for each connection would be most of what an idle one costs: so a few
workers wait for any. The messages of a connection are in a line (``kind_line``); a worker that is called takes them from there. Whoever takes one while others wait
calls another worker before it begins. If its message is handled without waiting for anything, it takes the next one itself and the other finds
nothing to do; if not, the other goes on. So no message waits for another that is slow. Where messages of the connection are waiting for something already,
the next ones will as well: for each of those in line a worker is called, as far as there are as many at work, so that they all begin in one turn of the loop.

After a few jobs they rest for a turn of the event loop, so that a flood over one connection holds up the others by little; and all connections together
begin jobs for some milliseconds of a turn (``rounds``), so that floods over many hold up nobody for long.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from fluvial.waiting import Future, TimerHandle, future, later, now_s

from fluvial_transport_tcp.accounts import WorkAccount, metered
from fluvial_transport_tcp.kind_line import KindLine
from fluvial_transport_tcp.rounds import WorkRounds

IDLE_MAX: Final = 64
"""Workers that wait for work, of all connections; further ones end when there is none."""

JOBS_AT_ONCE: Final = 16
"""Begun one after the other before other connections get their turn."""

JobT = TypeVar("JobT")


class Handled(NamedTuple):
    """How a job ended.

    Attributes:
        wasted_bytes: of a message that came to nothing with it.
        payer: whose work it was, if not that of the connection over which it came.
    """

    wasted_bytes: int = 0
    payer: WorkAccount | None = None


USEFUL: Final = Handled()
"""Of most jobs."""


class _Worker:
    """What a task does now; its scope is cancelled to end the job, and then it gets another one."""

    __slots__ = ("job", "line", "scope", "since", "wake")

    def __init__(self, line: Workers[Any]) -> None:
        self.line: Workers[Any] | None = line
        self.job: Any = None
        self.since: float | None = None
        self.scope = anyio.CancelScope()
        self.wake: Future[None] | None = None


class WorkerPool:
    """The workers of all connections."""

    def __init__(self) -> None:
        self._group: TaskGroup  # once started
        self._idle: list[_Worker] = []
        self._closed = False

    def start(self, group: TaskGroup) -> None:
        """Begin tasks in this group from now on; after :meth:`close` they end when there is nothing to do."""
        self._group = group

    def close(self) -> None:
        """Nobody waits for work any more."""
        self._closed = True
        for worker in self._idle:
            _wake(worker)
        self._idle.clear()

    def call(self, line: Workers[Any]) -> None:
        """Send a worker to a line."""
        if self._idle:
            worker = self._idle.pop()
            worker.line = line
            _wake(worker)
        else:
            self._group.start_soon(self._run, _Worker(line))

    async def _run(self, worker: _Worker) -> None:
        while worker.line is not None:
            with anyio.CancelScope() as worker.scope:
                await self._work(worker)
            if worker.job is not None and worker.line is not None:
                await worker.line.give_up(worker)

    async def _work(self, worker: _Worker) -> None:
        """Do the jobs of one line after the other, until there are none or the scope was cancelled."""
        while worker.line is not None and not worker.scope.cancel_called:
            await worker.line.work(worker)
            worker.line = None
            if self._closed or len(self._idle) >= IDLE_MAX or worker.scope.cancel_called:
                return
            worker.wake = future()
            self._idle.append(worker)
            try:
                await worker.wake
            except BaseException:
                if worker in self._idle:
                    self._idle.remove(worker)
                raise


def _wake(worker: _Worker) -> None:
    if worker.wake is not None and not worker.wake.done():
        worker.wake.set_result(None)


class Workers(Generic[JobT]):
    """The line of one connection, and who works on it; who adds jobs bounds their number.

    Args:
        pool: of the node.
        handle: does a job.
        give_up: does away with a job that took too long and was cancelled.
        timeout_s: how long a job may take, to the next tick.
        rounds: shared with all other connections.
        kind: of a job, for its price; kinds take turns.
        account: what is done for this connection; while it owes something no job begins.
        held_up: whether no job is to begin for another reason; who says so calls :meth:`go_on` when that is over.
        on_idle: called whenever the last job is done, and by :meth:`close` if there is none.
    """

    __slots__ = (
        "_account",
        "_begun",
        "_called",
        "_give_up",
        "_handle",
        "_held_up",
        "_jobs",
        "_kind",
        "_on_idle",
        "_pause",
        "_pool",
        "_resting",
        "_rounds",
        "_timeout_s",
        "_workers",
    )

    def __init__(
        self,
        pool: WorkerPool,
        *,
        handle: Callable[[JobT], Coroutine[Any, Any, Handled]],
        give_up: Callable[[JobT], Coroutine[Any, Any, None]],
        timeout_s: float,
        rounds: WorkRounds,
        account: WorkAccount,
        kind: Callable[[JobT], str] = lambda job: "",
        held_up: Callable[[], bool] = lambda: False,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._handle = handle
        self._give_up = give_up
        self._timeout_s = timeout_s
        self._rounds = rounds
        self._on_idle = on_idle
        self._account = account
        self._kind = kind
        self._held_up = held_up
        self._pause: TimerHandle | None = None  # until more may begin of a connection that owes something
        self._jobs: KindLine[JobT] | None = None  # made when there are some, as the next: most connections are idle
        self._workers: set[_Worker] | None = None
        self._called = 0  # workers on their way to the line
        self._begun = 0  # jobs since the last rest
        self._resting = False  # a worker lets others have their turn, and goes on then

    @property
    def busy(self) -> bool:
        """Whether there is a job that is not done."""
        return self.jobs > 0

    @property
    def jobs(self) -> int:
        """How many jobs are not done."""
        return self.waiting + (len(self._workers) if self._workers else 0)

    @property
    def waiting(self) -> int:
        """How many of them have not begun."""
        return len(self._jobs) if self._jobs else 0

    def add(self, job: JobT) -> None:
        """Put a job into the line."""
        if self._jobs is None:
            self._jobs = KindLine()
        self._jobs.put(self._kind(job), job)
        self._call()

    def tick(self, now: float) -> None:
        """Cancel jobs that take too long.

        Args:
            now: ``anyio.current_time()``.
        """
        for worker in self._workers or ():
            if worker.job is None:
                continue
            if worker.since is None:
                worker.since = now
            elif now - worker.since > self._timeout_s:
                worker.scope.cancel()

    def drop(self) -> Iterable[JobT]:
        """Take the jobs out of the line that have not begun: nobody waits for them any more."""
        dropped, self._jobs = self._jobs or (), None
        return dropped

    def close(self) -> None:
        """No more jobs will come; those in the line are done."""
        if not self.busy:
            self._on_idle()

    async def work(self, worker: _Worker) -> None:
        """For the pool: do jobs until there is nothing for this worker to do any more."""
        if self._called:  # it comes uncalled where it has just given up a job of this line
            self._called -= 1
        if self._workers is None:
            self._workers = set()
        self._workers.add(worker)
        try:
            while self._jobs and not self._resting and not worker.scope.cancel_called and not self._held_up():
                if self._begun >= JOBS_AT_ONCE:
                    await self._rest()
                    continue
                if self._account.owes and self._pauses():
                    break
                if not self._rounds.open(self._account):
                    await self._wait_for_turn()
                if (jobs := self._jobs) is None:
                    break  # dropped meanwhile
                worker.job, worker.since = self._next(jobs), None
                kind, prices = self._kind(worker.job), self._rounds.prices
                work = self._handle(worker.job)
                price = prices.price(kind)
                handled, spent_s = await metered(work, self._account, self._rounds.clock, price)
                worker.job = None
                payer = handled.payer
                self._account.pay(spent_s * price, payer if payer and self._rounds.can_pay(payer) else None)
                if handled.wasted_bytes:
                    self._account.waste(spent_s, handled.wasted_bytes, now_s())
                else:
                    prices.use(kind, spent_s)
            if self._jobs and not (
                self._resting or self._held_up()
            ):  # the scope was cancelled when the job was just done
                self._call()
        finally:
            if worker.job is None:
                self._leave(worker)

    async def give_up(self, worker: _Worker) -> None:
        """For the pool: the worker's job was cancelled."""
        try:
            await self._give_up(worker.job)
        finally:
            worker.job = None
            self._leave(worker)

    def _leave(self, worker: _Worker) -> None:
        if self._workers is not None:
            self._workers.discard(worker)
            if not self._workers:
                self._workers = None
        if not self.busy:
            self._on_idle()

    def go_on(self) -> None:
        """Nothing holds up the line any more."""
        if self._jobs and not self._resting:
            self._call()

    def _call(self) -> None:
        wanted = 1
        if self._workers and self._jobs:
            wanted = max(1, min(len(self._jobs), len(self._workers), JOBS_AT_ONCE - self._begun))
        while self._called < wanted and not (self._pause or self._held_up()):
            self._called += 1
            self._pool.call(self)

    def _next(self, jobs: KindLine[JobT]) -> JobT:
        job = jobs.take()
        self._begun += 1
        if jobs:
            self._call()
        else:
            self._jobs = None
        return job

    async def _wait_for_turn(self) -> None:
        """Other connections have their turns meanwhile; other workers of this one leave the line alone."""
        self._resting = True
        try:
            await self._rounds.turn(self._account)
        finally:
            self._resting, self._begun = False, 0

    def _pauses(self) -> bool:
        """Begin nothing for a while if the account owes something; whether it does."""
        if self._pause is None and (rest_s := self._account.rest_s(now_s())) > 0:
            self._pause = later(rest_s, self._paused)
        return self._pause is not None

    def _paused(self) -> None:
        self._pause = None
        if self._jobs:
            self._call()

    async def _rest(self) -> None:
        self._resting = True
        try:
            await checkpoint()
        finally:
            self._resting, self._begun = False, 0
