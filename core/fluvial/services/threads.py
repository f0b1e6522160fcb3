"""A bounded number of worker threads for functions that block; threads whose callers have given up count, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from fluvial.errors import ServiceError
from fluvial.services.status import Status
from fluvial.virtual.threads import in_thread

T = TypeVar("T")


class Threads:
    """Runs plain functions in threads.

    A thread cannot be ended from outside. When a caller is cancelled (its time limit), the thread goes on alone and keeps its place
    until the function returns; so functions that hang use up the places and further calls fail as busy, but threads never pile up. Under
    virtual time there are no threads: the function runs on the event loop.

    Args:
        most: largest number of threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = threading.BoundedSemaphore(most)
        self._limiter = anyio.CapacityLimiter(most)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``, called in a thread.

        Raises:
            ServiceError: status 6; all threads are taken.
        """
        if not self._places.acquire(blocking=False):
            raise ServiceError(
                Status.BUSY, f"all {self._most} worker threads are taken, some perhaps by calls that were given up"
            )
        job = _Job(work, self._places)
        try:
            return await in_thread(job.run, abandon_on_cancel=True, limiter=self._limiter)
        except BaseException:
            job.withdraw()
            raise


class _Job(Generic[T]):
    """A piece of work that gives its place back exactly once: when it ends, or when it is withdrawn before it began."""

    def __init__(self, work: Callable[[], T], places: threading.BoundedSemaphore) -> None:
        self._work = work
        self._places = places
        self._taken = threading.Lock()

    def run(self) -> T:
        """Called in the thread."""
        if not self._taken.acquire(blocking=False):
            raise RuntimeError("the call was given up before its thread began")  # nobody waits for this any more
        try:
            return self._work()
        finally:
            self._places.release()

    def withdraw(self) -> None:
        """Called on the event loop; without effect once the thread has begun."""
        if self._taken.acquire(blocking=False):
            self._places.release()
