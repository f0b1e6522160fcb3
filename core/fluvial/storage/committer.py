"""Runs groups of writes in one transaction each, without what is refused of them; knows no event loop.

How a group goes:

1. All writes are run in one transaction. If none is refused, COMMIT, and all have come to an end.
2. If one is refused (by its own check or by a constraint), everything is undone, and the group is run again *carefully*: each write within a
   savepoint. Those that are refused now are undone alone and told; the others are committed.
3. What is about the connection, the disk or the server is told to all.

So a bad write costs its own caller an error and the others some time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

from fluvial.errors import StorageError
from fluvial.prepared import Prepared
from fluvial.storage.backend import Backend, WritingLink
from fluvial.storage.direct import DIRECT_BYTES_MAX, DirectWrite
from fluvial.storage.failures import concerns_all, what_work_raised
from fluvial.storage.ownership import Ownership
from fluvial.storage.sqlite import SqliteBackend

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fluvial.storage.transactions import SqlLink

T = TypeVar("T")

LOG_BYTES: Final = 64 * 2**20
"""SQLite's log is cut when it is larger, unless told otherwise."""
LOG_PAGES: Final = 1_000
"""Pages in the log after which they are brought into the file, about; as SQLite does by itself in the midst of a COMMIT, unless it is told not to."""
PAGE_BYTES: Final = 4_096
CHANGE_PAGES: Final = 2.0
"""Pages that the change of a row writes, about, without large values, before it was seen how many: its own and one of an index."""
CHANGE_PAGES_MIN: Final = 0.1
"""Rows of one transaction share pages; but not more than this is counted on."""
CUT_MS: Final = 500
"""How long cutting it waits for those who read, who take some milliseconds each."""
CUT_AGAIN_S: Final = 5.0
"""After that was in vain it is not tried again for so long, in seconds: a program that copies the database reads for minutes, and everybody who writes waits."""

Work: TypeAlias = "Callable[[Connection], T] | Prepared[T] | DirectWrite[T]"


class Ticket(Generic[T]):
    """A write on its way, and what became of it."""

    __slots__ = ("error", "quick", "result", "size", "work")

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.size = work.size if isinstance(work, DirectWrite) else 0
        self.quick = isinstance(work, DirectWrite) and self.size <= DIRECT_BYTES_MAX
        self.result: T | None = None
        self.error: Exception | None = None


class Committer(Protocol):
    """Brings groups of writes to their end. What goes wrong is told to the tickets. No method is called while another is running."""

    @property
    def quick(self) -> bool:
        """Whether :meth:`prepare` can do something: statements take microseconds and wait for nobody."""
        ...

    @property
    def instant(self) -> bool:
        """Whether :meth:`commit` waits for nobody, too."""
        ...

    @property
    def upkeep_due(self) -> bool:
        """Whether :meth:`keep_up` has something to do."""
        ...

    def prepare(self, tickets: Sequence[Ticket[Any]], *, within_s: float) -> int:
        """Run quick writes, as many as there is time for; :meth:`commit` must follow. 0: it has to be :meth:`run` in place of both."""
        ...

    def commit(self, tickets: Sequence[Ticket[Any]]) -> None:
        """Commit what was prepared."""
        ...

    def run(self, tickets: Sequence[Ticket[Any]]) -> None:
        """Run and commit; takes its time."""
        ...

    def keep_up(self) -> None:
        """What the database needs after some commits, if it is due; takes its time."""
        ...

    def beat(self) -> Work[None]:
        """What is written from time to time to show that the owner is alive."""
        ...

    def close(self) -> None:
        """Leave the database to whoever comes next; the only one that raises, what a database raises."""
        ...


