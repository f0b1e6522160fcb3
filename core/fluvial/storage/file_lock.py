"""The lock on a database's file, and whether the file is still the one that was opened.

The name is locked by a neighbour, ``NAME-owner``: a SQLite file of its own that the writing process keeps locked, on every system. On Linux the
file itself is locked, too (``flock``, which has nothing to do with the locks that SQLite takes), so that a second name for it, a hard link,
leads to the same lock. Unlike a pid file both locks go when the process goes, however that happens, and neither hinders readers.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Final

from fluvial.errors import StorageError
from fluvial.storage.failures import storage_error
from fluvial.storage.locked import neighbour_of
from fluvial.storage.ownership import OwnershipLost

_LOG: Final = "-wal"


class FileLock:
    """Held by the only process that writes to a file.

    Args:
        path: the file, all links resolved; made if it is not there.
        where: names the database in messages.
        busy_timeout_s: how long to wait for another process to let go.

    Attributes:
        log_bytes: how large the file's log was when it was last verified.

    Raises:
        StorageError: another process holds it, or the file is not to be had.
    """

    def __init__(self, path: Path, where: str, busy_timeout_s: float) -> None:
        self._path = path
        self._where = where
        # As texts: they are looked at with every commit.
        self._name, self._log = str(path), str(path.with_name(path.name + _LOG))
        self._log_identity: tuple[int, int] | None = None
        self.log_bytes = 0
        self._neighbour = self._lock_neighbour(busy_timeout_s)
        try:
            self._handle = self._lock_file()
            self._identity = _identity(os.fstat(self._handle))
        except BaseException:
            self._neighbour.close()
            raise

    def verify(self) -> None:
        """Raises OwnershipLost if the file, or its log, is not the one that was opened: what is written now would be lost."""
        try:
            same = _identity(os.stat(self._name)) == self._identity
            status = os.stat(self._log)
            log, self.log_bytes = _identity(status), status.st_size
        except OSError:
            same, log = False, None
        self._log_identity = self._log_identity or log
        if not same or log != self._log_identity:
            raise OwnershipLost(
                f"{self._where}: the file was deleted or replaced while it was open",
                hint="stop the node, put the file and its -wal back or restore a backup, and start the node anew",
            )

    def release(self) -> None:
        """Let go; called after all connections are closed, since closing the file would end the locks that SQLite has on it."""
        os.close(self._handle)
        self._neighbour.close()

    def _lock_neighbour(self, busy_timeout_s: float) -> sqlite3.Connection:
        neighbour = neighbour_of(self._path)
        lock: sqlite3.Connection | None = None
        try:
            lock = sqlite3.connect(neighbour, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if lock is not None:
                lock.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise storage_error(error, f"{self._where}: {neighbour.name}") from error
            raise self._taken() from error
        return lock

    def _lock_file(self) -> int:
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            raise StorageError(
                f"{self._where}: unable to open the file: {error.strerror}",
                hint="it must be a file that the user that runs this may read and write",
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StorageError(f"{self._where}: it is no regular file", hint="name another file")
            if sys.platform == "linux":
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise self._taken() from error
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _taken(self) -> StorageError:
        return StorageError(
            f"{self._where}: another process writes to it",
            hint="stop the other node, or give this one a database of its own",
        )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
