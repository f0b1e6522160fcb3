"""SQLite: a file in write-ahead-log mode, or a database in memory.

Durability: in WAL mode a commit is an append to the ``-wal`` file, which the next opener replays, so it survives ``kill -9`` as soon as
it is written; ``synchronous=FULL`` syncs the log at every commit, so it survives a loss of power too (with ``NORMAL`` it would not).
Source: SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous".

The only writer: see ``file_lock.py``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluvial.errors import StorageError
from fluvial.storage.file_lock import FileLock
from fluvial.storage.sqlite_links import SqliteLink, SqliteReaders, SqliteTransaction

if TYPE_CHECKING:
    from sqlalchemy import Engine

OLDEST_VERSION: Final = (3, 35, 0)
"""The first with RETURNING."""


def in_memory(*, read_only: bool) -> SqliteBackend:
    """A new database that lives as long as its single connection.

    Raises:
        StorageError: it should be read-only, or the SQLite library is too old.
    """
    if read_only:
        raise StorageError("sqlite://: a database in memory is empty when it is opened; reading alone makes no sense")
    _check_version()

    def open_one() -> sqlite3.Connection:
        driver = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        driver.execute("PRAGMA foreign_keys = ON")
        return driver

    return SqliteBackend("sqlite://", open_writer=open_one, open_reader=None)


def in_file(path: Path, *, read_only: bool, busy_timeout_s: float) -> SqliteBackend:
    """The database in a file, made if it is not there (but not for reading alone).

    Raises:
        StorageError: another process writes to it, it cannot be opened, or the SQLite library is too old.
    """
    _check_version()
    where = f"SQLite database {path}"
    path = path.resolve()
    if not path.parent.is_dir():
        raise StorageError(f"{where}: the folder {path.parent} does not exist", hint="make it, or name another")
    if read_only and not path.exists():
        raise StorageError(f"{where}: there is no such file", hint="it is made when the node runs for the first time")

    def open_reader() -> sqlite3.Connection:
        driver = _open_file(path, mode="ro" if read_only else "rw", busy_timeout_s=busy_timeout_s)
        driver.execute("PRAGMA query_only = ON")
        return driver

    if read_only:
        return SqliteBackend(where, open_writer=None, open_reader=open_reader)
    if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # SQLite would open it for reading and complain at the first write only.
        raise StorageError(
            f"{where}: the file may not be written",
            hint="the user that runs this must be allowed to write to the file and to its folder",
        )

    def open_writer() -> sqlite3.Connection:
        driver = _open_file(path, mode="rwc", busy_timeout_s=busy_timeout_s)
        try:
            _use_log(driver, where)
            for setting in _WRITING:
                driver.execute(setting)
        except BaseException:
            driver.close()
            raise
        return driver

    lock = FileLock(path, where, busy_timeout_s)
    return SqliteBackend(
        where,
        open_writer=open_writer,
        open_reader=open_reader,
        busy_timeout_s=busy_timeout_s,
        lock=lock,
        path=path,
    )


_WRITING: Final = (
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: without it the disk's cache may still lose what was synced
    "PRAGMA foreign_keys = ON",
    "PRAGMA wal_autocheckpoint = 0",  # no COMMIT does it, which may be on the event loop; see SqliteCommitter.keep_up
    # What is removed is overwritten where its page is written anyhow; some builds would write all of it once more.
    "PRAGMA secure_delete = FAST",
    "PRAGMA busy_timeout = 0",  # the driver waits for no lock: the event loop may have to; see begin_patiently
)


class SqliteBackend:
    """See ``backend.Backend``. The driver's connections are opened at their first use, and so is SQLAlchemy imported.

    Args:
        where: names the database in messages.
        open_writer: opens the connection that writes; None for reading alone.
        open_reader: opens a connection that reads; None if the only connection is the one that writes.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.
        lock: held as long as it is open; None if it is in memory or read only.
        path: the database's file, all links resolved; None if it has none.
    """

    dialect: str = "sqlite"

    def __init__(
        self,
        where: str,
        *,
        open_writer: Callable[[], sqlite3.Connection] | None,
        open_reader: Callable[[], sqlite3.Connection] | None,
        busy_timeout_s: float = 0.0,
        lock: FileLock | None = None,
        path: Path | None = None,
    ) -> None:
        self.where = where
        self.path = path
        self.read_only = open_writer is None
        self.shared = open_reader is None
        self._open_writer = open_writer
        self._open_reader = open_reader
        self._busy_timeout_s = busy_timeout_s
        self._lock = lock
        self._driver: sqlite3.Connection | None = None
        self._readers = None if open_reader is None else SqliteReaders(open_reader)
        self._engines: dict[str, Engine] = {}
        self._making = threading.Lock()  # several threads read at once

    @contextmanager
    def linked(self) -> Iterator[SqliteLink]:
        """See ``Backend``."""
        yield self.link()

    def link(self) -> SqliteLink:
        """The connection that writes, as long as this is open."""
        if self._driver is None:
            assert self._open_writer is not None, "it is open for reading alone"
            self._driver = self._open_writer()
        return SqliteLink(self._driver, self._busy_timeout_s)

    def reading(self) -> AbstractContextManager[SqliteTransaction]:
        """See ``Backend``."""
        assert self._readers is not None, "it has one connection"
        return self._readers.lent()

    @property
    def reader(self) -> Engine:
        """See ``Backend``."""
        return self.writer if self._open_reader is None else self._engine("reader")

    @property
    def writer(self) -> Engine:
        """See ``Backend``."""
        return self._engine("writer")

    def _engine(self, name: str) -> Engine:
        with self._making:
            if name not in self._engines:
                from fluvial.storage.sqlite_engines import reading_engine, writing_engine

                self._engines[name] = (
                    reading_engine(self._open_reader)
                    if name == "reader" and self._open_reader is not None
                    else writing_engine(self.link().driver, self._busy_timeout_s)
                )
            return self._engines[name]

    @property
    def log_bytes(self) -> int:
        """How large the log was at the last :meth:`verify`; 0 of a database in memory."""
        return 0 if self._lock is None else self._lock.log_bytes

    def verify(self) -> None:
        """See ``Backend``."""
        if self._lock is not None:
            self._lock.verify()

    def close(self) -> None:
        """See ``Backend``."""
        try:
            for engine in self._engines.values():
                engine.dispose()
            if self._readers is not None:
                self._readers.close()
            if self._driver is not None:
                self._driver.close()
        finally:
            if self._lock is not None:
                self._lock.release()


def _open_file(path: Path, *, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    # isolation_level None: the driver begins no transaction on its own.
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,  # a connection is lent to one thread at a time
    )


def _check_version() -> None:
    if sqlite3.sqlite_version_info < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise StorageError(
            f"the SQLite library of this Python is {sqlite3.sqlite_version}, too old",
            hint=f"SQLite {oldest} or newer is needed; use a newer Python, or PostgreSQL",
        )


def _use_log(connection: sqlite3.Connection, where: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            f"{where}: its file system cannot hold a write-ahead log (journal mode stays {mode!r})",
            hint="put the file on a local disk, not on a network share",
        )
