"""One open database: write, read, close. Table groups are built over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import structlog
from anyio import to_thread

from fluvial.errors import StorageError
from fluvial.prepared import Prepared, SqlTransaction
from fluvial.storage.backend import READERS_MAX, Backend, WritingLink
from fluvial.storage.committer import LOG_BYTES, Committer, SqliteCommitter, Work
from fluvial.storage.condition import Condition
from fluvial.storage.connecting import connect
from fluvial.storage.direct import DirectWrite
from fluvial.storage.failures import is_database_error, storage_error, what_work_raised
from fluvial.storage.new_database import make_tables
from fluvial.storage.ownership import Ownership, claim, owner_of, wait_until_free
from fluvial.storage.revisions import check, is_up_to_date
from fluvial.storage.sqlite import SqliteBackend
from fluvial.storage.writer import Writer
from fluvial.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


class SharedDatabase:
    """What a table group's store class works with; made by :func:`open_database`.

    Args:
        backend: the database.
        ownership: the right to write; None if it was opened read-only.
        inline: do everything on the event loop's thread.
        log_bytes: the size beyond which SQLite's log is cut.
        condition: told whether it works, and what goes wrong while nobody waits for an answer.
    """

    def __init__(
        self,
        backend: Backend,
        ownership: Ownership | None,
        *,
        inline: bool = False,
        log_bytes: int = LOG_BYTES,
        condition: Condition,
    ) -> None:
        self.condition: Final = condition
        """Whether it works."""
        self._backend = backend
        self._inline = inline
        self._writer: Writer | None = None
        if ownership is not None:
            committer = _committer(backend, ownership, log_bytes)
            self._writer = Writer(committer, backend.where, inline=inline, condition=self.condition)
        self._readers = anyio.CapacityLimiter(READERS_MAX)

    @property
    def where(self) -> str:
        """Names the database in messages; no password in it."""
        return self._backend.where

    @property
    def read_only(self) -> bool:
        """Whether it was opened for reading alone."""
        return self._writer is None

    @property
    def inline(self) -> bool:
        """Whether it works on the event loop's thread, so that nothing may depend on how long anything takes."""
        return self._inline

    def write(self, work: Work[T]) -> Coroutine[Any, Any, T]:
        """Run ``work`` in a transaction that it may share with others; returns after COMMIT. See :meth:`Writer.run`.

        Raises:
            StorageError: the database failed or was opened read-only.
        """
        if self._writer is None:
            raise StorageError(f"{self.where}: it was opened read-only", hint="this is a bug of the caller")
        return self._writer.run(work)

    def defer(self, work: DirectWrite[Any]) -> None:
        """Write something for which nobody waits; see :meth:`Writer.defer`. Nothing happens if it was opened read-only."""
        if self._writer is not None:
            self._writer.defer(work)

    async def read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """Run ``work`` in a worker thread; all its queries see one snapshot, with everything that was acknowledged or deferred before.

        There is no deadline here: the database has one (busy timeout, statement timeout), and a thread cannot be cancelled.

        Raises:
            StorageError: the database failed.
        """
        if self._writer is not None:
            if self._backend.shared:
                return await self._writer.run(work)
            await self._writer.flushed()
        if self._inline:
            result = self._read(work)
            await anyio.lowlevel.checkpoint()
            return result
        return await to_thread.run_sync(self._read, work, limiter=self._readers)

    async def vacuum(self, tables: Sequence[str]) -> None:
        """Have the place of removed rows used again: PostgreSQL does not do that by itself, SQLite does.

        Source: PostgreSQL documentation, "Routine Vacuuming", section 24.1.2, "Recovering Disk Space".

        Args:
            tables: names of tables.

        Raises:
            StorageError: the database failed.
        """
        if self._backend.dialect == "postgresql":
            await to_thread.run_sync(self._vacuum, tables, limiter=self._readers)

    def _vacuum(self, tables: Sequence[str]) -> None:
        try:
            with self._backend.reader.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.detach()  # it is closed then: nobody else shall have it without a timeout
                connection.exec_driver_sql("SET statement_timeout = 0")
                connection.exec_driver_sql(f"VACUUM (SKIP_LOCKED) {', '.join(tables)}")
        except Exception as error:
            if is_database_error(error):
                raise storage_error(error, self.where) from error
            raise

    def _read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        try:
            if isinstance(work, Prepared):
                with self._backend.reading() as transaction:
                    return work.run(transaction)
            with self._backend.reader.begin() as connection:
                return work(connection)
        except BaseException as error:
            failure = what_work_raised(error, self.where)
            if failure is error:
                raise
            raise failure from error

    async def close(self) -> None:
        """Commit what waits, then close all connections."""
        try:
            if self._writer is not None:
                await self._writer.close()
        finally:
            with anyio.CancelScope(shield=True):
                await _called(self._backend.close, inline=self._inline)