class BaseCommitter:
    """What both kinds of databases share: how a group goes.

    Args:
        backend: the database.
        ownership: the right to write.
    """

    def __init__(self, backend: Backend, ownership: Ownership) -> None:
        self._where = backend.where
        self._verify = backend.verify
        self._ownership = ownership
        self._dialect = backend.dialect

    def _linked(self, tickets: Sequence[Ticket[Any]] = ()) -> WritingLink:
        """The connection, for a group of writes, or for prepared work alone."""
        raise NotImplementedError

    def run(self, tickets: Sequence[Ticket[Any]]) -> None:
        """See :class:`Committer`."""
        if not self._attempt(tickets, careful=False):
            self._attempt(tickets, careful=True)

    @property
    def upkeep_due(self) -> bool:
        """See :class:`Committer`; nothing of a server's."""
        return False

    def keep_up(self) -> None:
        """See :class:`Committer`; nothing of a server's."""

    def beat(self) -> Work[None]:
        """See :class:`Committer`."""
        return Prepared(self._ownership.renew)

    def close(self) -> None:
        """See :class:`Committer`."""
        link = self._linked()
        with link.begin():
            self._ownership.release(link.transaction)

    def _attempt(self, tickets: Sequence[Ticket[Any]], *, careful: bool) -> bool:
        """Run and commit; False if a write was refused and all were undone."""
        working = False
        try:
            link = self._linked(tickets)
            with link.begin():
                working = True
                with link.lent():
                    if careful:
                        for ticket in tickets:
                            self._run_carefully(ticket, link)
                    else:
                        self._run_all(tickets, link)
                working = False
            self._verify()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told to the callers, and the others must go on
            if working and not careful and not concerns_all(error):
                return False
            self._fail(tickets, error)
        return True

    def _run_all(self, tickets: Sequence[Ticket[Any]], link: WritingLink) -> None:
        for ticket in tickets:
            ticket.result = self._run_one(ticket.work, link)

    def _run_carefully(self, ticket: Ticket[Any], link: WritingLink) -> None:
        savepoint = link.begin_nested()
        try:
            ticket.result = self._run_one(ticket.work, link)
            savepoint.commit()
        except BaseException as error:
            if concerns_all(error):
                raise
            savepoint.rollback()
            ticket.error = self._told(ticket, error, link)

    def _run_one(self, work: Work[T], link: WritingLink) -> T:
        if isinstance(work, DirectWrite):
            return work.finish(self._run_steps(work, link.driver))
        if isinstance(work, Prepared):
            return work.run(link.transaction)
        return work(link.connection)

    def _run_steps(self, work: DirectWrite[Any], driver: Any) -> list[Any]:
        """The results of a direct write, run on the driver's connection."""
        cursor = driver.cursor()
        results = []
        for statement, parameters in work.steps:
            text = statement.text(self._dialect)
            if isinstance(parameters, list):
                cursor.executemany(text, parameters)
                results.append(cursor.rowcount)
            else:
                cursor.execute(text, parameters)
                returns = cursor.description is not None
                results.append(next(iter(cursor.fetchall()), None) if returns else cursor.rowcount)
        return results

    def _told(self, ticket: Ticket[Any], error: BaseException, link: WritingLink) -> Exception:
        """What the caller of a refused write is told; asks the database why."""
        if isinstance(ticket.work, DirectWrite) and ticket.work.blame is not None:
            statement, parameters, say = ticket.work.blame
            cursor = link.driver.cursor()
            cursor.execute(statement.text(self._dialect), parameters)
            if (told := say(cursor.fetchone())) is not None:
                told.__cause__ = error
                return told
        return what_work_raised(error, self._where)

    def _fail(self, tickets: Sequence[Ticket[Any]], error: BaseException) -> None:
        for ticket in tickets:
            ticket.error = what_work_raised(error, self._where)


