"""A thread that is used in turns, by whoever came last first.

Where others choose how long a turn takes, those who wait are mostly theirs: the last one would wait for all of them. Who has waited for long is given up anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from anyio import CapacityLimiter
from fluvial.virtual.threads import in_thread
from fluvial.waiting import Future, future

T = TypeVar("T")


class NewestFirst:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._limiter: Final = CapacityLimiter(1)
        self._taken = False
        self._line: list[Future[None]] = []

    async def call(self, work: Callable[[], T]) -> T:
        """The result of a function that blocks; who is cancelled leaves it to the thread. Raises as it does."""
        await self._turn()
        try:
            return await in_thread(work, limiter=self._limiter, abandon_on_cancel=True)
        finally:
            self._next()

    async def _turn(self) -> None:
        if not self._taken:
            self._taken = True
            return
        turn: Future[None] = future()
        self._line.append(turn)
        try:
            await turn
        except BaseException:
            if turn in self._line:
                self._line.remove(turn)
            else:
                self._next()
            raise

    def _next(self) -> None:
        if self._line:
            turn = self._line.pop()
            if not turn.done():
                turn.set_result(None)
        else:
            self._taken = False
