"""A bounded number of bytes, taken and given back; a caller that asks for more than is free waits behind those that came first."""

from __future__ import annotations

from collections import deque

import anyio


class WindowClosed(Exception):
    """The window was closed: no bytes will be given back any more."""


class ByteWindow:
    """So many bytes.

    Args:
        size: in bytes. A single larger amount is let through when nothing else is taken.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting: deque[tuple[int, anyio.Event]] = deque()
        self._closed = False

    async def take(self, amount: int) -> None:
        """Wait until there is room.

        Raises:
            WindowClosed: the window was closed, before or meanwhile.
        """
        if not self._closed and not self._waiting and self._fits(amount):
            self._taken += amount
            return
        waiter = (amount, anyio.Event())
        if not self._closed:
            self._waiting.append(waiter)
            try:
                await waiter[1].wait()
            except BaseException:
                if waiter in self._waiting:
                    self._waiting.remove(waiter)
                    self._serve()
                elif not self._closed:
                    self.give(amount)
                raise
        if self._closed:
            raise WindowClosed

    def give(self, amount: int) -> None:
        """Give bytes back."""
        self._taken -= amount
        self._serve()

    def close(self) -> None:
        """Refuse all further callers, and wake those that wait with WindowClosed."""
        self._closed = True
        for _, event in self._waiting:
            event.set()
        self._waiting.clear()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, event = self._waiting.popleft()
            self._taken += amount
            event.set()

    def _fits(self, amount: int) -> bool:
        return not self._taken or self._taken + amount <= self._size
