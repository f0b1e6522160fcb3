"""SQLite: a file in write-ahead-log mode, or a database in memory.

Durability: in WAL mode a commit is an append to the ``-wal`` file, which the next opener replays, so it survives ``kill -9`` as soon as
it is written; ``synchronous=FULL`` syncs the log at every commit, so it survives a loss of power too (with ``NORMAL`` it would not).
Source: SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous".

The only writer: see ``file_lock.py``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, QueuePool, StaticPool, create_engine, event
from sqlalchemy.exc import OperationalError

from fluvial.errors import StorageError
from fluvial.storage.backend import READERS_MAX, Backend
from fluvial.storage.file_lock import FileLock

OLDEST_VERSION: Final = (3, 35, 0)
"""The first with RETURNING."""

BUSY_PAUSE_S: Final = 0.005
"""Before the next look at whether another program still holds its lock."""


def in_memory(*, read_only: bool) -> Backend:
    """A new database that lives as long as its single connection.

    Raises:
        StorageError: it should be read-only, or the SQLite library is too old.
    """
    if read_only:
        raise StorageError("sqlite://: a database in memory is empty when it is opened; reading alone makes no sense")
    _check_version()
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False),
        poolclass=StaticPool,
        hide_parameters=True,
    )
    _on_connect(engine, "PRAGMA foreign_keys = ON")
    _on_begin(engine, "BEGIN IMMEDIATE")
    return Backend(where="sqlite://", writer=engine, reader=engine, shared=True, release=lambda: None)


def in_file(path: Path, *, read_only: bool, busy_timeout_s: float) -> Backend:
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
    mode = "ro" if read_only else "rw"
    reader = _file_engine(path, mode=mode, connections=READERS_MAX, busy_timeout_s=busy_timeout_s)
    _on_connect(reader, "PRAGMA query_only = ON")
    _on_begin(reader, "BEGIN")
    if read_only:
        return Backend(where=where, writer=None, reader=reader, shared=False, release=lambda: None)
    if path.exists() and not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # SQLite would open it for reading and complain at the first write only.
        raise StorageError(
            f"{where}: the file may not be written",
            hint="the user that runs this must be allowed to write to the file and to its folder",
        )
    lock = FileLock(path, where, busy_timeout_s)
    writer = _file_engine(path, mode="rwc", connections=1, busy_timeout_s=busy_timeout_s)
    _on_connect(
        writer,
        "PRAGMA synchronous = FULL",
        "PRAGMA fullfsync = ON",  # macOS: without it the disk's cache may still lose what was synced
        "PRAGMA foreign_keys = ON",
        "PRAGMA wal_autocheckpoint = 0",  # no COMMIT does it, which may be on the event loop; see SqliteCommitter.keep_up
        # What is removed is overwritten where its page is written anyhow; some builds would write all of it once more.
        "PRAGMA secure_delete = FAST",
        "PRAGMA busy_timeout = 0",  # the driver waits for no lock: the event loop may have to; see _begin_patiently
        check=lambda connection: _use_log(connection, where),
    )
    _begin_patiently(writer, busy_timeout_s)
    return Backend(
        where=where,
        writer=writer,
        reader=reader,
        shared=False,
        release=lock.release,
        verify=lock.verify,
        path=path,
    )


def _file_engine(path: Path, *, mode: str, connections: int, busy_timeout_s: float) -> Engine:
    def open_file() -> sqlite3.Connection:
        # isolation_level None: the driver begins no transaction on its own, _on_begin says how they begin.
        return sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,  # the pool hands a connection to one thread at a time
        )

    return create_engine(
        "sqlite://",
        creator=open_file,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
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


def _on_connect(engine: Engine, *statements: str, check: Callable[[sqlite3.Connection], None] = lambda _: None) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        check(connection)
        for statement in statements:
            connection.execute(statement)


def _on_begin(engine: Engine, statement: str) -> None:
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)


def _begin_patiently(engine: Engine, busy_timeout_s: float) -> None:
    """Have transactions that begin through SQLAlchemy, which are those in a thread, wait for a lock that another program holds."""

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        end = time.monotonic() + busy_timeout_s
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                busy = getattr(error.orig, "sqlite_errorname", "").startswith("SQLITE_BUSY")
                if not busy or time.monotonic() > end:
                    raise
                time.sleep(BUSY_PAUSE_S)
            else:
                return
