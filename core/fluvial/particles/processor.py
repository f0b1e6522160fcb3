"""Shares the peer's time among particles: machines work in slices, and those of a greedy initiator queue behind everybody else's.

Most runs fit into one slice. They are done at once, if no other run of their initiator waits, as long as that takes a few milliseconds of a
round of the loop. What is left queues fairly by initiator (``fairness``), and every second turn goes to what was brought by the peer for which the least was
done lately: names are free, connections are not. One task gives the turns, and lets everything else of the peer have its own between two of them.

What cannot be cut into slices (parsing a large script, encoding a large delivery, a pure function with large arguments) runs in a worker thread, one piece of work after another in
the same fair order: Python lets only one thread work at a time, and the loop gets its turns every few milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial import waiting
from fluvial.air.machine.slices import SLICE_STEPS
from fluvial.errors import Refused
from fluvial.fairness import FairQueue
from fluvial.identity import PeerId
from fluvial.virtual.threads import in_thread
from fluvial.waiting import now_s

ResultT = TypeVar("ResultT")

BYTES_ON_LOOP: Final = 16_384
"""Size of what is parsed or decoded on the loop; more than that takes more than some milliseconds."""
SHORT_STEPS: Final = 100
"""Steps that are made at once though others are in line; most runs need fewer."""
ROUNDS_BETWEEN: Final = 4
"""Rounds of the loop between two turns: whoever else is ready has so many for each of them."""
TURN_S: Final = 0.002
"""Runs that come to their end have one turn together until they have taken so long, in seconds: the rounds between would cost more than they do."""
LIGHT_S: Final = 0.005
"""For how much of this thread's time light work is done at once in a round of the loop, in seconds."""
HALF_LIFE_S: Final = 1.0
"""What was done for a peer counts half after so long."""
BESIDES_S: Final = 0.001
"""What a turn costs besides, in rounds of the loop."""
FORGOTTEN_S: Final = 0.0001
"""Less than this is nothing."""
LONG_S: Final = 0.01
"""After a turn that took longer than this everything else of the peer has as much time as it took, in seconds."""


class _Job(Generic[ResultT]):
    """Work that somebody waits for."""

    __slots__ = ("advance", "ended", "error", "result", "sender")

    def __init__(self, sender: PeerId, advance: Callable[[], ResultT | None]) -> None:
        self.sender = sender
        self.advance = advance
        self.ended = anyio.Event()
        self.error: Exception | None = None
        self.result: ResultT | None = None

    def work(self) -> bool:
        """Do one turn; whether it was the last one."""
        try:
            self.result = self.advance()
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            self.error = error
        return self.error is not None or self.result is not None

    def turn(self) -> bool:
        """As :meth:`work`, on the loop; after the last one whoever waits for it goes on."""
        over = self.work()
        if over:
            self.ended.set()
        return over

    def fail(self, error: Exception) -> None:
        """It will not be done."""
        self.error = error
        self.ended.set()

    async def wait(self) -> ResultT:
        # Who handed the particle over may give up meanwhile; but a machine whose run is given up is lost, and its work with it.
        with anyio.CancelScope(shield=True):
            await self.ended.wait()
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error  # in a circle with this frame it would keep all that its caller works with
        assert self.result is not None, "work ends with its result or an error"
        return self.result


class _Line:
    """Jobs that wait, in fair order."""

    def __init__(self, weight: Callable[[PeerId], int]) -> None:
        self.queue: FairQueue[_Job[Any]] = FairQueue(weight)
        self._news = anyio.Event()
        self._ended = False
        self._odd = False
        self._senders: dict[PeerId, PeerId] = {}  # of the initiators in line: who brought what came last
        self._done: dict[PeerId, float] = {}  # for senders, seconds, fading
        self._faded_s = 0.0

    async def work(self, initiator: PeerId, sender: PeerId, advance: Callable[[], ResultT | None]) -> ResultT:
        """The result of a job, when it has had its turns."""
        if self._ended:
            raise _stopping()
        job = _Job(sender, advance)
        self.enter(initiator, job)
        self._news.set()
        return await job.wait()

    def enter(self, initiator: PeerId, job: _Job[Any], *, first: bool = False) -> None:
        """Put a job into line."""
        self.queue.push(initiator, job, first=first)
        self._senders[initiator] = job.sender

    def next_job(self) -> tuple[PeerId, _Job[Any]]:
        """The job whose turn it is. Every second turn goes to one whose sender has had the least lately.

        In turns alone, whoever came under hundreds of names would make each run of others wait for all of them between two slices.
        """
        self._odd = not self._odd
        if self._odd:
            initiator, job = self.queue.pop()
        else:
            initiator = min(self.queue.owners(), key=lambda one: self._done.get(self._senders[one], 0.0))
            job = self.queue.pop_of(initiator)
        if not self.queue.waiting(initiator):
            del self._senders[initiator]
        return initiator, job

    def did(self, job: _Job[Any], seconds: float) -> None:
        """A job had a turn of so long."""
        now = now_s()
        if now - self._faded_s > HALF_LIFE_S / 4:
            part = 0.5 ** ((now - self._faded_s) / HALF_LIFE_S)
            self._done = {one: left for one, done in self._done.items() if (left := done * part) > FORGOTTEN_S}
            self._faded_s = now
        self._done[job.sender] = self._done.get(job.sender, 0.0) + seconds + BESIDES_S

    async def arrivals(self) -> None:
        """Returns when something is in line."""
        if not self.queue:
            self._news = anyio.Event()
            await self._news.wait()

    def end(self) -> None:
        """Refuse what is in line, and what comes."""
        self._ended = True
        while self.queue:
            _, job = self.queue.pop()
            job.fail(_stopping())


