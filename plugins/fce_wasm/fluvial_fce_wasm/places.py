"""Places for the processes of services: there are so many at most, and who was idle longest makes room."""

from __future__ import annotations

from typing import Protocol

from fluvial.effectors import EffectorError
from fluvial.services import Status


class Holder(Protocol):
    """Who has a process, or is about to start one.

    Attributes:
        used_at: when it was called last.
    """

    used_at: float

    @property
    def is_busy(self) -> bool:
        """Whether it cannot be closed now."""
        ...

    async def close(self) -> None:
        """End its process; it gives its place back. Busy from the first moment on."""
        ...


class ProcessPlaces:
    """Who has a place. It is taken before a process is started, and given back when the process has ended.

    Args:
        most: so many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._holders: dict[Holder, None] = {}

    async def take(self, wanted: Holder) -> None:
        """Have a place, that of who was idle longest if all are taken; whoever fails here may have it already, and gives it back.

        Raises:
            EffectorError: all are busy.
        """
        if wanted in self._holders:
            return
        if len(self._holders) < self._most:
            self._holders[wanted] = None
            return
        idle = [one for one in self._holders if not one.is_busy]
        if not idle:
            raise EffectorError(
                Status.BUSY, f"{len(self._holders)} services are busy in their processes, the most there may be"
            )
        victim = min(idle, key=lambda one: one.used_at)
        del self._holders[victim]  # at once, so that nobody else closes it or takes the place that becomes free
        self._holders[wanted] = None
        await victim.close()

    def give(self, holder: Holder) -> None:
        """Have no place any more."""
        self._holders.pop(holder, None)
