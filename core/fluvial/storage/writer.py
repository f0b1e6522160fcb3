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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

import anyio
from anyio import to_thread
from sqlalchemy import Connection, Engine

from fluvial.errors import StorageError
from fluvial.storage.failures import concerns_all, what_work_raised
from fluvial.storage.transactions import whole

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Writes in one transaction; bounds how long the first of them waits."""

WAITING_MAX: Final = 1024
"""Writes that may wait; further callers are held back until there is room."""

WRITE_DEADLINE_S: Final = 60.0
CLOSE_DEADLINE_S: Final = 60.0


class Writer(Protocol):
    """Runs functions over the writing connection."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, after the commit of the transaction in which it ran.

        Args:
            work: called perhaps more than once (after a rollback); must do nothing but use the connection, and neither commit nor roll
                back.

        Raises:
            StorageError: the database failed, or did not finish within ``WRITE_DEADLINE_S``; in the latter case, and when the
                connection broke, it is not known whether the write has happened. A cancelled write may still happen, too.
            Exception: whatever else ``work`` raised; nothing of it was written. What is no ``Exception`` (``SystemExit`` and the like)
                becomes a StorageError.
        """
        ...

    async def close(self) -> None:
        """Finish the writes that wait and refuse new ones.

        Raises:
            StorageError: the last write does not come to its end within ``CLOSE_DEADLINE_S``.
        """
        ...


@dataclass(slots=True, eq=False)
class _Ticket(Generic[T]):
    work: Callable[[Connection], T]
    done: anyio.Event | None = None
    result: T | None = None
    error: Exception | None = None

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # set by work wherever there is no error


class ThreadedWriter:
    """A :class:`Writer` with a thread of its own, and group commit.

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
        """See :class:`Writer`; ``work`` is called in the writing thread."""
        ticket = _Ticket(work, done := anyio.Event())
        try:
            with anyio.fail_after(WRITE_DEADLINE_S):
                await self._room.acquire()
                if self._closed:
                    self._room.release()
                    raise _closed(self._where)
                self._queue.put(ticket)
                await done.wait()
        except TimeoutError as error:
            raise StorageError(
                f"{self._where}: a write took longer than {WRITE_DEADLINE_S:g} s",
                hint="the disk or the database server is overloaded or hangs",
            ) from error
        return ticket.outcome()

    async def close(self) -> None:
        """See :class:`Writer`; ends the thread."""
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
            _commit(self._engine, self._where, group)
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

    def _settle(self, group: list[_Ticket[Any]]) -> None:
        """In the event loop: wake the callers."""
        for ticket in group:
            self._room.release()
            if ticket.done is not None:
                ticket.done.set()


class InlineWriter:
    """A :class:`Writer` without a thread: each write is done and committed before anything else runs on the event loop.

    For simulations, in which the order of events must depend on nothing but the seed.

    Args:
        engine: an engine with one connection.
        where: names the database in messages.
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._closed = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See :class:`Writer`; others have their turn before this returns."""
        if self._closed:
            raise _closed(self._where)
        ticket = _Ticket(work)
        _commit(self._engine, self._where, [ticket])
        await anyio.lowlevel.checkpoint()
        return ticket.outcome()

    async def close(self) -> None:
        """See :class:`Writer`."""
        self._closed = True


def _closed(where: str) -> StorageError:
    return StorageError(f"{where}: the store is closed")


def _commit(engine: Engine, where: str, group: Sequence[_Ticket[Any]]) -> None:
    """Bring all of a group to an end: run and commit them, without those that are refused."""
    waiting = list(group)
    while waiting:
        refused = _try_to_commit(engine, where, waiting)
        waiting = [ticket for ticket in waiting if ticket is not refused] if refused else []


def _try_to_commit(engine: Engine, where: str, tickets: Sequence[_Ticket[Any]]) -> _Ticket[Any] | None:
    """Run and commit these; returns the one that was refused, with all others undone, or None if all have come to an end."""
    running: _Ticket[Any] | None = None
    try:
        with engine.begin() as connection:
            with whole(connection):
                for running in tickets:
                    running.result = running.work(connection)
            running = None
    except BaseException as error:  # noqa: BLE001 - handed to the callers: whatever it is, this thread must go on
        if running is not None and not concerns_all(error):
            running.error = what_work_raised(error, where)
            return running
        for ticket in tickets:
            ticket.error = what_work_raised(error, where)
    return None
