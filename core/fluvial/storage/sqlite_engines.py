"""SQLAlchemy over the connections of SQLite; imported when the first work asks for a connection of SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from sqlalchemy import Connection, Engine, QueuePool, StaticPool, create_engine, event

from fluvial.storage.backend import READERS_MAX
from fluvial.storage.sqlite_links import begin_patiently


def writing_engine(driver: sqlite3.Connection, busy_timeout_s: float) -> Engine:
    """An engine over the one connection that writes.

    Args:
        driver: the connection; closed with the engine.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.
    """
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(_connection: Connection) -> None:
        begin_patiently(driver, busy_timeout_s)

    return engine


def reading_engine(open_one: Callable[[], sqlite3.Connection]) -> Engine:
    """An engine over connections that read.

    Args:
        open_one: opens one; the pool hands it to one thread at a time.
    """
    engine = create_engine(
        "sqlite://",
        creator=open_one,
        poolclass=QueuePool,
        pool_size=READERS_MAX,
        max_overflow=0,
        hide_parameters=True,
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