def _committer(backend: Backend, ownership: Ownership, log_bytes: int) -> Committer:
    if isinstance(backend, SqliteBackend):
        return SqliteCommitter(backend, ownership, log_bytes=log_bytes)
    from fluvial.storage.pipelined import PipelinedCommitter  # its driver takes a while to import

    return PipelinedCommitter(backend, ownership)


async def _called(work: Callable[[], T], *, inline: bool) -> T:
    return work() if inline else await to_thread.run_sync(work)


@asynccontextmanager
async def open_database(
    url: str,
    *,
    base_dir: Path,
    tables: Sequence[Tables] = (),
    read_only: bool = False,
    inline: bool = False,
    busy_timeout_s: float = 5.0,
    log_bytes: int = LOG_BYTES,
    condition: Condition | None = None,
) -> AsyncIterator[SharedDatabase]:
    """Open a database and bring its tables up to date; see :func:`fluvial.storage.store.open_store`."""
    condition = Condition(structlog.get_logger()) if condition is None else condition

    def prepare() -> tuple[Backend, Ownership | None]:
        return _prepare(url, base_dir, tables, read_only, busy_timeout_s, condition)

    backend, ownership = await _called(prepare, inline=inline)
    database = SharedDatabase(backend, ownership, inline=inline, log_bytes=log_bytes, condition=condition)
    try:
        yield database
    finally:
        await database.close()


def _prepare(
    url: str, base_dir: Path, tables: Sequence[Tables], read_only: bool, busy_timeout_s: float, condition: Condition
) -> tuple[Backend, Ownership | None]:
    """Connect, then check, or migrate and become the owner."""
    backend: Backend | None = None
    try:
        backend = connect(url, base_dir=base_dir, read_only=read_only, busy_timeout_s=busy_timeout_s)
        if backend.read_only:
            _check(backend, tables)
            return backend, None
        ownership = _owned(backend, tables, condition)
        if ownership.before:
            condition.taken_over(ownership.before)
        if backend.path is not None:
            _write_back(backend)
        return backend, ownership
    except BaseException as error:
        where = "database"
        if backend is not None:
            where = backend.where
            backend.close()
        if is_database_error(error):
            raise storage_error(error, where) from error
        raise


def _owned(backend: Backend, tables: Sequence[Tables], condition: Condition) -> Ownership:
    """Bring the tables up to date, and become the owner."""
    with backend.linked() as link:
        wait_until_free(lambda: _owner(link), backend.where, backend.path, watching=condition.watching)
        with link.begin(), link.lent():
            if is_up_to_date(link.transaction, tables) or make_tables(link.transaction, tables):
                return claim(link.transaction, backend.where, backend.path)
    return _migrated(backend, tables)


def _owner(link: WritingLink) -> Any | None:
    with link.begin():
        return owner_of(link.transaction)


def _migrated(backend: Backend, tables: Sequence[Tables]) -> Ownership:
    from fluvial.storage import schema  # Alembic takes as long to import as the rest of opening
    from fluvial.storage.transactions import LentConnection

    connection = LentConnection(backend.writer)
    with connection, connection.begin(), connection.lent():
        schema.migrate(connection, backend.where, tables)
        return claim(SqlTransaction(connection), backend.where, backend.path)


def _check(backend: Backend, tables: Sequence[Tables]) -> None:
    with backend.reading() as transaction:
        if is_up_to_date(transaction, tables):
            return
    with backend.reader.begin() as connection:
        check(connection, backend.where, tables)


def _write_back(backend: Backend) -> None:
    """Bring the log of a SQLite file into the file: whoever comes by another name for it must find who owns it."""
    with backend.linked() as link:
        link.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
