"""How much of what comes in is begun in one round of the event loop, over all connections together.

What a message costs is not known before it is handled: a ping next to nothing, a record with a path of trusts in it two milliseconds. A few of these
over each of a hundred connections would make a round of seconds, and whoever else is there needs many rounds. So jobs begin during a few milliseconds of a
round; after that they wait in line. Each round has places for the first in line: the connections that have had the fewest turns since they
had nothing to do. So a flood waits for itself, and who comes with a single message is served next.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Final

import anyio
from fluvial import waiting

ROUND_S: Final = 0.005
"""For how much of this thread's time jobs begin in a round, in seconds."""
TURNS: Final = 8
"""Jobs of those in line that begin in a round, if it has the time."""


class WorkRounds:
    """See the module's docstring; one for all connections of a transport.

    Args:
        now: seconds of processor time of this thread: what other processes take is not counted.
    """

    def __init__(self, now: Callable[[], float] = time.thread_time) -> None:
        self._now: Final = now
        self._until: float | None = None  # the end of the time of this round; None before the first job
        self._line: list[tuple[int, int, anyio.Event]] = []
        self._called = 0  # out of the line, for this round
        self._order = count()

    def open(self) -> bool:
        """Whether a job may begin at once: nobody is in line, and this round has time left."""
        if self._until is None:
            self._until = self._now() + ROUND_S
            waiting.soon(self._next)
            return True
        return not self._line and not self._called and self._now() < self._until

    async def turn(self, had: int) -> None:
        """Wait in line; then one job may begin. Only where :meth:`open` has just said no.

        Args:
            had: turns that this connection has had since it had nothing to do; the fewer, the sooner.
        """
        order = next(self._order)
        while True:
            mine = anyio.Event()
            heappush(self._line, (had, order, mine))
            await mine.wait()
            if self._until is None or self._now() < self._until:
                return

    def _next(self) -> None:
        """A new round begins."""
        if not self._line and not self._called:
            self._until = None
            return
        self._until = self._now() + ROUND_S
        waiting.soon(self._next)  # first, so that those who are called find a new round
        self._called = min(TURNS, len(self._line))
        for _ in range(self._called):
            heappop(self._line)[2].set()
