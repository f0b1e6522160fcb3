"""How much of what comes in is read and begun in one round of the event loop, over all connections together.

What a message costs is not known before it is handled: a ping next to nothing, a record with a path of trusts in it two milliseconds. A few of these
over each of a hundred connections would make a round of seconds, and whoever else is there needs many rounds. So connections are read, and jobs begin,
during a few milliseconds of a round; after that they wait in line.

The line is *start-time fair queueing* by time of the loop: the connection is served whose tag is the lowest. A tag grows by what was done for the connection,
divided by its share, and is never below the virtual time, which is the tag of whoever was served last. So floods wait for each other, a connection that
has used little is served next, and one that had nothing to do for some rounds owes nothing and is owed nothing: else who sends a flow now and then
would wait until each of hundreds of connections has used as much. Whoever has its turn goes on for a part of a millisecond: many small messages of one connection
do not wait for a round each.

Source: P. Goyal, H. M. Vin, H. Cheng, *Start-time Fair Queueing*, SIGCOMM 1996.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Final

from fluvial import waiting

from fluvial_transport_tcp.accounts import WorkAccount

ROUND_S: Final = 0.005
"""For how much of this thread's time work begins in a round, in seconds."""
TURN_S: Final = 0.000_2
"""For how much of it a connection goes on that has its turn."""
IDLE_ROUNDS: Final = 3
"""Who was not in line for so many rounds had nothing to do."""
TURNS: Final = 8
"""Those in line that have their turn in a round, if it has the time."""

Withdraw = Callable[[], None]


class WorkRounds:
    """See the module's docstring; one for all connections of a transport.

    Args:
        now: seconds of processor time of this thread: what other processes take is not counted.
        clock: seconds for what is charged to connections: it is read for each message, and asking the system for processor time takes five times as long.
    """

    def __init__(
        self, now: Callable[[], float] = time.thread_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock: Final = clock
        self._now: Final = now
        self._until: float | None = None  # the end of the time of this round; None before the first job
        self._line: list[tuple[float, int, _Place]] = []
        self._called = 0  # out of the line, for this round
        self._order = count()
        self._virtual = 0.0
        self._number = 0  # of the round

    def open(self, account: WorkAccount) -> bool:
        """Whether work for a connection may begin at once: nobody is in line, and this round has time left."""
        if self._until is None:
            self._until = self._now() + ROUND_S
            waiting.soon(self._next)
        elif self._line or self._called or self._now() >= self._until:
            return False
        self._virtual = max(self._virtual, account.tag)
        account.served = self._number
        return True

    @property
    def crowded(self) -> bool:
        """Whether somebody is in line."""
        return bool(self._line or self._called)

    def queue(self, account: WorkAccount, begin: Callable[[], None]) -> Withdraw:
        """Wait in line; only where :meth:`open` has just said no, or others are there already.

        Args:
            account: of the connection.
            begin: called once, in a turn of the loop of its own, when it may go on until ``account.tag`` has grown by ``TURN_S``.

        Returns:
            Leaves the line.
        """
        place = self._place(account)

        def start() -> None:
            if place.left:
                return
            if self._has_time(account):
                place.left = True
                begin()
            else:
                self._enter(place)

        place.call = lambda: waiting.soon(start)
        self._enter(place)
        return place.leave

    async def turn(self, account: WorkAccount) -> None:
        """As :meth:`queue`, and wait for it."""
        place = self._place(account)
        while True:
            mine = waiting.future()
            place.call = partial(_wake, mine)
            self._enter(place)
            try:
                await mine
            except BaseException:
                place.leave()
                raise
            if self._has_time(account):
                return

    def _has_time(self, account: WorkAccount) -> bool:
        """Whether this round has time left for whoever was called."""
        if self._until is not None and self._now() >= self._until:
            return False
        self._virtual = max(self._virtual, account.tag)
        account.served = self._number
        return True

    def _place(self, account: WorkAccount) -> _Place:
        if self._number - account.served > IDLE_ROUNDS:
            account.tag = self._virtual
        account.served = self._number
        return _Place(account, next(self._order))

    def _enter(self, place: _Place) -> None:
        place.account.tag = max(place.account.tag, self._virtual)
        heappush(self._line, (place.account.tag, place.order, place))

    def _next(self) -> None:
        """A new round begins."""
        self._number += 1
        if not self._line and not self._called:
            self._until = None
            return
        self._until = self._now() + ROUND_S
        waiting.soon(self._next)  # first, so that those who are called find a new round
        self._called = 0
        while self._line and self._called < TURNS:
            place = heappop(self._line)[2]
            if not place.left:
                self._called += 1
                place.call()


class _Place:
    """Somebody in line, who is called when it is their turn, unless they have left."""

    __slots__ = ("account", "call", "left", "order")

    def __init__(self, account: WorkAccount, order: int) -> None:
        self.account, self.order = account, order
        self.call: Callable[[], object]
        self.left = False

    def leave(self) -> None:
        self.left = True


def _wake(waiting_one: waiting.Future[None]) -> None:
    if not waiting_one.done():
        waiting_one.set_result(None)
