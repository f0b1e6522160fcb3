"""What is not needed any more, in a database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.particle import ParticleKey
from fluvial.prepared import Prepared, Statement, Transaction
from fluvial.storage.database import SharedDatabase
from fluvial.storage.holdings import Holdings, Place, Removed
from fluvial.storage.removal import forget, make_room, shrink
from fluvial.storage.retention import FREED_BYTES_MAX, Retention

VACUUM_BYTES: Final = 32 * 2**20
"""PostgreSQL is told to use the place of removed rows again when so much was removed; its own autovacuum looks once a minute."""

_VACUUMED: Final = ("particles", "journal", "outbox", "scripts", "stories")
_USED: Final = Statement(
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)


class SqlRetention(Retention):
    """See :class:`Retention`.

    Args:
        database: the open database.
        holdings: told of what is gone.
    """

    def __init__(self, database: SharedDatabase, holdings: Holdings) -> None:
        super().__init__(holdings)
        self._database = database
        self._reached: Place | None = None
        self._unused = 0  # bytes removed since the last vacuum

    async def measure(self) -> None:
        """See :class:`Retention`."""
        if (used := await self._database.read(Prepared(_used))) is not None:
            self.account.measured(used)

    async def _forget(self, end_ms: int, guarded_ms: int, most: int) -> Removed:
        def work(transaction: Transaction) -> Removed:
            return forget(transaction, end_ms=end_ms, guarded_ms=guarded_ms, most=most, bytes_most=FREED_BYTES_MAX)

        return await self._run(work)

    async def _make_room(self, now_ms: int, guarded_ms: int, most: int) -> Removed:
        def work(transaction: Transaction) -> Removed:
            return make_room(
                transaction,
                now_ms=now_ms,
                guarded_ms=guarded_ms,
                most=most,
                bytes_most=FREED_BYTES_MAX,
                since=self._reached,
            )

        removed = await self._run(work)
        self._reached = removed.reached
        return removed

    async def _shrink(self, key: ParticleKey, story: bytes, now_ms: int, guarded_ms: int) -> Removed:
        return await self._run(
            lambda transaction: shrink(transaction, key, story, now_ms=now_ms, guarded_ms=guarded_ms)
        )

    async def _run(self, work: Callable[[Transaction], Removed]) -> Removed:
        removed = await self._database.write(Prepared(work))
        if self._database.inline:  # nothing may depend on how fast this machine is
            removed.work_s = 0.0
        self._unused += removed.freed
        if self._unused > VACUUM_BYTES:
            self._unused = 0
            await self._database.vacuum(_VACUUMED)
        return removed


def _used(transaction: Transaction) -> int | None:
    """Bytes of the file that are in use; None where that cannot be said: tables of PostgreSQL keep what is free for later."""
    return transaction.value(_USED) if transaction.dialect == "sqlite" else None
