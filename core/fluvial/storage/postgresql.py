"""PostgreSQL through psycopg 3.

Durability: ``synchronous_commit = on`` for the writing session, whatever the server's default is; the server's own ``fsync`` setting is
its administrator's promise. Waits are bounded by the server (``statement_timeout``) and by the connection (``tcp_user_timeout``).

The only writer: the writing session holds an advisory lock of the database, which the server drops when the session ends. A pooler
between node and server must therefore pool sessions, not transactions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event

from fluvial.errors import StorageError
from fluvial.prepared import SqlTransaction
from fluvial.storage.backend import READERS_MAX
from fluvial.storage.transactions import LentConnection, SqlLink

WRITER_LOCK: Final = 0x666C757669616C  # "fluvial"
"""Number of the advisory lock that the writing process holds; such locks are separate in each database."""

CONNECT_TIMEOUT_S: Final = 10
STATEMENT_TIMEOUT_S: Final = 30
TCP_TIMEOUT_S: Final = 30
"""How long sent bytes may stay without an acknowledgement before the connection counts as broken."""


def on_server(url: URL, *, read_only: bool, busy_timeout_s: float) -> ServerBackend:
    """The database that a URL names on its server; it must exist."""
    where = f"PostgreSQL database {url.render_as_string(hide_password=True)}"
    reader = _engine(url, connections=READERS_MAX, isolation_level="REPEATABLE READ")

    @event.listens_for(reader, "connect", insert=True)  # before SQLAlchemy asks the server about itself
    def prepare_reader(connection: Any, _record: object) -> None:
        _prepare(connection, where)
        connection.read_only = True

    if read_only:
        return ServerBackend(where, None, reader)
    # The driver begins no transactions of its own: a group is sent whole, BEGIN and COMMIT included.
    writer = _engine(url, connections=1, isolation_level="AUTOCOMMIT")
    event.listen(writer, "begin", _begin)

    @event.listens_for(writer, "connect", insert=True)
    def prepare_writer(connection: Any, _record: object) -> None:
        _prepare(connection, where)
        _claim(connection, where, busy_timeout_s)

    return ServerBackend(where, writer, reader)


class ServerBackend:
    """See ``backend.Backend``; the server knows who holds the lock, and which database it is.

    Args:
        where: names the database in messages; no password in it.
        writer: for writes, one connection; None if the database was opened read-only.
        reader: for reads; every transaction sees one snapshot.
    """

    dialect: str = "postgresql"
    shared: bool = False
    path: Path | None = None

    def __init__(self, where: str, writer: Engine | None, reader: Engine) -> None:
        self.where = where
        self.read_only = writer is None
        self.reader: Final = reader
        self._writer = writer

    @property
    def writer(self) -> Engine:
        """See ``Backend``."""
        assert self._writer is not None, "it is open for reading alone"
        return self._writer

    @contextmanager
    def linked(self) -> Iterator[SqlLink]:
        """See ``Backend``."""
        connection = LentConnection(self.writer)
        with connection:
            yield SqlLink(connection)

    @contextmanager
    def reading(self) -> Iterator[SqlTransaction]:
        """See ``Backend``."""
        with self.reader.begin() as connection:
            yield SqlTransaction(connection)

    def verify(self) -> None:
        """See ``Backend``."""

    def close(self) -> None:
        """See ``Backend``."""
        self.reader.dispose()
        if self._writer is not None:
            self._writer.dispose()


def _engine(url: URL, *, connections: int, isolation_level: Any) -> Engine:
    defaults = {
        "application_name": "fluvial",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": TCP_TIMEOUT_S * 1000,
    }
    return create_engine(
        url,
        connect_args={name: value for name, value in defaults.items() if name not in url.query},
        isolation_level=isolation_level,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,  # a restarted server costs nobody a failed write
        hide_parameters=True,
    )


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _prepare(connection: psycopg.Connection[Any], where: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"{where}: its encoding is {encoding}",
            hint="make it with `createdb --encoding UTF8 --template template0 NAME`",
        )
    connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
    connection.commit()


def _claim(connection: psycopg.Connection[Any], where: str, busy_timeout_s: float) -> None:
    """Become the only writer, and a durable one."""
    try:
        connection.execute(f"SET lock_timeout = '{max(1, round(busy_timeout_s * 1000))}ms'")
        connection.execute("SET synchronous_commit = on")
        connection.execute(f"SELECT pg_advisory_lock({WRITER_LOCK})")
        connection.commit()
    except psycopg.errors.LockNotAvailable as error:
        connection.close()
        raise StorageError(
            f"{where}: another process writes to it",
            hint="stop the other node, or give this one a database of its own",
        ) from error
