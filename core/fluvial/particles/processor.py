"""Shares the peer's time among particles: machines work in slices, and those of a greedy initiator queue behind everybody else's.

Most runs fit into one slice. They are done at once, if no other run of their initiator waits, as long as that takes a few milliseconds of a
round of the loop. What is left waits in line (:class:`~fluvial.particles.turn_line.TurnLine`). One task gives the turns, and lets everything else of
the peer have its own between two of them.

What cannot be cut into slices (parsing a large script, encoding a large delivery, a pure function with large arguments) runs in a worker thread, one piece of work after another in
the same fair order: Python lets only one thread work at a time, and the loop gets its turns every few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial import waiting
from fluvial.air.machine.slices import SLICE_STEPS, Clock
from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particles.turn_line import TurnLine, stopping
from fluvial.virtual.threads import in_thread, slice_clock, work_clock

ResultT = TypeVar("ResultT")

BYTES_ON_LOOP: Final = 16_384
"""Size of what is parsed or decoded on the loop; more than that takes more than some milliseconds."""
SHORT_STEPS: Final = 100
"""Steps that are made at once though others are in line; most runs need fewer."""
ROUNDS_BETWEEN: Final = 4
"""Rounds of the loop after a turn of a run that goes on: whoever else is ready has so many for each of them. After runs that have come to their end there is one:
else the many short ones that stand in line when there is much to do would have a few hundredths of the time, and what comes later goes before them."""
TURN_S: Final = 0.004
"""Runs that come to their end have one turn together until they have taken so long, in seconds: the rounds between would cost more than they do."""
LIGHT_S: Final = 0.005
"""For how much of this thread's time light work is done at once in a round of the loop, in seconds."""
LONG_S: Final = 0.01
"""After a turn that took longer than this everything else of the peer has as much time as it took, in seconds."""


class _Round:
    """How long light work takes in one round of the event loop, that of all particles together."""

    def __init__(self, worked_s: Callable[[], float]) -> None:
        self._worked_s = worked_s
        self._left_s = LIGHT_S

    def has_time(self) -> bool:
        return self._left_s > 0

    def do(self, work: Callable[[], ResultT]) -> ResultT:
        """The result of work that is done now; raises as it does."""
        if self._left_s == LIGHT_S:
            waiting.soon(self._end)
        began = self._worked_s()
        try:
            return work()
        finally:
            self._left_s -= self._worked_s() - began

    def _end(self) -> None:
        self._left_s = LIGHT_S


class Processor:
    """See the module's docstring.

    Args:
        weight: how much an initiator counts; see :class:`FairQueue`.
        metrics: gets ``fluvial_machine_slices_total`` and ``fluvial_machine_runs_waiting``.
    """

    def __init__(self, *, weight: Callable[[PeerId], int], metrics: CollectorRegistry) -> None:
        self._now_s = waiting.clock()
        self._worked_s = work_clock()
        self._clock = slice_clock()
        self._sliced = TurnLine(weight)
        self._whole = TurnLine(weight)
        self._round = _Round(self._worked_s)
        self._turns = Counter("fluvial_machine_slices", "Slices of runs that took more than one", registry=metrics)
        gauge = Gauge("fluvial_machine_runs_waiting", "Runs that wait for their next slice", registry=metrics)
        gauge.set_function(lambda: len(self._sliced))

    def start(self, tasks: TaskGroup) -> None:
        """Turns are given in ``tasks``; when these are cancelled, what is in line is refused."""
        tasks.start_soon(self._give_turns)
        tasks.start_soon(self._work_off)

    async def in_turn(
        self,
        initiator: PeerId,
        work: Callable[[], ResultT],
        *,
        upstream: Upstream | None = None,
        light: bool = False,
        pure: bool = False,
    ) -> ResultT:
        """The result of a piece of work that has a turn of its own, on the loop; raises as :meth:`finish`.

        What is light is done at once, as long as all that is light takes a few milliseconds of a round of the loop: a script may ask for hundreds of such calls.
        What is not, but pure, is done as in :meth:`off_loop`.
        """
        if light and self._round.has_time():
            return self._round.do(work)
        line = self._whole if pure and not light else self._sliced
        return (await line.work(initiator, upstream or Upstream(initiator), lambda: (work(),)))[0]

    async def finish(
        self,
        initiator: PeerId,
        advance: Callable[[int, Clock], ResultT | None],
        *,
        upstream: Upstream | None = None,
    ) -> ResultT:
        """The result of a run that is done in slices. Each particle has one at a time, so their number is bounded as that of particles.

        Args:
            initiator: of the particle.
            advance: does a slice of so many steps, or of some milliseconds by the clock; returns None as long as more is left to do. Nothing else may be done with the machine until this returns.
            upstream: who brought the particle; the initiator if nobody is named.

        Raises:
            Refused: ``busy``, the peer stops; the machine must be thrown away, as it must if the caller is cancelled.
            Exception: as the work does.
        """
        result = self.first_slice(initiator, advance)
        return await self.in_line(initiator, advance, upstream=upstream) if result is None else result

    def first_slice(
        self, initiator: PeerId, advance: Callable[[int, Clock], ResultT | None], *, goes_on: bool = False
    ) -> ResultT | None:
        """The first part of :meth:`finish`: the result, if a slice is done at once and is all of it; else None, and :meth:`in_line` goes on.

        Args:
            initiator: as there.
            advance: as there.
            goes_on: whether it follows from a run that has just had its turn: what is short does not stand in line once more.
        """
        line = self._sliced
        if not (goes_on or not line.waiting(initiator)) or not self._round.has_time():
            return None
        # With others in line only what is short is done before them: else whoever comes under many names is always first.
        return self._round.do(partial(advance, SHORT_STEPS if line else SLICE_STEPS, self._clock))

    async def in_line(
        self, initiator: PeerId, advance: Callable[[int, Clock], ResultT | None], *, upstream: Upstream | None = None
    ) -> ResultT:
        """The second part of :meth:`finish`, or all of it, where already the first slice takes long."""
        return await self._sliced.work(
            initiator, upstream or Upstream(initiator), partial(advance, SLICE_STEPS, self._clock)
        )

    async def off_loop(
        self, initiator: PeerId, work: Callable[[], ResultT], *, upstream: Upstream | None = None
    ) -> ResultT:
        """The result, which is not None, of work that cannot be cut into slices; raises as :meth:`finish`."""
        return await self._whole.work(initiator, upstream or Upstream(initiator), work)

    async def _give_turns(self) -> None:
        """The root of a task."""
        line = self._sliced
        try:
            while True:
                await line.arrivals()
                began = self._now_s()
                while (over := self._give_turn()) and line and self._now_s() - began < TURN_S:
                    pass
                if (took_s := self._now_s() - began) > LONG_S:
                    await anyio.sleep(took_s)
                for _ in range(1 if over else ROUNDS_BETWEEN):
                    await anyio.lowlevel.checkpoint()
        finally:
            line.end()

    def _give_turn(self) -> bool:
        """Whether the job whose turn it was has come to its end with that."""
        line = self._sliced
        initiator, job = line.next_job()
        self._turns.inc()
        began = self._worked_s()
        over = job.turn()
        line.did(job, self._worked_s() - began)
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
                began = self._now_s()
                try:
                    await in_thread(job.work)
                except anyio.get_cancelled_exc_class():
                    job.fail(stopping())
                    raise
                line.did(job, self._now_s() - began)
                job.end()
        finally:
            line.end()
