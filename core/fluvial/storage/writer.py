"""The one thread that writes, and the group commit.

Writes queue up while a commit is on its way to the disk; when it is done, all of them go into the next transaction, in the order of
their arrival. So the price of a commit is shared by as many callers as wait, and a lone caller waits for nobody.

A write that is refused (by its own check or by a constraint) must not take the others of its group with it: the transaction is rolled
back, the refused one is told, and the rest are run again, in the same order and hence with the same outcome.

Source: DeWitt et al., "Implementation Techniques for Main Memory Database Systems" (SIGMOD 1984), section 5.2, group commit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from fluvial.errors import StorageError
from fluvial.storage.failures import is_database_error, storage_error

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Writes in one transaction; bounds how long the first of them waits."""

WAITING_MAX: Final = 1024
"""Writes that may wait; further callers are held back until there is room."""

WRITE_DEADLINE_S: Final = 60.0
CLOSE_DEADLINE_S: Final = 60.0

_ONLY_ITS_OWN: Final = (IntegrityError, DataError, ProgrammingError)
"""Database errors that say something about one statement; all others concern the connection, the disk or the server."""


@dataclass(slots=True, eq=False)
class _Ticket(Generic[T]):
    work: Callable[[Connection], T]
    done: anyio.Event = field(default_factory=anyio.Event)
    result: T | None = None
    error: Exception | None = None


class Writer:
    """Runs functions over the writing connection, in groups.

    Args:
        engine: an engine with one connection.
        where: names the database in messages.
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._loop = asyncio.get_running_loop()
        self._room = anyio.Semaphore(WAITING_MAX, fast_acquire=True)
        self._queue: SimpleQueue[_Ticket[Any] | None] = SimpleQueue()
        self._closed = False
        # A daemon: a process that ends without closing its store loses nothing that was acknowledged.
        self._thread = threading.Thread(target=self._serve, name="fluvial-storage-writer", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, after the commit of the transaction in which it ran.

        Args:
            work: called in the writing thread, perhaps more than once (after a rollback); must do nothing but use the connection.

        Raises:
            StorageError: the database failed, or did not finish within ``WRITE_DEADLINE_S``; in the latter case, and when the
                connection broke, it is not known whether the write has happened. A cancelled write may still happen, too.
            Exception: whatever else ``work`` raised; nothing of it was written.
        """
        ticket = _Ticket(work)
        try:
            with anyio.fail_after(WRITE_DEADLINE_S):
                await self._room.acquire()
                if self._closed:
                    self._room.release()
                    raise StorageError(f"{self._where}: the store is closed")
                self._queue.put(ticket)
                await ticket.done.wait()
        except TimeoutError as error:
            raise StorageError(
                f"{self._where}: a write took longer than {WRITE_DEADLINE_S:g} s",
                hint="the disk or the database server is overloaded or hangs",
            ) from error
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]  # set by work wherever there is no error

    async def close(self) -> None:
        """Finish the writes that wait, refuse new ones, end the thread.

        Raises:
            StorageError: the thread does not come to its end within ``CLOSE_DEADLINE_S``.
        """
        self._closed = True
        self._queue.put(None)
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._thread.join, CLOSE_DEADLINE_S)
        if self._thread.is_alive():
            raise StorageError(f"{self._where}: the last write does not end", hint="the disk or the server hangs")

    def _serve(self) -> None:
        """The thread: one group after the other, until the mark that :meth:`close` leaves."""
        closing = False
        while not closing:
            group, closing = self._gather()
            waiting = group
            while waiting:
                refused = self._commit(waiting)
                waiting = [ticket for ticket in waiting if ticket is not refused] if refused else []
            try:
                self._loop.call_soon_threadsafe(self._settle, group)
            except RuntimeError:  # the loop was closed under us: nobody is left who could be told
                return

    def _gather(self) -> tuple[list[_Ticket[Any]], bool]:
        """Wait for a write, then take all that have come; and whether it is time to close."""
        group: list[_Ticket[Any]] = []
        try:
            while len(group) < GROUP_MAX:
                ticket = self._queue.get() if not group else self._queue.get_nowait()
                if ticket is None:
                    return group, True
                group.append(ticket)
        except Empty:
            pass
        return group, False

    def _commit(self, tickets: list[_Ticket[Any]]) -> _Ticket[Any] | None:
        """Run and commit these; returns the one that was refused, with all others undone, or None if all have come to an end."""
        running: _Ticket[Any] | None = None
        try:
            with self._engine.begin() as connection:
                for running in tickets:
                    running.result = running.work(connection)
                running = None
        except Exception as error:  # noqa: BLE001 - handed to the callers; this thread must go on
            shared = is_database_error(error) and not isinstance(error, (*_ONLY_ITS_OWN, OverflowError))
            if running is not None and not shared:
                running.error = storage_error(error, self._where) if is_database_error(error) else error
                return running
            for ticket in tickets:
                ticket.error = storage_error(error, self._where) if is_database_error(error) else error
        return None

    def _settle(self, group: list[_Ticket[Any]]) -> None:
        """In the event loop: wake the callers."""
        for ticket in group:
            self._room.release()
            ticket.done.set()
