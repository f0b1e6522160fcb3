"""Connections of SQLite without SQLAlchemy: transactions, savepoints, and the few connections that read."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

from fluvial.prepared import Parameters, Statement

if TYPE_CHECKING:
    from sqlalchemy import Connection

BUSY_PAUSE_S: Final = 0.005
"""Before the next look at whether another program still holds its lock."""

_EXPANDING: Final = re.compile(r"\(__\[POSTCOMPILE_(\w+)\]\)")
"""How SQLAlchemy writes a parameter that is a list."""

_SAVEPOINT: Final = "fluvial_work"
_HAS_TABLE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"


class Row(sqlite3.Row):
    """A row with its columns as attributes."""

    def __getattr__(self, name: str) -> Any:
        """The value of a column."""
        try:
            return self[name]
        except IndexError:
            raise AttributeError(f"no column {name!r}") from None

    def _asdict(self) -> dict[str, Any]:
        return dict(zip(self.keys(), self, strict=True))


class SqliteTransaction:
    """:class:`fluvial.prepared.Transaction` over a connection of the driver, in its transaction.

    Attributes:
        driver: the connection.
    """

    dialect: Final = "sqlite"

    def __init__(self, driver: sqlite3.Connection) -> None:
        self.driver = driver

    def rows(self, statement: Statement, parameters: Parameters | None = None) -> list[Any]:
        """See ``Transaction``."""
        return self._run(statement, parameters).fetchall()

    def each(self, statement: Statement, parameters: Parameters | None = None) -> Iterator[Any]:
        """See ``Transaction``."""
        return self._run(statement, parameters)

    def _run(self, statement: Statement, parameters: Parameters | None) -> sqlite3.Cursor:
        cursor = self.driver.cursor()
        cursor.row_factory = Row
        return cursor.execute(*_expanded(statement.text("sqlite"), parameters or {}))

    def row(self, statement: Statement, parameters: Parameters | None = None) -> Any | None:
        """See ``Transaction``."""
        return next(iter(self.rows(statement, parameters)), None)

    def value(self, statement: Statement, parameters: Parameters | None = None) -> Any | None:
        """See ``Transaction``."""
        found = self.row(statement, parameters)
        return None if found is None else found[0]

    def change(self, statement: Statement, parameters: Parameters | Sequence[Parameters] | None = None) -> int:
        """See ``Transaction``."""
        text = statement.text("sqlite")
        if isinstance(parameters, Sequence):
            return self.driver.executemany(text, parameters).rowcount
        return self.driver.execute(*_expanded(text, parameters or {})).rowcount

    def has_table(self, name: str) -> bool:
        """See ``Transaction``."""
        return bool(self.driver.execute(_HAS_TABLE, (name,)).fetchall())


def _expanded(text: str, parameters: Parameters) -> tuple[str, Parameters]:
    """A statement with as many parameters as a list has values, for each that is a list."""
    if "(__[" not in text:
        return text, parameters
    all_of = dict(parameters)

    def named(found: re.Match[str]) -> str:
        name = found[1]
        values = {f"{name}_{number}": value for number, value in enumerate(parameters[name])}
        all_of.update(values)
        return f"({', '.join(f':{one}' for one in values)})"

    return _EXPANDING.sub(named, text), all_of


def begin_patiently(driver: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Begin a transaction that writes, and wait for a lock that another program holds: the driver that writes does not."""
    end = time.monotonic() + busy_timeout_s
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > end:
                raise
            time.sleep(BUSY_PAUSE_S)
        else:
            return


class SqliteLink:
    """The connection that writes, for work without SQLAlchemy; see ``backend.WritingLink``.

    Args:
        driver: the connection.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.
    """

    def __init__(self, driver: sqlite3.Connection, busy_timeout_s: float) -> None:
        self.driver: Final = driver
        self.transaction: Final = SqliteTransaction(driver)
        self._busy_timeout_s = busy_timeout_s

    @property
    def connection(self) -> Connection:
        """None here; see ``SqliteBackend.writer``."""
        raise AssertionError("work with SQLAlchemy's connection goes through SQLAlchemy's link")

    @contextmanager
    def begin(self) -> Iterator[None]:
        """See ``WritingLink``."""
        begin_patiently(self.driver, self._busy_timeout_s)
        try:
            yield
            self.driver.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself if the disk is full or fails
                self.driver.rollback()
            raise

    def lent(self) -> AbstractContextManager[None]:
        """See ``WritingLink``; there is nothing in a ``Transaction`` that ends it."""
        return nullcontext()

    def begin_nested(self) -> SqliteSavepoint:
        """See ``WritingLink``."""
        return SqliteSavepoint(self.driver)


class SqliteSavepoint:
    """See ``backend.Savepoint``."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver = driver
        driver.execute(f"SAVEPOINT {_SAVEPOINT}")

    def commit(self) -> None:
        """See ``Savepoint``."""
        self._driver.execute(f"RELEASE {_SAVEPOINT}")

    def rollback(self) -> None:
        """See ``Savepoint``."""
        self._driver.execute(f"ROLLBACK TO {_SAVEPOINT}")
        self._driver.execute(f"RELEASE {_SAVEPOINT}")


class SqliteReaders:
    """Connections that read, each lent to one thread at a time; made when they are needed, and then kept.

    Args:
        open_one: opens a connection.
    """

    def __init__(self, open_one: Callable[[], sqlite3.Connection]) -> None:
        self._open_one = open_one
        self._idle: list[sqlite3.Connection] = []

    @contextmanager
    def lent(self) -> Iterator[SqliteTransaction]:
        """A connection in a transaction, which sees one snapshot."""
        try:
            driver = self._idle.pop()
        except IndexError:
            driver = self._open_one()
        try:
            driver.execute("BEGIN")
            yield SqliteTransaction(driver)
            driver.rollback()
        except BaseException:
            driver.close()  # whatever state it is in: the next one is new
            raise
        self._idle.append(driver)

    def close(self) -> None:
        """Close those that are lent to nobody."""
        while self._idle:
            self._idle.pop().close()
