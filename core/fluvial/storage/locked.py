"""Whether a process holds the lock on a database's file; see ``file_lock.py``."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def neighbour_of(path: Path) -> Path:
    """The file that stands for the lock on a database's file: a SQLite file of its own that the writing process keeps locked."""
    return path.with_name(path.name + "-owner")


def is_locked(path: Path) -> bool:
    """Whether a process writes to a database now; False also if that cannot be found out.

    Args:
        path: the database's file, all links resolved.
    """
    uri = f"{neighbour_of(path).as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as driver:
            driver.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_BUSY
    return False
