"""Brings entries of the log to the disk: one write at a time, and all that has gathered meanwhile goes into the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
from sqlalchemy import Connection

from fluvial.hosting.log import ConsensusLog
from fluvial.ports import Database

LAZY_S: Final = 0.01
"""How long entries wait that nothing depends on; a barrier takes them along."""


@dataclass(slots=True)
class _Batch:
    """What goes into one write: entries, the last barrier behind them, and what happens when they are durable."""

    entries: list[bytes] = field(default_factory=list)
    barrier: int = 0
    after: list[Callable[[], None]] = field(default_factory=list)


class LogWriter:
    """Writes the log of one host.

    Args:
        database: the port.
        log: knows the tables.
        durable: told the number of a barrier when all before it is durable.
    """

    def __init__(self, database: Database, log: ConsensusLog, durable: Callable[[int], None]) -> None:
        self._database, self._log, self._durable = database, log, durable
        self._waiting = _Batch()
        self._writing: _Batch | None = None
        self._wake = anyio.Event()
        self._hurry = anyio.Event()

    def append(self, entry: bytes) -> None:
        """Write an entry at the end."""
        self._waiting.entries.append(entry)
        self._wake.set()

    def sync(self, number: int) -> None:
        """Write all that waits now, and tell when it is durable."""
        self._waiting.barrier = number
        self._wake.set()
        self._hurry.set()

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
            await self._wake.wait()
            with anyio.move_on_after(LAZY_S):
                await self._hurry.wait()
            batch, self._waiting = self._waiting, _Batch()
            self._wake, self._hurry = anyio.Event(), anyio.Event()
            self._writing = batch
            if batch.entries:
                number = await self._database.write(partial(self._append, batch.entries))
                self._log.appended(number)
            self._writing = None
            for happen in batch.after:
                happen()
            if batch.barrier:
                self._durable(batch.barrier)

    def _append(self, entries: Sequence[bytes], connection: Connection) -> int:
        return self._log.append(connection, entries)
