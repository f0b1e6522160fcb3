"""Work that goes through many small pieces in one go, without holding up the event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import anyio.lowlevel

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


async def in_slices(work: Iterator[None]) -> None:
    """Do work that hands control back by itself. The root of a task."""
    for _ in work:
        await anyio.lowlevel.checkpoint()
