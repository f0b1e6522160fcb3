"""PostgreSQL: what a group of writes has to say is sent at once, so that a transaction costs one round trip.

Source: PostgreSQL documentation, "Pipeline Mode" (libpq).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final, LiteralString

import psycopg

from fluvial.storage.backend import Backend, WritingLink
from fluvial.storage.committer import BaseCommitter, Ticket
from fluvial.storage.direct import DirectWrite
from fluvial.storage.failures import concerns_all, what_work_raised
from fluvial.storage.ownership import Ownership
from fluvial.storage.transactions import LentConnection, SqlLink

IDLE_S_MAX: Final = 1.0
"""After so long without a write the connection is tried first, so that a server that was restarted costs nobody a failed write."""


class PipelinedCommitter(BaseCommitter):
    """Direct writes go through the pipeline of the driver, all others through SQLAlchemy.

    Args:
        backend: the database.
        ownership: the right to write, which is verified with each new connection.
    """

    quick: Final = False
    instant: Final = False

    def __init__(self, backend: Backend, ownership: Ownership) -> None:
        super().__init__(backend, ownership)
        self._backend = backend
        self._link: SqlLink | None = None
        self._relinking = False
        self._used_at = 0.0

    def prepare(self, tickets: Sequence[Ticket[Any]], *, within_s: float) -> int:
        """See ``Committer``: a server has to be waited for."""
        return 0

    def commit(self, tickets: Sequence[Ticket[Any]]) -> None:
        """See ``Committer``; never called, since nothing is prepared."""

    def run(self, tickets: Sequence[Ticket[Any]]) -> None:
        """See ``Committer``."""
        try:
            driver = self._tried()
        except BaseException as error:  # noqa: BLE001 - told to the callers
            self._fail(tickets, error)
            return
        works = [ticket.work for ticket in tickets if isinstance(ticket.work, DirectWrite)]
        if len(works) < len(tickets) or not self._pipeline(tickets, works, driver):
            super().run(tickets)
        self._used_at = time.monotonic()

    def close(self) -> None:
        """See ``Committer``."""
        try:
            super().close()
        finally:
            self._unlink()

    def _linked(self, tickets: Sequence[Ticket[Any]] = ()) -> SqlLink:
        """The connection, made anew if it is lost."""
        if self._link is not None and not self._link.connection.invalidated:
            return self._link
        self._unlink()
        link = SqlLink(LentConnection(self._backend.writer))
        if self._relinking:
            try:
                with link.begin():
                    self._ownership.verify(link.transaction)
            except BaseException:
                link.connection.close()
                raise
        self._link, self._relinking = link, True
        return link

    def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.connection.close()

    def _tried(self) -> psycopg.Connection[Any]:
        """The driver's connection; one that was idle is tried, and made anew if it is lost."""
        driver = self._driver()
        if time.monotonic() - self._used_at > IDLE_S_MAX:
            try:
                driver.execute("SELECT")
            except psycopg.OperationalError:
                self._drop()
                driver = self._driver()
        return driver

    def _driver(self) -> psycopg.Connection[Any]:
        driver = self._linked().driver
        # SQLAlchemy has an adapter around connections of asynchronous drivers only.
        assert isinstance(driver, psycopg.Connection)
        return driver

    def _drop(self) -> None:
        if self._link is not None:
            self._link.connection.invalidate()

    def _pipeline(
        self, tickets: Sequence[Ticket[Any]], works: Sequence[DirectWrite[Any]], driver: psycopg.Connection[Any]
    ) -> bool:
        """Run and commit, all in one round trip; False if a write was refused and nothing has happened."""
        try:
            asked = self._together(works, driver, before=["BEGIN"], after=["COMMIT"])
        except Exception as error:  # noqa: BLE001 - told to the callers
            return self._pipeline_failed(tickets, driver, error)
        for ticket, work, cursors in zip(tickets, works, asked, strict=True):
            self._finish(ticket, work, cursors)
        return True

    def _run_all(self, tickets: Sequence[Ticket[Any]], link: WritingLink) -> None:
        """One after another; direct writes that follow each other are sent at once."""
        driver, asked = self._driver(), list[tuple[Ticket[Any], DirectWrite[Any], list[psycopg.Cursor[Any]]]]()
        for is_direct, found in groupby(tickets, key=lambda ticket: isinstance(ticket.work, DirectWrite)):
            following = list(found)
            if is_direct:
                works = [ticket.work for ticket in following if isinstance(ticket.work, DirectWrite)]
                asked += zip(following, works, self._together(works, driver), strict=True)
            else:
                super()._run_all(following, link)
        for ticket, work, cursors in asked:  # only now: if a later one is refused, all are run again
            self._finish(ticket, work, cursors)

    def _together(
        self,
        works: Sequence[DirectWrite[Any]],
        driver: psycopg.Connection[Any],
        *,
        before: Sequence[LiteralString] = (),
        after: Sequence[LiteralString] = (),
    ) -> list[list[psycopg.Cursor[Any]]]:
        """What the steps of writes came to, and of commands before and after them, all in one round trip. Raises what the driver does."""
        asked: list[list[psycopg.Cursor[Any]]] = []
        failed: Exception | None = None
        try:
            with driver.pipeline():
                try:
                    for command in before:
                        driver.cursor().execute(command)
                    asked = [self._send(work, driver) for work in works]
                    for command in after:
                        driver.cursor().execute(command)
                except Exception as error:  # noqa: BLE001 - raised below; here psycopg would log what follows from it
                    failed = error
        except psycopg.Error as error:
            raise failed or error from None
        if failed is not None:
            raise failed
        return asked

    def _pipeline_failed(
        self, tickets: Sequence[Ticket[Any]], driver: psycopg.Connection[Any], error: Exception
    ) -> bool:
        if driver.closed:
            self._drop()
        else:
            driver.rollback()
            if not concerns_all(error):
                return False
        self._fail(tickets, error)
        return True

    def _send(self, work: DirectWrite[Any], driver: psycopg.Connection[Any]) -> list[psycopg.Cursor[Any]]:
        cursors = []
        for statement, parameters in work.steps:
            cursor = driver.cursor()
            text = statement.text(self._dialect)
            # Not executemany(), which waits for what was sent before.
            for one in parameters if isinstance(parameters, list) else (parameters,):
                cursor.execute(text, one)
            cursors.append(cursor)
        return cursors

    def _finish(self, ticket: Ticket[Any], work: DirectWrite[Any], cursors: Sequence[psycopg.Cursor[Any]]) -> None:
        """Give a write its result; what it raises now has written nothing (see ``DirectWrite``)."""
        try:
            results = [cursor.rowcount if cursor.description is None else cursor.fetchone() for cursor in cursors]
            ticket.result = work.finish(results)
        except BaseException as error:  # noqa: BLE001 - told to its caller
            ticket.error = what_work_raised(error, self._where)
