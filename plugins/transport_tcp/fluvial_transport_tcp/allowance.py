"""A bounded amount that many tasks share; who asks for more than is left waits in line."""

from __future__ import annotations

from collections import deque

import anyio


class AllowanceClosed(Exception):
    """There will be no more: what the allowance was for has ended."""


class _Place:
    """A place in the line."""

    __slots__ = ("amount", "granted", "turn")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.granted = False
        self.turn = anyio.Event()


class Allowance:
    """First come, first served.

    Args:
        total: what there is at first; who asks for more than that gets it when all of it is left.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._left = total
        self._line: deque[_Place] = deque()
        self._closed = False

    def free(self, amount: int) -> bool:
        """Whether ``amount`` could be taken now without waiting."""
        return not self._line and (amount <= self._left or self._left == self._total)

    async def take(self, amount: int) -> None:
        """Take ``amount``, waiting for it if need be; a cancelled wait takes nothing.

        Raises:
            AllowanceClosed: :meth:`close` was called before it was granted.
        """
        if self._closed:
            raise AllowanceClosed
        if self.free(amount):
            self._left -= amount
            return
        place = _Place(amount)
        self._line.append(place)
        try:
            await place.turn.wait()
        except BaseException:
            if place.granted:
                self.give(amount)
            elif place in self._line:
                self._line.remove(place)
                self._serve()
            raise
        if not place.granted:
            raise AllowanceClosed

    def overdraw(self, amount: int) -> None:
        """Take at once, whatever is left; for small things that must not wait."""
        self._left -= amount

    def give(self, amount: int) -> None:
        """Put back what was taken."""
        self._left += amount
        self._serve()

    def close(self) -> None:
        """Refuse all who wait and all who will ask."""
        self._closed = True
        while self._line:
            self._line.popleft().turn.set()

    def _serve(self) -> None:
        while self._line and (self._line[0].amount <= self._left or self._left == self._total):
            place = self._line.popleft()
            self._left -= place.amount
            place.granted = True
            place.turn.set()
