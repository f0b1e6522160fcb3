"""Lets so many bytes through at one time; who comes when there are that many under way waits, first come, first served."""

from __future__ import annotations

from collections import deque

from fluvial.waiting import Future, future


class ByteGate:
    """See the module's docstring.

    Args:
        most: how many; what is larger goes through alone.
    """

    __slots__ = ("_line", "_most", "_under_way")

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = 0
        self._line: deque[tuple[int, Future[None]]] = deque()

    async def enter(self, size: int) -> None:
        """Returns when so many bytes may go through; whoever is cancelled meanwhile has not entered, everybody else says :meth:`leave`."""
        if not self._line and self._fits(size):
            self._under_way += size
            return
        mine: Future[None] = future()
        self._line.append((size, mine))
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self.leave(size)
            else:
                self._line = deque(one for one in self._line if one[1] is not mine)
                self._let_in()
            raise

    def leave(self, size: int) -> None:
        """They have gone through."""
        self._under_way -= size
        self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._under_way or self._under_way + size <= self._most

    def _let_in(self) -> None:
        while self._line and self._fits(self._line[0][0]):
            size, waiting = self._line.popleft()
            if not waiting.done():  # else it was cancelled, and is about to find that out
                self._under_way += size
                waiting.set_result(None)
