"""Where the room's file operations run: in worker threads, or at once under virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import anyio

from fluvial.virtual.threads import in_thread

T = TypeVar("T")

FILE_THREADS_MAX: Final = 4
"""File operations of one node at the same time; further ones wait in order."""


class FileWork:
    """File operations in a few worker threads, so that a slow disk does not hold up the node.

    There is no deadline: the operations are short (4 MiB at most), and a thread that hangs in the kernel cannot be ended.
    """

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(FILE_THREADS_MAX)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of ``work``. It is never given up half-way: a cancelled caller waits for its end."""
        return await in_thread(work, limiter=self._limiter)
