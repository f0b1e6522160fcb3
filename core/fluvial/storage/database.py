"""One open database: write, read, close. Table groups are built over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from fluvial.errors import StorageError
from fluvial.storage.backend import READERS_MAX, Backend
from fluvial.storage.committer import LOG_BYTES, Committer, SqliteCommitter, Work
from fluvial.storage.connecting import connect
from fluvial.storage.direct import DirectWrite
from fluvial.storage.failures import is_database_error, storage_error, what_work_raised
from fluvial.storage.ownership import Ownership, claim, wait_until_free
from fluvial.storage.revisions import check, migrate
from fluvial.storage.transactions import LentConnection
from fluvial.storage.writer import Writer
from fluvial.tables import Tables

T = TypeVar("T")


class SharedDatabase:
    """What a table group's store class works with; made by :func:`open_database`.

    Args:
        backend: the engines.
        ownership: the right to write; None if it was opened read-only.
        inline: do everything on the event loop's thread.
        log_bytes: the size beyond which SQLite's log is cut.
        on_trouble: told what goes wrong while nobody waits for an answer, and once when the database is lost.
    """

    def __init__(
        self,
        backend: Backend,
        ownership: Ownership | None,
        *,
        inline: bool = False,
        log_bytes: int = LOG_BYTES,
        on_trouble: Callable[[StorageError], None] = lambda _: None,
    ) -> None:
        self._backend = backend
        self._inline = inline
        self._writer: Writer | None = None
        if ownership is not None:
            committer = _committer(backend, ownership, log_bytes)
            self._writer = Writer(committer, backend.where, inline=inline, on_trouble=on_trouble)
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

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in a transaction that it may share with others; returns after COMMIT. See :meth:`Writer.run`.

        Raises:
            StorageError: the database failed or was opened read-only.
        """
        if self._writer is None:
            raise StorageError(f"{self.where}: it was opened read-only", hint="this is a bug of the caller")
        return await self._writer.run(work)

    def defer(self, work: DirectWrite[Any]) -> None:
        """Write something for which nobody waits; see :meth:`Writer.defer`. Nothing happens if it was opened read-only."""
        if self._writer is not None:
            self._writer.defer(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
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
        if self._backend.reader.dialect.name == "postgresql":
            await to_thread.run_sync(self._vacuum, tables, limiter=self._readers)

    def _vacuum(self, tables: Sequence[str]) -> None:
        try:
            with self._backend.reader.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.detach()  # it is closed then: nobody else shall have it without a timeout
                connection.exec_driver_sql("SET statement_timeout = 0")
                connection.exec_driver_sql(f"VACUUM (SKIP_LOCKED) {', '.join(tables)}")
        except SQLAlchemyError as error:
            raise storage_error(error, self.where) from error

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
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
    assert backend.writer is not None
    if backend.writer.dialect.name == "sqlite":
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
    on_trouble: Callable[[StorageError], None] = lambda _: None,
) -> AsyncIterator[SharedDatabase]:
    """Open a database and bring its tables up to date; see :func:`fluvial.storage.store.open_store`."""

    def prepare() -> tuple[Backend, Ownership | None]:
        return _prepare(url, base_dir, tables, read_only, busy_timeout_s)

    backend, ownership = await _called(prepare, inline=inline)
    database = SharedDatabase(backend, ownership, inline=inline, log_bytes=log_bytes, on_trouble=on_trouble)
    try:
        yield database
    finally:
        await database.close()


def _prepare(
    url: str, base_dir: Path, tables: Sequence[Tables], read_only: bool, busy_timeout_s: float
) -> tuple[Backend, Ownership | None]:
    """Connect, then check, or migrate and become the owner."""
    backend: Backend | None = None
    try:
        backend = connect(url, base_dir=base_dir, read_only=read_only, busy_timeout_s=busy_timeout_s)
        if backend.writer is None:
            with backend.reader.begin() as reading:
                check(reading, backend.where, tables)
            return backend, None
        wait_until_free(backend.writer, backend.where, backend.path)
        connection = LentConnection(backend.writer)
        with connection, connection.begin(), connection.lent():
            migrate(connection, backend.where, tables)
            ownership = claim(connection, backend.where, backend.path)
        if backend.path is not None:
            _write_back(backend.writer)
    except BaseException as error:
        where = "database"
        if backend is not None:
            where = backend.where
            backend.close()
        if is_database_error(error):
            raise storage_error(error, where) from error
        raise
    return backend, ownership


def _write_back(engine: Engine) -> None:
    """Bring the log of a SQLite file into the file: whoever comes by another name for it must find who owns it."""
    link = engine.raw_connection()
    try:
        link.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        link.close()
