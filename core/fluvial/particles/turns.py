"""Work that goes through many small pieces in one go, without holding up the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import anyio.lowlevel

from fluvial.light_tasks import LightTasks
from fluvial.waiting import now_s

TURN_S: Final = 0.002
"""After so long the rest of the peer has a turn, in seconds."""


class LoopTurn:
    """How long a stretch of such work has had the event loop."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = now_s() + TURN_S

    async def over(self) -> None:
        """Called after each piece: lets the rest of the peer have a turn, if this one was long."""
        if now_s() > self._until:
            await anyio.lowlevel.checkpoint()
            self._until = now_s() + TURN_S


class SlicedChores:
    """Work that hands control back by itself, one piece after another, in one task that is there as long as there is some.

    With a task for each piece, hundreds of them would have a slice in each round of the loop.

    Args:
        tasks: where the task is begun.
    """

    def __init__(self, tasks: LightTasks) -> None:
        self._tasks = tasks
        self._left: deque[Iterator[None]] = deque()

    def put(self, chore: Iterator[None]) -> None:
        """Do this when those before are done."""
        self._left.append(chore)
        if len(self._left) == 1:
            self._tasks.start(self._work_off())

    async def _work_off(self) -> None:
        """The root of the task."""
        turn = LoopTurn()
        while self._left:
            for _ in self._left[0]:
                await turn.over()
            await turn.over()
            self._left.popleft()  # at last: with nothing left the next one begins a task
