"""A database as the rest of the room sees it: engines for writing and reading, whatever lies below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Engine

READERS_MAX: Final = 4
"""Reads that run at once; also the size of the pool of reading connections."""


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """Engines over one database.

    Attributes:
        where: names the database in messages; no password in it.
        writer: for writes, one connection; None if the database was opened read-only.
        reader: for reads; every transaction sees one snapshot.
        shared: whether both are the same single connection (SQLite in memory), so that reads must go through the queue of writes.
        release: gives up the right to be the only writer; called last.
        verify: raises OwnershipLost if the database is not the one that was opened; asked after each commit.
        path: the database's file, all links resolved; None if it has none.
    """

    where: str
    writer: Engine | None
    reader: Engine
    shared: bool
    release: Callable[[], None]
    verify: Callable[[], None] = lambda: None
    path: Path | None = None

    def close(self) -> None:
        """Close all connections."""
        try:
            self.reader.dispose()
            if self.writer is not None:
                self.writer.dispose()
        finally:
            self.release()
