"""The queue of writes, and the group commit.

Writes queue up while a commit is on its way to the disk; when it is done, all of them go into the next transaction, in the order of
their arrival. So the price of a commit is shared by as many callers as wait, and a lone caller waits for nobody. Several wait a little for more
of them (``gathering.py``); one who is alone with a quick disk has no change of thread (``lone_writes.py``).

Where a group is run (``committer.py`` says how):

=================================== ============================ ===================================
group                               statements                   COMMIT
=================================== ============================ ===================================
direct writes, SQLite in a file     on the event loop, ≤ 5 ms    in the writing thread
one direct write alone, the same    on the event loop, ≤ 5 ms    on the event loop, if the disk is quick
direct writes, SQLite in memory     on the event loop, ≤ 5 ms    on the event loop: there is no disk
all others                          in the writing thread        in the writing thread
any, of an inline store             on the event loop            on the event loop
=================================== ============================ ===================================

Nothing on the event loop waits for others: if another program holds a lock on the file, the group goes to the thread, which does.

Writes for which nobody waits are *deferred*: they go along with the next group, and begin one of their own only after a while.

Source: DeWitt et al., "Implementation Techniques for Main Memory Database Systems" (SIGMOD 1984), section 5.2, group commit.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread

from fluvial.errors import StorageError
from fluvial.storage.committer import Committer, Ticket, Work
from fluvial.storage.condition import Condition
from fluvial.storage.direct import DirectWrite
from fluvial.storage.failures import what_work_raised
from fluvial.storage.gathering import GATHER_S, Gathering
from fluvial.storage.lone_writes import LoneWrites
from fluvial.storage.ownership import BEAT_S, OwnershipLost

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Writes in one transaction; bounds how long the first of them waits."""

GROUP_BYTES_MAX: Final = 4 * 2**20
"""Payload of one transaction, unless a single write has more; bounds what the log of the database holds besides what was committed."""

WAITING_MAX: Final = 1024
"""Writes that may wait; further callers are held back until there is room."""

LOOP_S_MAX: Final = 0.005
"""How long the statements of one group may hold the event loop; the rest goes into the next group."""

DEFERRED_S: Final = 0.1
"""How long a write that nobody waits for may wait for the next transaction."""

DEFERRED_MAX: Final = 128
"""With so many of them there is a transaction in any case."""

WRITE_DEADLINE_S: Final = 60.0
CLOSE_DEADLINE_S: Final = 60.0


class _Waiting(Ticket[T]):
    """A ticket in the queue.

    Args:
        work: what to write.
        done: for whoever waits for it; None if nobody does.
        since: when it came.
        own: whether it is not a caller's: it takes no room.
    """

    __slots__ = ("done", "own", "since")

    def __init__(self, work: Work[T], done: asyncio.Future[T] | None, since: float, *, own: bool = False) -> None:
        super().__init__(work)
        self.done = done
        self.since = since
        self.own = own

    def settle(self) -> None:
        """Wake whoever waits."""
        if self.done is None or self.done.done():  # then the caller was cancelled
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)  # type: ignore[arg-type]  # set by the work wherever there is no error