class SqliteCommitter(BaseCommitter):
    """SQLite: statements take microseconds, and only COMMIT waits for the disk.

    Args:
        backend: the database; the driver that writes waits for no lock.
        ownership: the right to write.
        log_bytes: the log is brought into the file and cut to nothing when it is larger.
    """

    quick: Final = True

    def __init__(self, backend: SqliteBackend, ownership: Ownership, *, log_bytes: int = LOG_BYTES) -> None:
        super().__init__(backend, ownership)
        self._backend = backend
        self._plain = backend.link()
        self._driver: Final[sqlite3.Connection] = self._plain.driver
        self._sql: SqlLink | None = None
        self.instant: Final = backend.path is None
        self._log = None if backend.path is None else f"{backend.path}-wal"
        self._log_bytes = log_bytes
        self._log_grown = (
            0  # of how many bytes the file of the log was when its pages were last brought into the database
        )
        self._cut_not_before_s = 0.0
        self._pages = 0.0
        self._change_pages = CHANGE_PAGES
        self._changes = 0
        self._upkeep_due = False

    @property
    def upkeep_due(self) -> bool:
        """See :class:`Committer`."""
        return self._upkeep_due

    def prepare(self, tickets: Sequence[Ticket[Any]], *, within_s: float) -> int:
        """See :class:`Committer`; 0 also if another program holds a lock, or a write is refused."""
        began = time.perf_counter()
        done = 0
        try:
            driver = self._driver
            driver.execute("BEGIN IMMEDIATE")
            for ticket in tickets:
                assert isinstance(ticket.work, DirectWrite)
                ticket.result = ticket.work.finish(self._run_steps(ticket.work, driver))
                done += 1
                if time.perf_counter() - began > within_s:
                    break
        except Exception:  # noqa: BLE001 - all of it is run again, where there is time to find out what it was
            self._undo()
            return 0
        return done

    def commit(self, tickets: Sequence[Ticket[Any]]) -> None:
        """See :class:`Committer`."""
        try:
            driver = self._driver
            driver.execute("COMMIT")
            self._verify()
            self._count(driver, tickets)
        except BaseException as error:  # noqa: BLE001 - told to the callers
            self._undo()
            self._fail(tickets, error)

    def run(self, tickets: Sequence[Ticket[Any]]) -> None:
        """See :class:`Committer`."""
        super().run(tickets)
        with suppress(sqlite3.Error, StorageError):  # the callers have been told
            self._count(self._driver, tickets)

    def _count(self, driver: sqlite3.Connection, tickets: Sequence[Ticket[Any]]) -> None:
        """Find out whether upkeep is due: how many pages the log has is told only by upkeep, but about how many were written is known."""
        if self._log is None:
            return
        changes = driver.total_changes
        values = sum(ticket.size for ticket in tickets) / PAGE_BYTES
        self._pages += max(changes - self._changes, 0) * self._change_pages + values
        self._changes = changes
        log_max = self._log_grown + LOG_PAGES * PAGE_BYTES
        if self._log_grown <= self._log_bytes:
            log_max = min(self._log_bytes, log_max)
        self._upkeep_due = self._pages >= LOG_PAGES or self._backend.log_bytes > log_max

    def _log_size(self) -> int:
        try:
            return os.stat(self._log or "").st_size
        except OSError:  # what is wrong with the file is told to the next write
            return 0

    def keep_up(self) -> None:
        """See :class:`Committer`: bring the log into the file, and cut it to nothing if it is large.

        SQLite itself writes on at the end of its log as long as somebody reads, and never makes it shorter.

        Source: SQLite documentation, "Write-Ahead Logging", section 3.1, "Ckpt", and section 6, "Avoiding Excessively Large WAL Files".
        """
        if not self._upkeep_due:
            return
        expected, self._upkeep_due, self._pages = self._pages, False, 0.0
        # Where it cannot be done it is larger until the next time; what is wrong with the file is told to the next write.
        with suppress(sqlite3.Error, StorageError):
            driver = self._driver
            if self._log_size() <= self._log_bytes or time.monotonic() < self._cut_not_before_s:
                _, pages, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages > 0:  # all since the last time, or more, if somebody reads: then it is done more often
                    learned = self._change_pages * pages / max(expected, 1.0)
                    self._change_pages = min(max(learned, CHANGE_PAGES_MIN), CHANGE_PAGES)
            else:
                driver.execute(f"PRAGMA busy_timeout = {CUT_MS}")  # for those who read from it now
                try:
                    busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                    self._cut_not_before_s = time.monotonic() + CUT_AGAIN_S if busy else 0.0
                finally:
                    driver.execute("PRAGMA busy_timeout = 0")
        self._log_grown = self._log_size()

    def close(self) -> None:
        """See :class:`Committer`."""
        if self._sql is not None:
            self._sql.connection.close()
        super().close()

    def _linked(self, tickets: Sequence[Ticket[Any]] = ()) -> WritingLink:
        """SQLAlchemy is over the same connection, and imported when a write asks for it."""
        if all(isinstance(ticket.work, DirectWrite | Prepared) for ticket in tickets):
            return self._plain
        if self._sql is None:
            from fluvial.storage.transactions import LentConnection, SqlLink

            self._sql = SqlLink(LentConnection(self._backend.writer), self._plain.transaction)
        return self._sql

    def _undo(self) -> None:
        with suppress(sqlite3.Error):
            self._driver.rollback()
