"""A connection that is lent to work of others, and whose transaction is ended by nobody but by whoever began it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from fluvial.errors import StorageError


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
