"""A database as the rest of the room sees it: what writes and what reads, whatever lies below."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from fluvial.prepared import Transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

READERS_MAX: Final = 4
"""Reads that run at once; also how many connections read."""


class Savepoint(Protocol):
    """A part of a transaction that can be undone alone."""

    def commit(self) -> None:
        """Keep the part."""
        ...

    def rollback(self) -> None:
        """Undo the part."""
        ...


class WritingLink(Protocol):
    """The connection that writes, as one kind of work needs it."""

    @property
    def driver(self) -> Any:
        """The driver's connection."""
        ...

    @property
    def transaction(self) -> Transaction:
        """For prepared work."""
        ...

    @property
    def connection(self) -> Connection:
        """For work with SQLAlchemy's connection."""
        ...

    def begin(self) -> AbstractContextManager[object]:
        """A transaction: committed at the end of the block, rolled back by an exception."""
        ...

    def lent(self) -> AbstractContextManager[object]:
        """For the time of a block nobody can end the transaction."""
        ...

    def begin_nested(self) -> Savepoint:
        """A savepoint."""
        ...


class Backend(Protocol):
    """One database. What is of SQLAlchemy is made at its first use.

    Attributes:
        where: names the database in messages; no password in it.
        dialect: ``sqlite`` or ``postgresql``.
        read_only: whether it was opened for reading alone.
        shared: whether it has a single connection (SQLite in memory), so that reads must go through the queue of writes.
        path: the database's file, all links resolved; None if it has none.
    """

    where: str
    dialect: str
    read_only: bool
    shared: bool
    path: Path | None

    def reading(self) -> AbstractContextManager[Transaction]:
        """A snapshot for prepared work, from any thread; not if it is shared."""
        ...

    def linked(self) -> AbstractContextManager[WritingLink]:
        """The connection that writes, for prepared work, for the time of a block."""
        ...

    @property
    def reader(self) -> Engine:
        """Reads for SQLAlchemy; every transaction sees one snapshot."""
        ...

    @property
    def writer(self) -> Engine:
        """Writes of SQLAlchemy, over the one connection that writes."""
        ...

    def verify(self) -> None:
        """Raises OwnershipLost if the database is not the one that was opened; asked after each commit."""
        ...

    def close(self) -> None:
        """Close all connections, and give up the right to be the only writer."""
        ...
