"""Holds that a transaction that several share is ended by nobody but by whoever began it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, Engine, event

from fluvial.errors import StorageError

_SHARED: Final = "fluvial_shared"


def guard_transactions(engine: Engine) -> None:
    """Have the connections of an engine refuse to commit and to roll back within :func:`whole`."""
    engine.update_execution_options(**{_SHARED: set()})
    event.listen(engine, "commit", _refuse)
    event.listen(engine, "rollback", _refuse)


@contextmanager
def whole(connection: Connection) -> Iterator[None]:
    """For the time of a block the transaction stays open; it ends in an error if the block tries to end it."""
    shared: set[Connection] = connection.get_execution_options()[_SHARED]
    transaction = connection.get_transaction()
    shared.add(connection)
    try:
        yield
    finally:
        shared.discard(connection)
        if not connection.invalidated and (transaction is None or not transaction.is_active):
            # SQLAlchemy takes it for ended, even where that was refused; the driver does not.
            connection.connection.rollback()


def _refuse(connection: Connection) -> None:
    if connection in connection.get_execution_options()[_SHARED]:
        raise StorageError(
            "the transaction was to be ended by work that shares it with others",
            hint="use the connection for statements only; begin_nested() gives a part that can be undone alone",
        )
