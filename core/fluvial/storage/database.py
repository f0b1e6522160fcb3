"""One open database: write, read, close. Table groups are built over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection

from fluvial.errors import StorageError
from fluvial.storage.backend import READERS_MAX, Backend, connect
from fluvial.storage.failures import is_database_error, storage_error, what_work_raised
from fluvial.storage.schema import check, migrate
from fluvial.storage.transactions import whole
from fluvial.storage.writer import InlineWriter, ThreadedWriter, Writer
from fluvial.tables import Tables

T = TypeVar("T")


class SharedDatabase:
    """What a table group's store class works with; made by :func:`open_database`.

    Args:
        backend: the engines.
        inline: do everything on the event loop's thread; see :class:`~fluvial.storage.writer.InlineWriter`.
    """

    def __init__(self, backend: Backend, *, inline: bool = False) -> None:
        self._backend = backend
        self._inline = inline
        self._writer: Writer | None = None
        if backend.writer is not None:
            self._writer = (InlineWriter if inline else ThreadedWriter)(backend.writer, backend.where)
        self._readers = anyio.CapacityLimiter(READERS_MAX)

    @property
    def where(self) -> str:
        """Names the database in messages; no password in it."""
        return self._backend.where

    @property
    def read_only(self) -> bool:
        """Whether it was opened for reading alone."""
        return self._writer is None

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction that it may share with others; returns after COMMIT. See :meth:`Writer.run`.

        Raises:
            StorageError: the database failed or was opened read-only.
        """
        if self._writer is None:
            raise StorageError(f"{self.where}: it was opened read-only", hint="this is a bug of the caller")
        return await self._writer.run(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a worker thread; all its queries see one snapshot, with everything that was acknowledged before.

        There is no deadline here: the database has one (busy timeout, statement timeout), and a thread cannot be cancelled.

        Raises:
            StorageError: the database failed.
        """
        if self._backend.shared and self._writer is not None:
            return await self._writer.run(work)
        if self._inline:
            result = self._read(work)
            await anyio.lowlevel.checkpoint()
            return result
        return await to_thread.run_sync(self._read, work, limiter=self._readers)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._backend.reader.begin() as connection, whole(connection):
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
) -> AsyncIterator[SharedDatabase]:
    """Open a database and bring its tables up to date; see :func:`fluvial.storage.store.open_store`."""

    def prepare() -> Backend:
        return _prepare(url, base_dir, tables, read_only, busy_timeout_s)

    database = SharedDatabase(await _called(prepare, inline=inline), inline=inline)
    try:
        yield database
    finally:
        await database.close()


def _prepare(url: str, base_dir: Path, tables: Sequence[Tables], read_only: bool, busy_timeout_s: float) -> Backend:
    """Connect, then migrate or check."""
    backend: Backend | None = None
    try:
        backend = connect(url, base_dir=base_dir, read_only=read_only, busy_timeout_s=busy_timeout_s)
        if backend.writer is None:
            with backend.reader.begin() as connection:
                check(connection, backend.where, tables)
        else:
            with backend.writer.begin() as connection, whole(connection):
                migrate(connection, backend.where, tables)
    except BaseException as error:
        where = "database"
        if backend is not None:
            where = backend.where
            backend.close()
        if is_database_error(error):
            raise storage_error(error, where) from error
        raise
    return backend
