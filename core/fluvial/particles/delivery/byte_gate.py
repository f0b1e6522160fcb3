"""Lets so many bytes through at one time; who comes when there are that many under way waits, and goes on in a fair order."""

from __future__ import annotations

from typing import TypeAlias

from fluvial.fairness import GroupedFairQueue, Upstream
from fluvial.identity import PeerId
from fluvial.waiting import Future, future

_Waiting: TypeAlias = tuple[int, Future[None]]


class ByteGate:
    """See the module's docstring.

    Args:
        most: how many; what is larger goes through alone.
    """

    __slots__ = ("_line", "_most", "_next", "_under_way")

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = 0
        self._line: GroupedFairQueue[_Waiting] | None = None  # made when somebody waits
        self._next: _Waiting | None = None  # whose turn it is, as soon as there is room

    async def enter(self, size: int, upstream: Upstream, owner: PeerId) -> None:
        """Returns when so many bytes may go through; whoever is cancelled meanwhile has not entered, everybody else says :meth:`leave`.

        Args:
            size: how many.
            upstream: which way they came.
            owner: of whom.
        """
        if self._next is None and not self._line and self._fits(size):
            self._under_way += size
            return
        if self._line is None:
            self._line = GroupedFairQueue()
        waiting: _Waiting = size, future()
        self._line.push(upstream, owner, waiting)
        self._let_in()
        try:
            await waiting[1]
        except BaseException:
            if waiting[1].done() and not waiting[1].cancelled():
                self._under_way -= size
            elif waiting is self._next:
                self._next = None
            else:
                self._line.remove(upstream, owner, waiting)
            self._let_in()
            raise

    def leave(self, size: int) -> None:
        """They have gone through."""
        self._under_way -= size
        self._let_in()

    def _fits(self, size: int) -> bool:
        return not self._under_way or self._under_way + size <= self._most

    def _let_in(self) -> None:
        while self._next is not None or self._line:
            if self._next is None:
                assert self._line is not None
                self._next = self._line.pop()
            size, waiting = self._next
            if not waiting.done():  # else it was cancelled, and is about to find that out
                if not self._fits(size):
                    return
                self._under_way += size
                waiting.set_result(None)
            self._next = None
