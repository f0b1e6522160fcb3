"""Whose turn it is: a lock that costs next to nothing while nobody waits; first come, first served."""

from __future__ import annotations

from collections import deque

import anyio


class Turn:
    """Had by one at a time.

    Attributes:
        is_taken: whether somebody has it.
    """

    def __init__(self) -> None:
        self._waiting: deque[anyio.Event] = deque()
        self.is_taken = False

    def take_at_once(self) -> bool:
        """Take it, unless somebody else has it."""
        if self.is_taken:
            return False
        self.is_taken = True
        return True

    async def take(self) -> None:
        """Wait for it."""
        if self.take_at_once():
            return
        mine = anyio.Event()
        self._waiting.append(mine)
        try:
            await mine.wait()
        except BaseException:
            if mine.is_set():
                self.give()  # it was handed over at the same time
            else:
                self._waiting.remove(mine)
            raise

    def give(self) -> None:
        """Hand it to who has waited longest, or to nobody."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self.is_taken = False

    async def __aenter__(self) -> None:
        """Wait for it."""
        await self.take()

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        self.give()
