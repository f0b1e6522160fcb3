"""Brings entries of the log to the disk: one write at a time, and all that has gathered meanwhile goes into the next one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from fluvial import waiting
from fluvial.hosting.log import ConsensusLog
from fluvial.storage.direct import DirectWrite

LAZY_S: Final = 0.01
"""How long entries wait that nothing depends on; a barrier takes them along."""


@dataclass(slots=True)
class _Batch:
    """What goes into one write: entries, the last barrier behind them, and what happens when they are durable."""

    entries: list[bytes] = field(default_factory=list)
    barrier: int = 0
    after: list[Callable[[], None]] = field(default_factory=list)


class LogDatabase(Protocol):
    """The port ``Database`` as core's own parts have it: for writes as data, which cost a part of the others."""

    async def write(self, work: DirectWrite[int]) -> int:
        """What the write gives, once it is durable; raises StorageError."""
        ...


class LogWriter:
    """Writes the log of one host.

    Args:
        database: of this part.
        log: knows the tables.
        durable: told the number of a barrier when all before it is durable.
    """

    def __init__(self, database: LogDatabase, log: ConsensusLog, durable: Callable[[int], None]) -> None:
        self._database, self._log, self._durable = database, log, durable
        self._waiting = _Batch()
        self._writing: _Batch | None = None
        self._due = waiting.Event()
        self._lazy: waiting.TimerHandle | None = None

    def append(self, entry: bytes) -> None:
        """Write an entry at the end."""
        self._waiting.entries.append(entry)
        if self._lazy is None:
            self._lazy = waiting.later(LAZY_S, self._due.set)

    def sync(self, number: int) -> None:
        """Write all that waits now, and tell when it is durable."""
        self._waiting.barrier = number
        self._due.set()

    def then(self, happen: Callable[[], None]) -> None:
        """Call something once all that was appended so far is durable."""
        if self._waiting.entries:
            self._waiting.after.append(happen)
        elif self._writing is not None:
            self._writing.after.append(happen)
        else:
            happen()

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            StorageError: the database failed; nothing may be sent any more.
        """
        while True:
            await self._due.wait()
            self._due.clear()
            if self._lazy is not None:
                self._lazy.cancel()
                self._lazy = None
            batch, self._waiting = self._waiting, _Batch()
            self._writing = batch
            if batch.entries:
                self._log.appended(await self._database.write(self._log.append(batch.entries)))
            self._writing = None
            for happen in batch.after:
                happen()
            if batch.barrier:
                self._durable(batch.barrier)