class _Round:
    """How long light work takes in one round of the event loop, that of all particles together."""

    def __init__(self) -> None:
        self._until: float | None = None

    def has_time(self) -> bool:
        if self._until is None:
            self._until = time.thread_time() + LIGHT_S
            waiting.soon(self._end)
            return True
        return time.thread_time() < self._until

    def _end(self) -> None:
        self._until = None


class Processor:
    """See the module's docstring.

    Args:
        weight: how much an initiator counts; see :class:`FairQueue`.
        metrics: gets ``fluvial_machine_slices_total`` and ``fluvial_machine_runs_waiting``.
    """

    def __init__(self, *, weight: Callable[[PeerId], int], metrics: CollectorRegistry) -> None:
        self._sliced = _Line(weight)
        self._whole = _Line(weight)
        self._round = _Round()
        self._turns = Counter("fluvial_machine_slices", "Slices of runs that took more than one", registry=metrics)
        gauge = Gauge("fluvial_machine_runs_waiting", "Runs that wait for their next slice", registry=metrics)
        gauge.set_function(lambda: len(self._sliced.queue))

    def start(self, tasks: TaskGroup) -> None:
        """Turns are given in ``tasks``; when these are cancelled, what is in line is refused."""
        tasks.start_soon(self._give_turns)
        tasks.start_soon(self._work_off)

    async def in_turn(
        self,
        initiator: PeerId,
        work: Callable[[], ResultT],
        *,
        sender: PeerId | None = None,
        light: bool = False,
        pure: bool = False,
    ) -> ResultT:
        """The result of a piece of work that has a turn of its own, on the loop; raises as :meth:`finish`.

        What is light is done at once, as long as all that is light takes a few milliseconds of a round of the loop: a script may ask for hundreds of such calls.
        What is not, but pure, is done as in :meth:`off_loop`.
        """
        if light and self._round.has_time():
            return work()
        line = self._whole if pure and not light else self._sliced
        return (await line.work(initiator, sender or initiator, lambda: (work(),)))[0]

    async def finish(
        self,
        initiator: PeerId,
        advance: Callable[[int], ResultT | None],
        *,
        sender: PeerId | None = None,
        heavy: bool = False,
    ) -> ResultT:
        """The result of a run that is done in slices. Each particle has one at a time, so their number is bounded as that of particles.

        Args:
            initiator: of the particle.
            advance: does a slice of so many steps; returns None as long as more is left to do. Nothing else may be done with the machine until this returns.
            sender: who brought the particle; the initiator if nobody is named.
            heavy: whether the first slice takes long.

        Raises:
            Refused: ``busy``, the peer stops; the machine must be thrown away.
            Exception: as the work does.
        """
        queue = self._sliced.queue
        if not heavy and not queue.waiting(initiator) and self._round.has_time():
            # With others in line only what is short is done before them: else whoever comes under many names is always first.
            result = advance(SHORT_STEPS if queue else SLICE_STEPS)
            if result is not None:
                return result
        return await self._sliced.work(initiator, sender or initiator, lambda: advance(SLICE_STEPS))

    async def off_loop(
        self, initiator: PeerId, work: Callable[[], ResultT], *, sender: PeerId | None = None
    ) -> ResultT:
        """The result, which is not None, of work that cannot be cut into slices; raises as :meth:`finish`."""
        return await self._whole.work(initiator, sender or initiator, work)

    async def _give_turns(self) -> None:
        """The root of a task."""
        line = self._sliced
        try:
            while True:
                await line.arrivals()
                began = now_s()
                while self._give_turn() and line.queue and now_s() - began < TURN_S:
                    pass
                if (took_s := now_s() - began) > LONG_S:
                    await anyio.sleep(took_s)
                for _ in range(ROUNDS_BETWEEN):
                    await anyio.lowlevel.checkpoint()
        finally:
            line.end()

    def _give_turn(self) -> bool:
        """Whether the job whose turn it was has come to its end with that."""
        line = self._sliced
        initiator, job = line.next_job()
        self._turns.inc()
        began = time.thread_time()
        over = job.turn()
        line.did(job, time.thread_time() - began)
        if not over:
            # One after another: many that are half done would take the memory of them all.
            line.enter(initiator, job, first=True)
        return over

    async def _work_off(self) -> None:
        """The root of a task."""
        line = self._whole
        try:
            while True:
                await line.arrivals()
                _, job = line.next_job()
                began = now_s()
                try:
                    await in_thread(job.work)
                except anyio.get_cancelled_exc_class():
                    job.fail(_stopping())
                    raise
                line.did(job, now_s() - began)
                job.ended.set()
        finally:
            line.end()


def _stopping() -> Refused:
    return Refused("the peer stops", reason="busy")