class Writer:
    """Brings writes to a committer, in groups.

    Args:
        committer: brings groups to their end.
        where: names the database in messages.
        inline: do everything on the event loop's thread, whatever it waits for; for simulations.
        condition: told whether the database works, and what goes wrong while nobody waits for an answer.
    """

    def __init__(self, committer: Committer, where: str, *, inline: bool, condition: Condition) -> None:
        self._committer = committer
        self._where = where
        self._inline = inline
        self._condition = condition
        self._lost: OwnershipLost | None = None
        self._loop = asyncio.get_running_loop()
        self._room = anyio.Semaphore(WAITING_MAX, fast_acquire=True)
        self._queue: deque[_Waiting[Any]] = deque()
        self._group: Sequence[_Waiting[Any]] = ()
        self._deferred: list[_Waiting[Any]] = []
        self._flushing: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._gathering = Gathering()
        self._lone = LoneWrites()
        self._wrote_at_once = False
        self._committed_s: float | None = None
        self._watching = False
        self._closed = False
        self._idle: asyncio.Future[None] | None = None
        self._jobs: SimpleQueue[Callable[[Sequence[Ticket[Any]]], None] | None] = SimpleQueue()
        self._beating: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        if not inline:
            # A daemon: a process that ends without closing its store loses nothing that was acknowledged.
            self._thread = threading.Thread(target=self._serve, name="fluvial-storage-writer", daemon=True)
            self._thread.start()
            self._beating = self._loop.call_later(BEAT_S, self._beat)

    async def run(self, work: Work[T]) -> T:
        """What ``work`` returns, after the commit of the transaction in which it ran.

        Args:
            work: a function of the connection, called perhaps more than once (after a rollback), in the writing thread; it must do
                nothing but use the connection, and neither commit nor roll back. Or a direct write.

        Raises:
            StorageError: the database failed, or did not finish within ``WRITE_DEADLINE_S``; in the latter case, and when the
                connection broke, it is not known whether the write has happened. A cancelled write may still happen, too.
            Exception: whatever else ``work`` raised; nothing of it was written. What is no ``Exception`` (``SystemExit`` and the like)
                becomes a StorageError.
        """
        if self._room.value:
            self._room.acquire_nowait()
        else:
            await self._room.acquire()
        if self._closed or self._lost is not None:
            self._room.release()
            raise self._refusal()
        done: asyncio.Future[T] = self._loop.create_future()
        self._queue_deferred()
        ticket = _Waiting(work, done, self._loop.time())
        self._queue.append(ticket)
        if ticket.quick and self._goes_at_once(ticket.since):
            self._begin(at_once=True)
        else:
            self._schedule()
        return await done

    def defer(self, work: DirectWrite[Any]) -> None:
        """Write something for which nobody waits, together with whatever is written next, or after ``DEFERRED_S``.

        If it fails, or the process ends before, it has not happened; the condition is told of a failure. It is written in the order of its call
        relative to all other writes.
        """
        if self._closed or self._lost is not None:
            return
        self._deferred.append(_Waiting(work, None, self._loop.time(), own=True))
        if self._inline or len(self._deferred) >= DEFERRED_MAX:
            self._flush()
        elif self._flushing is None:
            self._flushing = self._loop.call_later(DEFERRED_S, self._flush)

    async def flushed(self) -> None:
        """Return when everything that was deferred before has come to its end, whatever that was."""
        if not self._deferred and not any(ticket.done is None for ticket in (*self._group, *self._queue)):
            return
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue_deferred()
        self._queue.append(_Waiting(DirectWrite((), lambda _: None), done, self._loop.time(), own=True))
        self._schedule()
        with suppress(StorageError):
            await done

    async def close(self) -> None:
        """Finish the writes that wait, refuse new ones, end the thread.

        Raises:
            StorageError: the last write does not come to its end within ``CLOSE_DEADLINE_S``.
        """
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()
        with anyio.CancelScope(shield=True):
            self._flush()
            if self._group or self._queue:
                self._idle = self._loop.create_future()
                with anyio.move_on_after(CLOSE_DEADLINE_S):
                    await self._idle
            if self._thread is None:
                self._leave()
                return
            self._jobs.put(None)
            await to_thread.run_sync(self._thread.join, CLOSE_DEADLINE_S)
            if self._thread.is_alive():
                raise StorageError(f"{self._where}: the last write does not end", hint="the disk or the server hangs")

    # --- on the event loop

    def _queue_deferred(self) -> None:
        if self._deferred:
            self._queue.extend(self._deferred)
            self._deferred.clear()
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _flush(self) -> None:
        self._queue_deferred()
        self._schedule()

    def _schedule(self) -> None:
        """Begin a group soon: what else the loop has to do before may bring further writes."""
        if self._queue and not self._group and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin if self._inline else self._gather)
        if not self._watching and not self._inline:
            self._watching = True
            self._loop.call_later(WRITE_DEADLINE_S / 10, self._watch)

    def _gather(self) -> None:
        """Begin now, or after a little while."""
        callers = WAITING_MAX - self._room.value
        if not self._closed and self._gathering.goes_on(callers, self._loop.time(), time.thread_time()):
            self._loop.call_later(GATHER_S, self._gather)
        else:
            self._begin()

    def _goes_at_once(self, now_s: float) -> bool:
        """Whether the write that has just come is committed here and now; at most one in a turn of the loop."""
        if self._inline or self._group or self._scheduled or not self._committer.quick:
            return False
        if self._wrote_at_once:
            self._lone.seen(alone=False)
            return False
        if self._committer.upkeep_due or not self._lone.goes_at_once(now_s):
            return False
        self._wrote_at_once = True
        self._loop.call_soon(self._next_turn)
        return True

    def _next_turn(self) -> None:
        self._wrote_at_once = False

    def _begin(self, *, at_once: bool = False) -> None:
        """Take a group out of the queue and run it, here or in the thread."""
        self._scheduled = False
        committer, queue = self._committer, self._queue
        group = self._group = self._take_group()
        work = committer.run
        if committer.quick and ((at_once and len(group) == 1) or all(ticket.quick for ticket in group)):
            # In a simulation nothing may depend on how fast this machine is.
            done = committer.prepare(group, within_s=math.inf if self._inline else LOOP_S_MAX)
            if done:
                queue.extendleft(reversed(group[done:]))
                group = self._group = group[:done]
                work = committer.commit
        if self._inline or ((at_once or committer.instant) and work == committer.commit):
            self._bring_to_end(work)
            if self._inline:
                committer.keep_up()
            self._settle(at_once=at_once)
        else:
            self._jobs.put(work)

    def _take_group(self) -> Sequence[_Waiting[Any]]:
        """The writes for the next transaction."""
        queue = self._queue
        group, size = [queue.popleft()], 0
        while queue and len(group) < GROUP_MAX:
            size += group[-1].size
            if size > GROUP_BYTES_MAX:
                break
            group.append(queue.popleft())
        return group

    def _settle(self, *, at_once: bool = False) -> None:
        """The group has come to its end."""
        group, self._group = self._group, ()
        if self._committed_s is not None:
            self._lone.committed(self._committed_s, self._loop.time())
            self._committed_s = None
        callers, unheard = 0, None
        for ticket in group:
            callers += not ticket.own
            if isinstance(error := ticket.error, StorageError):
                if isinstance(error, OwnershipLost):
                    self._lose(error)
                if not self._condition.failed(error) and ticket.done is None:
                    unheard = unheard or error
            self._dismiss(ticket)
        if callers and not at_once:
            self._lone.seen(alone=callers == 1 and not self._queue)
        if unheard is not None:
            self._condition.unheard(unheard)
        self._schedule()
        if self._idle is not None and not self._queue and not self._idle.done():
            self._idle.set_result(None)

    def _dismiss(self, ticket: _Waiting[Any]) -> None:
        if not ticket.own:
            self._room.release()
        ticket.settle()

    def _watch(self) -> None:
        """Give up waiting for what takes too long; looked at from time to time, and not for each write, which would cost more."""
        self._watching = False
        pending = (*self._group, *self._queue)
        late = self._loop.time() - WRITE_DEADLINE_S
        for ticket in pending:
            if ticket.since < late and ticket.done is not None and not ticket.done.done():
                ticket.done.set_exception(
                    StorageError(
                        f"{self._where}: a write took longer than {WRITE_DEADLINE_S:g} s",
                        hint="the disk or the database server is overloaded or hangs",
                    )
                )
        if pending:
            self._watching = True
            self._loop.call_later(WRITE_DEADLINE_S / 10, self._watch)

    def _beat(self) -> None:
        """Show that the owner is alive, and find out whether it still is the owner."""
        self._beating = self._loop.call_later(BEAT_S, self._beat)
        if self._lost is not None:
            return
        done: asyncio.Future[None] = self._loop.create_future()
        done.add_done_callback(self._beaten)
        self._queue.append(_Waiting(self._committer.beat(), done, self._loop.time(), own=True))
        self._schedule()

    def _beaten(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if isinstance(error, StorageError):
            self._condition.unheard(error)
        elif error is None:
            self._condition.worked()

    def _lose(self, error: OwnershipLost) -> None:
        """From here on nothing is written: what is not this process's own must not be changed by it."""
        if self._lost is None:
            self._lost = error
            self._condition.failed(error)
        self._queue_deferred()
        while self._queue:
            ticket = self._queue.popleft()
            ticket.error = self._refusal()
            self._dismiss(ticket)

    def _refusal(self) -> StorageError:
        if self._lost is not None:
            return OwnershipLost(self._lost.message, hint=self._lost.hint)
        return StorageError(f"{self._where}: the store is closed")

    # --- in the thread

    def _serve(self) -> None:
        """One group after the other, until the mark that :meth:`close` leaves."""
        while (work := self._jobs.get()) is not None:
            self._bring_to_end(work)
            self._committer.keep_up()
            try:
                self._loop.call_soon_threadsafe(self._settle)
            except RuntimeError:  # the loop was closed under us: nobody is left who could be told
                return
        self._leave()

    def _bring_to_end(self, work: Callable[[Sequence[Ticket[Any]]], None]) -> None:
        """Run or commit the group; whatever else happens, its callers get an answer, and the thread goes on."""
        began = time.perf_counter()
        try:
            work(self._group)
            if work == self._committer.commit:
                self._committed_s = time.perf_counter() - began
        except BaseException as error:  # noqa: BLE001 - told to the callers
            for ticket in self._group:
                ticket.error = what_work_raised(error, self._where)

    def _leave(self) -> None:
        """Give the database up; what goes wrong now only means that whoever comes next may have to wait for the lease."""
        try:
            self._committer.close()
        except Exception as error:
            trouble = what_work_raised(error, self._where)
            if not isinstance(trouble, StorageError):
                raise
            self._condition.unheard(trouble)
