"""One after another: what is done with a particle's session has a turn, and nobody else may use the session before it is over."""

from __future__ import annotations

from collections.abc import Callable

from fluvial.waiting import Lock


class ExclusiveTurns:
    """The turns of one actor.

    Attributes:
        wanted: how many are under way, or waited for.
    """

    __slots__ = ("_lock", "wanted")

    def __init__(self) -> None:
        self._lock = Lock()
        self.wanted = 0

    def turn(self, over: Callable[[], None]) -> ExclusiveTurn:
        """For ``async with``: a turn; ``over`` is called when it is, or is not waited for any more."""
        return ExclusiveTurn(self, self._lock, over)


class ExclusiveTurn:
    """Made for each turn: an actor that had one would be in a circle with it, and stay in memory until the garbage collector comes."""

    __slots__ = ("_lock", "_over", "_turns")

    def __init__(self, turns: ExclusiveTurns, lock: Lock, over: Callable[[], None]) -> None:
        self._turns = turns
        self._lock = lock
        self._over = over

    async def __aenter__(self) -> None:
        self._turns.wanted += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._end()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
        self._end()

    def _end(self) -> None:
        self._turns.wanted -= 1
        self._over()
