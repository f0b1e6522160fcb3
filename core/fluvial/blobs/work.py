"""Where the room's file operations run: in worker threads, or at once where one process simulates many peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

FILE_THREADS_MAX: Final = 4
"""File operations of one node at the same time; further ones wait in order."""


class FileWork(Protocol):
    """Runs blocking file operations."""

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``. It is never given up half-way: a cancelled caller waits for its end."""
        ...


class ThreadedFileWork:
    """File operations in a few worker threads, so that a slow disk does not hold up the node.

    There is no deadline: the operations are short (4 MiB at most), and a thread that hangs in the kernel cannot be ended.
    """

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(FILE_THREADS_MAX)

    async def run(self, work: Callable[[], T]) -> T:
        """See :class:`FileWork`."""
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)


class InlineFileWork:
    """File operations on the event loop, in the order in which they are asked for: the same in each run of a simulation."""

    async def run(self, work: Callable[[], T]) -> T:
        """See :class:`FileWork`."""
        await anyio.lowlevel.checkpoint()
        return work()
