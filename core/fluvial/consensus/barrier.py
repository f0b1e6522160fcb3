"""The barrier behind ``Persist``: nothing that follows a record leaves before the record is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fluvial.consensus.outputs import Append, Output, Sync


class OutputQueue:
    """Outputs of a replica, in order, some of them held back until the disk has caught up."""

    def __init__(self) -> None:
        self._ready: list[Output] = []
        self._held: deque[tuple[int, list[Output]]] = deque()
        self._barriers = 0
        self._unsynced = False

    def put(self, output: Output) -> None:
        """An output that must not leave before everything that was persisted is durable."""
        self._close()
        (self._held[-1][1] if self._held else self._ready).append(output)

    def put_now(self, output: Output) -> None:
        """An output that waits for nothing, such as a timer."""
        self._ready.append(output)

    def append(self, entry: bytes, *, barrier: bool) -> None:
        """Write an entry; as a barrier, it holds back what follows. Entries with nothing between them share one sync."""
        self._ready.append(Append(entry))
        self._unsynced = self._unsynced or barrier

    def durable(self, number: int) -> None:
        """Everything up to a sync is durable."""
        while self._held and self._held[0][0] <= number:
            self._ready += self._held.popleft()[1]

    def taken(self) -> Sequence[Output]:
        """What is for the shell now."""
        self._close()
        ready, self._ready = self._ready, []
        return ready

    def _close(self) -> None:
        if self._unsynced:
            self._unsynced = False
            self._barriers += 1
            self._ready.append(Sync(self._barriers))
            self._held.append((self._barriers, []))
