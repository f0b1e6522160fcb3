"""A disk that forgets: what a crash leaves of a log depends on what was made durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from fluvial.consensus.wal import framed, recovered

FLUSH_US: Final = 100_000
"""What nobody syncs is flushed by itself at every multiple of this time, in microseconds."""


class SimulatedDisk:
    """The log of one node."""

    def __init__(self) -> None:
        self._entries: list[bytes] = []
        self._durable = 0
        self._flushed_at = 0

    def append(self, entry: bytes, at_us: int) -> None:
        """Write an entry; it is not durable yet."""
        self._flush(at_us)
        self._entries.append(entry)

    @property
    def length(self) -> int:
        """How many entries were written."""
        return len(self._entries)

    def make_durable(self, length: int) -> None:
        """A sync of the first entries has ended."""
        self._durable = max(self._durable, min(length, len(self._entries)))

    def crash(self, how: Literal["keep", "lose_unsynced", "torn"], at_us: int) -> None:
        """Lose what a crash loses. What is left is read back through the real framing, torn ends included."""
        self._flush(at_us)
        kept = len(self._entries) if how == "keep" else self._durable
        log = b"".join(framed(number, entry) for number, entry in enumerate(self._entries[:kept]))
        if how == "torn" and kept < len(self._entries):
            torn = framed(kept, self._entries[kept])
            log += torn[: len(torn) // 2]
        self._entries = list(recovered(log)[0])
        self._durable = len(self._entries)

    def rewrite(self, entries: Sequence[bytes]) -> None:
        """Have other entries, durably."""
        self._entries = list(entries)
        self._durable = len(self._entries)

    def wipe(self) -> None:
        """Lose everything."""
        self._entries.clear()
        self._durable = 0

    def read(self) -> Sequence[bytes]:
        """All entries."""
        return tuple(self._entries)

    def _flush(self, at_us: int) -> None:
        tick = at_us // FLUSH_US
        if tick > self._flushed_at:
            self._flushed_at = tick
            self._durable = len(self._entries)
