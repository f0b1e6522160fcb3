"""Worker threads that a simulation can do without: the only way to ``anyio.to_thread``, except for the storage, which has its own writer; and their time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
from anyio import to_thread

from fluvial.virtual.loop import is_virtual
from fluvial.waiting import clock

T = TypeVar("T")


async def in_thread(
    work: Callable[[], T], *, limiter: anyio.CapacityLimiter | None = None, abandon_on_cancel: bool = False
) -> T:
    """The result of ``work``, called in a worker thread; under virtual time here and now, in no time.

    Args:
        work: a function that blocks; its exceptions are raised here.
        limiter: bounds the threads; anyio's own (40 threads) by default.
        abandon_on_cancel: whether a cancelled caller leaves the thread alone, instead of waiting for it. Under virtual time
            nobody can be cancelled while ``work`` runs.
    """
    if is_virtual():
        await anyio.lowlevel.checkpoint()
        return work()
    return await to_thread.run_sync(work, limiter=limiter, abandon_on_cancel=abandon_on_cancel)


def work_clock() -> Callable[[], float]:
    """A clock of the seconds for which the calling thread has worked so far.

    Under virtual time nothing takes any: it is the running loop's time then, so that runs repeat themselves.
    """
    return clock() if is_virtual() else time.thread_time


def slice_clock() -> Callable[[], float]:
    """A clock that is cheap to ask: for slices of work, which are over after some milliseconds.

    Under virtual time it is as :func:`work_clock`.
    """
    return clock() if is_virtual() else time.perf_counter
