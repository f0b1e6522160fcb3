"""Work that waits for turns of a peer's time, and whose turn it is.

Every other turn goes by initiator, fairly (``fluvial.fairness``). But names are free: whoever comes under hundreds of them would make each run of
others wait for all of them between two slices. So the turns between go to what was brought by the peer for which the least was done lately, and
of those whom that one serves (:class:`~fluvial.fairness.Upstream`) again to the one with the least: connections are not free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import anyio

from fluvial import waiting
from fluvial.errors import Refused
from fluvial.fairness import FairQueue, Upstream
from fluvial.identity import PeerId

ResultT = TypeVar("ResultT")

HALF_LIFE_S: Final = 1.0
"""What was done for a peer counts half after so long."""
BESIDES_S: Final = 0.001
"""What a turn costs besides, in rounds of the loop."""
FORGOTTEN_S: Final = 0.0001
"""Less than this is nothing."""


class TurnJob(Generic[ResultT]):
    """Work that somebody waits for."""

    __slots__ = ("_ended", "advance", "error", "result", "upstream")

    def __init__(self, upstream: Upstream, advance: Callable[[], ResultT | None]) -> None:
        self.upstream = upstream
        self.advance = advance
        self._ended = waiting.future()
        self.error: Exception | None = None
        self.result: ResultT | None = None

    def work(self) -> bool:
        """Do one turn; whether it was the last one, also because nobody waits for it any more."""
        if self._ended.done():
            return True
        try:
            self.result = self.advance()
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            self.error = error
        return self.error is not None or self.result is not None

    def turn(self) -> bool:
        """As :meth:`work`, on the loop; after the last one whoever waits for it goes on."""
        over = self.work()
        if over:
            self.end()
        return over

    def end(self) -> None:
        """Whoever waits for it goes on, unless the loop has ended under them."""
        if not self._ended.done():
            self._ended.set_result(None)

    def fail(self, error: Exception) -> None:
        """It will not be done."""
        self.error = error
        self.end()

    async def wait(self) -> ResultT:
        """The result, when the last turn is over; raises what the work has raised, or what it failed with.

        Whoever is cancelled meanwhile gives the work up: it has no further turn, though one in a thread comes to its end.
        """
        await self._ended
        if self.error is not None:
            error, self.error = self.error, None
            try:
                raise error
            finally:
                del error  # in a circle with this frame it would keep all that its caller works with
        assert self.result is not None, "work ends with its result or an error"
        return self.result


class TurnLine:
    """See the module's docstring.

    Args:
        weight: how much an initiator counts; see :class:`FairQueue`.
    """

    def __init__(self, weight: Callable[[PeerId], int]) -> None:
        self._now_s = waiting.clock()
        self._queue: FairQueue[PeerId, TurnJob[Any]] = FairQueue(weight)
        self._branches: dict[PeerId, dict[Upstream, FairQueue[PeerId, TurnJob[Any]]]] = {}  # the same jobs, by sender
        self._done: dict[PeerId | Upstream, float] = {}  # for senders and their branches, seconds, fading
        self._faded_s = 0.0
        self._news = anyio.Event()
        self._ended = False
        self._odd = False

    def __len__(self) -> int:
        return len(self._queue)

    def waiting(self, initiator: PeerId) -> int:
        """How many jobs of an initiator are in line."""
        return self._queue.waiting(initiator)

    async def work(self, initiator: PeerId, upstream: Upstream, advance: Callable[[], ResultT | None]) -> ResultT:
        """The result of a job, when it has had its turns; raises Refused, ``busy``, if the peer stops."""
        if self._ended:
            raise stopping()
        job = TurnJob(upstream, advance)
        self.enter(initiator, job)
        self._news.set()
        return await job.wait()

    def enter(self, initiator: PeerId, job: TurnJob[Any], *, first: bool = False) -> None:
        """Put a job into line, or ``first``, before the others of its initiator."""
        branches = self._branches.setdefault(job.upstream.sender, {})
        if (queue := branches.get(job.upstream)) is None:
            queue = branches[job.upstream] = FairQueue()
        for one in (queue, self._queue):
            one.push(initiator, job, first=first)

    def next_job(self) -> tuple[PeerId, TurnJob[Any]]:
        """The job whose turn it is. Raises IndexError if there is none."""
        self._odd = not self._odd
        if self._odd:
            initiator, job = self._queue.pop()
            self._branches[job.upstream.sender][job.upstream].take(initiator, job)
        else:
            sender = min(self._branches, key=self._done_for)
            initiator, job = self._branches[sender][min(self._branches[sender], key=self._done_for)].pop()
            self._queue.take(initiator, job)
        self._tidy(job.upstream)
        return initiator, job

    def _tidy(self, upstream: Upstream) -> None:
        branches = self._branches[upstream.sender]
        if not branches[upstream]:
            del branches[upstream]
        if not branches:
            del self._branches[upstream.sender]

    def _done_for(self, one: PeerId | Upstream) -> float:
        return self._done.get(one, 0.0)

    def did(self, job: TurnJob[Any], seconds: float) -> None:
        """A job had a turn of so long."""
        now = self._now_s()
        if now - self._faded_s > HALF_LIFE_S / 4:
            part = 0.5 ** ((now - self._faded_s) / HALF_LIFE_S)
            self._done = {one: left for one, done in self._done.items() if (left := done * part) > FORGOTTEN_S}
            self._faded_s = now
        for one in (job.upstream.sender, job.upstream):
            self._done[one] = self._done.get(one, 0.0) + seconds + BESIDES_S

    async def arrivals(self) -> None:
        """Returns when something is in line."""
        if not self._queue:
            self._news = anyio.Event()
            await self._news.wait()

    def end(self) -> None:
        """Refuse what is in line, and what comes."""
        self._ended = True
        while self._queue:
            _, job = self.next_job()
            job.fail(stopping())


def stopping() -> Refused:
    """Why a job is not done that is in line when the peer stops."""
    return Refused("the peer stops", reason="busy")
