"""A bounded number of worker threads for functions that block, shared by who brought the calls; threads whose callers have given up count, too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio

from fluvial.errors import ServiceError
from fluvial.fairness import SharedPlaces
from fluvial.identity import PeerId
from fluvial.services.status import Status
from fluvial.virtual.threads import in_thread

T = TypeVar("T")


class Threads:
    """Runs plain functions in threads.

    A thread cannot be ended from outside. When a caller is cancelled (its time limit), the thread goes on alone and keeps its place
    until the function returns; so functions that hang use up the places and further calls fail as busy, but threads never pile up. The more
    of them the calls have that one peer brought, the more must be free for a further one. Under virtual time there are no threads: the function runs on
    the event loop.

    Args:
        most: largest number of threads.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = SharedPlaces[PeerId](most, most, most)
        self._lock = threading.Lock()
        self._limiter = anyio.CapacityLimiter(most)

    async def run(self, work: Callable[[], T], sender: PeerId) -> T:
        """The result of ``work``, called in a thread.

        Args:
            work: blocks.
            sender: who brought the call.

        Raises:
            ServiceError: status 6; all threads are taken, or too many by calls that this peer brought.
        """
        with self._lock:
            if not self._places.take(sender):
                raise self._busy(sender)
        job = _Job(work, partial(self._give, sender))
        try:
            return await in_thread(job.run, abandon_on_cancel=True, limiter=self._limiter)
        except BaseException:
            job.withdraw()
            raise

    def _give(self, sender: PeerId) -> None:
        """Called in any thread."""
        with self._lock:
            self._places.give(sender)

    def _busy(self, sender: PeerId) -> ServiceError:
        if (taken := self._places.taken) < self._most:
            text = f"{taken} of {self._most} worker threads are taken, {self._places.has(sender)} of them by calls that came the same way"
        else:
            text = f"all {self._most} worker threads are taken, some perhaps by calls that were given up"
        return ServiceError(Status.BUSY, text)


class _Job(Generic[T]):
    """A piece of work that gives its place back exactly once: when it ends, or when it is withdrawn before it began."""

    def __init__(self, work: Callable[[], T], give_back: Callable[[], None]) -> None:
        self._work = work
        self._give_back = give_back
        self._taken = threading.Lock()

    def run(self) -> T:
        """Called in the thread."""
        if not self._taken.acquire(blocking=False):
            raise RuntimeError("the call was given up before its thread began")  # nobody waits for this any more
        try:
            return self._work()
        finally:
            self._give_back()

    def withdraw(self) -> None:
        """Called on the event loop; without effect once the thread has begun."""
        if self._taken.acquire(blocking=False):
            self._give_back()
