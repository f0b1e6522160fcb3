"""How much of what comes in is read and begun in one round of the event loop, over all connections together.

What a message costs is not known before it is handled: a ping next to nothing, a record with a path of trusts in it two milliseconds. A few of these
over each of a hundred connections would make a round of seconds, and whoever else is there needs many rounds. So connections are read, and jobs begin,
during a few milliseconds of a round; after that they wait in line.

The line is *start-time fair queueing* by time of the loop: the connection is served whose tag is the lowest. A tag grows by what was done for the connection,
divided by its share. *Virtual time* is the lowest tag of those that have something to do: it goes on as fast as each of them is served.

1. A connection goes on for as long as its tag is at most ``TURN_S`` above the lowest in line: many small messages do not wait for a round each.
2. A tag that has stayed behind virtual time is a credit, of which ``CREDIT_S`` is kept: who has used little for a while is served before all that have
   used much, for so long. It is earned only while virtual time goes on, and that is while those are served who have none: nobody can be kept waiting by
   others who take turns at being idle.
3. A connection waits at most until every other one has used ``DEBT_S``, however much a single message of it took.
4. Who had nothing to do for some rounds owes nothing: else who sends a flow now and then would wait until each of hundreds of connections has used as
   much. A new connection begins one turn ahead: a handshake costs more than that.

Sources: P. Goyal, H. M. Vin, H. Cheng, *Start-time Fair Queueing*, SIGCOMM 1996; virtual time as the lowest tag, and the bounded credit of sleepers, are
those of the completely fair scheduler of Linux (I. Molnar, 2007).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Final

from fluvial import waiting

from fluvial_transport_tcp.accounts import WorkAccount
from fluvial_transport_tcp.prices import WorkPrices
from fluvial_transport_tcp.work_clock import WorkClock

ROUND_S: Final = 0.005
"""For how much of this thread's time work begins in a round, in seconds."""
TURN_S: Final = 0.000_5
"""How far a connection may get ahead of the next in line before it lets that one go first."""
CREDIT_S: Final = 0.008
"""How much is kept of what a connection did not use: what a few flows need."""
DEBT_S: Final = 0.01
"""How much a connection is ahead at most: a message that takes longer is rare, such as one during which garbage is collected."""
IDLE_ROUNDS: Final = 3
"""Who was not in line for so many rounds had nothing to do."""
TURNS: Final = 16
"""Those in line that have their turn in a round, if it has the time; the first of them has it in any case. With fewer, hundreds with little to read need more rounds than time."""

Withdraw = Callable[[], None]


class WorkRounds:
    """See the module's docstring; one for all connections of a transport.

    Args:
        clock: of this thread; what other processes take is not counted.

    Attributes:
        prices: what a second of work counts, by its kind.
    """

    def __init__(self, clock: WorkClock | None = None) -> None:
        self.clock: Final = clock or WorkClock()
        self.prices: Final = WorkPrices(self.clock.now)
        self._until: float | None = None  # the end of the time of this round; None before the first job
        self._line: list[tuple[float, int, _Place]] = []  # a heap by tags, which may have grown since
        self._order = count()
        self._virtual = 0.0
        self._number = 0  # of the round
        self._called: deque[_Place] = deque()  # out of the line, about to begin; some of them have

    def open(self, account: WorkAccount) -> bool:
        """Whether work for a connection may begin, or go on, at once: this round has time left, and nobody in line comes before it."""
        self._arrive(account)
        if self._until is None:
            self._until = self.clock.used() + ROUND_S
            waiting.soon(self._next)
        elif not self.clock.before(self._until) or self._comes_later(account.tag):
            return False
        self._serve(account)
        return True

    def can_pay(self, account: WorkAccount) -> bool:
        """Whether a connection is not so far ahead of the others that what is charged to it besides would be forgotten."""
        account.tag = max(account.tag, self._virtual - CREDIT_S)
        return account.tag <= self._virtual + DEBT_S / 2

    def queue(self, account: WorkAccount, begin: Callable[[], None]) -> Withdraw:
        """Wait in line; only where :meth:`open` has just said no.

        Args:
            account: of the connection.
            begin: called once, in a turn of the loop of its own.

        Returns:
            Leaves the line.
        """
        place = _Place(account, next(self._order))

        def start() -> None:
            if place.left:
                return
            if self._has_time(place):
                begin()
            else:
                self._enter(place)

        place.call = lambda: waiting.soon(start)
        self._enter(place)
        return place.leave

    async def turn(self, account: WorkAccount) -> None:
        """As :meth:`queue`, and wait for it."""
        place = _Place(account, next(self._order))
        while True:
            mine = waiting.future()
            place.call = partial(_wake, mine)
            self._enter(place)
            try:
                await mine
            except BaseException:
                place.leave()
                raise
            if self._has_time(place):
                return

    def _has_time(self, place: _Place) -> bool:
        """Whether this round has time left for whoever was called."""
        place.called, first = False, place.first
        place.first = False
        if not first and self._until is not None and not self.clock.before(self._until):
            return False
        place.left = True
        self._serve(place.account)
        return True

    def _comes_later(self, tag: float) -> bool:
        """Whether somebody in line comes before a connection."""
        return bool(self._line or self._called) and tag > self._lowest(tag) + TURN_S

    def _lowest(self, tag: float) -> float:
        """The lowest tag among a connection's and those of all that wait."""
        if self._called:
            self._forget_begun()
            if self._called:
                return min(tag, self._called[0].account.tag)
        return min(tag, self._line[0][0]) if self._line else tag

    def _forget_begun(self) -> None:
        while self._called and not self._called[0].called:
            self._called.popleft()

    def _arrive(self, account: WorkAccount) -> None:
        """Settle what was used and not used while there was nothing to do."""
        tag, virtual, number = account.tag, self._virtual, self._number
        if account.served is None:
            account.tag = virtual - TURN_S
        elif tag > virtual:
            if number - account.served > IDLE_ROUNDS:
                account.tag = virtual
            elif tag > virtual + DEBT_S:
                account.tag = virtual + DEBT_S
        elif tag < virtual - CREDIT_S:
            account.tag = virtual - CREDIT_S
        account.served = number

    def _serve(self, account: WorkAccount) -> None:
        if account.tag > self._virtual:
            self._virtual = max(self._virtual, self._lowest(account.tag))
        account.served = self._number

    def _enter(self, place: _Place) -> None:
        place.account.served = self._number
        heappush(self._line, (place.account.tag, place.order, place))

    def _next(self) -> None:
        """A new round begins."""
        self._number += 1
        self._forget_begun()
        if not self._line and not self._called:
            self._until = None
            return
        self._until = self.clock.used() + ROUND_S
        waiting.soon(self._next)  # first, so that those who are called find a new round
        turns = TURNS
        while self._line and turns:
            tag, _, place = heappop(self._line)
            if place.left:
                continue
            if place.account.tag > tag:  # it was worked for meanwhile
                self._enter(place)
                continue
            place.first = turns == TURNS
            turns -= 1
            place.called = True
            self._called.append(place)
            place.call()


class _Place:
    """Somebody in line, who is called when it is their turn, unless they have left."""

    __slots__ = ("account", "call", "called", "first", "left", "order")

    def __init__(self, account: WorkAccount, order: int) -> None:
        self.account, self.order = account, order
        self.call: Callable[[], object]
        self.called = False  # and has not looked yet whether there is time
        self.first = False  # of a round
        self.left = False

    def leave(self) -> None:
        self.left, self.called = True, False


def _wake(waiting_one: waiting.Future[None]) -> None:
    if not waiting_one.done():
        waiting_one.set_result(None)
