"""How many calls may be in progress: in total and per service; a bounded number waits, the rest is told that we are busy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from fluvial.errors import ServiceError
from fluvial.services.status import Status


@dataclass(slots=True)
class _Line:
    """One service's places, and how many calls have one or wait for one."""

    most: int
    places: anyio.Semaphore
    calls: int = 0


class Gate:
    """Lets calls through.

    Args:
        calls_max: calls in progress, all services together.
        waiting_max: calls that wait, for each service.
        waiting_s_max: how long one waits, in seconds.
    """

    def __init__(self, *, calls_max: int, waiting_max: int, waiting_s_max: float) -> None:
        self._calls_max = calls_max
        self._waiting_max = waiting_max
        self._waiting_s_max = waiting_s_max
        self._places = anyio.Semaphore(calls_max, fast_acquire=True)
        self._lines: dict[str, _Line] = {}
        self._calls = 0

    @asynccontextmanager
    async def place(self, service: str, most: int) -> AsyncIterator[None]:
        """A place for one call of a service, of which at most ``most`` are in progress at once.

        Raises:
            ServiceError: status 6; too many wait already, or this one has waited too long.
        """
        line = self._lines.get(service)
        if line is None:
            line = _Line(most, anyio.Semaphore(most, fast_acquire=True))
        if line.calls >= line.most + self._waiting_max:
            raise _busy(f"service {service!r}: {line.most} calls are in progress, {self._waiting_max} more wait")
        if self._calls >= self._calls_max + self._waiting_max:
            raise _busy(f"{self._calls_max} calls are in progress on this peer, {self._waiting_max} more wait")
        self._lines[service] = line
        line.calls += 1
        self._calls += 1
        try:
            deadline = anyio.current_time() + self._waiting_s_max
            # First the service's own place: who waits for a slow service must not keep others from a general place.
            async with _held(line.places, deadline, service), _held(self._places, deadline, service):
                yield
        finally:
            self._calls -= 1
            line.calls -= 1
            if not line.calls:
                self._lines.pop(service, None)


@asynccontextmanager
async def _held(places: anyio.Semaphore, deadline: float, service: str) -> AsyncIterator[None]:
    with anyio.CancelScope(deadline=deadline) as waiting:
        await places.acquire()
    if waiting.cancelled_caught:
        raise _busy(f"service {service!r}: no place became free in time")
    try:
        yield
    finally:
        places.release()


def _busy(what: str) -> ServiceError:
    return ServiceError(Status.BUSY, f"{what}; try again later")
