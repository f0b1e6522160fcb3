"""A connection of SQLAlchemy that is lent to work of others, and whose transaction is ended by nobody but by whoever began it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.engine import NestedTransaction, RootTransaction

from fluvial.errors import StorageError
from fluvial.prepared import SqlTransaction, Transaction


class LentConnection(Connection):
    """A connection of SQLAlchemy whose transaction several works share, one after the other."""

    _is_lent = False

    @contextmanager
    def lent(self) -> Iterator[None]:
        """For the time of a block the connection takes statements and savepoints, and nothing that would end the transaction."""
        self._is_lent = True
        try:
            yield
        finally:
            self._is_lent = False

    def commit(self) -> None:
        """As SQLAlchemy; raises StorageError while it is lent."""
        self._refuse_if_lent()
        super().commit()

    def rollback(self) -> None:
        """As SQLAlchemy; raises StorageError while it is lent."""
        self._refuse_if_lent()
        super().rollback()

    def close(self) -> None:
        """As SQLAlchemy; raises StorageError while it is lent."""
        self._refuse_if_lent()
        super().close()

    def detach(self) -> None:
        """As SQLAlchemy; raises StorageError while it is lent."""
        self._refuse_if_lent()
        super().detach()

    def _refuse_if_lent(self) -> None:
        if self._is_lent:
            raise StorageError(
                "the transaction was to be ended by work that shares it with others",
                hint="use the connection for statements only; begin_nested() gives a part that can be undone alone",
            )


class SqlLink:
    """The connection that writes, for all kinds of work; see ``backend.WritingLink``.

    Args:
        connection: of SQLAlchemy.
        transaction: for prepared work; over the connection unless told otherwise.
    """

    def __init__(self, connection: LentConnection, transaction: Transaction | None = None) -> None:
        self.connection: Final = connection
        self.transaction: Final = transaction or SqlTransaction(connection)

    @property
    def driver(self) -> Any:
        """See ``WritingLink``."""
        return self.connection.connection.dbapi_connection

    def begin(self) -> RootTransaction:
        """See ``WritingLink``."""
        return self.connection.begin()

    def lent(self) -> AbstractContextManager[None]:
        """See ``WritingLink``."""
        return self.connection.lent()

    def begin_nested(self) -> NestedTransaction:
        """See ``WritingLink``."""
        return self.connection.begin_nested()
