"""What each connection makes the event loop of this node do: for how long it holds the loop.

Two things follow from it:

- *Turns.* Where connections have more to do than a round of the loop has time for (``rounds.py``), those go first that have used the least, at the
  prices of the kinds of work (``prices.py``).
  What goes on with something that somebody else has begun is that one's use: the peers behind this one bring back the flows of all whose first peer
  this is, over one connection.
- *Waste.* What came to nothing is paid for: a message that was refused, that nobody here wanted, a ping. Its time is taken from a small allowance
  of the connection, of its network prefix, and of all such connections together. Who has used it up is not read, and what it has sent is not begun,
  until the debt is paid: TCP's own flow control then stops the sender, and a flood costs the sender what it costs this node. Peers with weight pay nothing.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

from fluvial_transport_tcp.pacing import PrefixRates, TokenBucket
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.work_clock import DOUBTFUL_S, WorkClock

EACH_US_PER_S: Final = 20_000
"""Microseconds of the event loop that what came to nothing may take in a second, of one connection; as much may be ahead."""
PREFIX_US_PER_S: Final = 50_000
"""The same of all connections of one public network prefix."""
TOGETHER_US_PER_S: Final = 100_000
"""The same of all connections that have used up half of their own allowance."""
WASTE_MAX_S: Final = 0.005
"""What one message is charged at most: what is rare and slow here, such as the trace of a bug in the log, must not silence its sender for long."""
REST_MAX_S: Final = 1.0
"""One pause; then the debt is looked at again."""
SIGN_S: Final = 0.000_05
"""A ping or another sign of life is charged so much: what reading, answering and sending cost about."""
SHARES: Final = {Rank.STRANGER: 1.0, Rank.KNOWN: 1.0, Rank.TRUSTED: 8.0, Rank.KEPT: 16.0}
"""How many parts of the time somebody gets where there is not enough for all."""

PAID_S_MAX: Final = 0.01
"""What others pay of one message at most: it may be much larger than what they have begun."""
OWN_PART_MIN: Final = 0.01
"""What a peer pays in any case of what goes on with what others have begun. It is next to nothing: they have paid for it, and what is begun must come to its end before more is."""
SETTLES_S: Final = 0.01
"""In so much work it is found out which part of a peer's messages goes on with what others have begun."""

T = TypeVar("T")


class WasteRates:
    """The allowances of all connections of a node.

    Attributes:
        together: of all of them, in microseconds.
        wasted_s: what has come to nothing so far, in seconds.
    """

    def __init__(self) -> None:
        self.wasted_s = 0.0
        self.together: Final = TokenBucket(TOGETHER_US_PER_S, 0.0)
        self._rates: Final = PrefixRates(EACH_US_PER_S, PREFIX_US_PER_S)

    def account(self, prefix: Prefix | None, rank: Callable[[], Rank], now: float) -> WorkAccount:
        """The account of a new connection.

        Args:
            prefix: where it comes from; None if this peer has dialled.
            rank: of the peer, now.
            now: seconds of a clock that never goes back.
        """
        own, *shared = self._rates.buckets(prefix, now)
        return WorkAccount(self, own, shared, rank)


class WorkAccount:
    """See the module's docstring; of one connection.

    Args:
        rates: of the node.
        own: its allowance, in microseconds.
        shared: of its prefix.
        rank: of the peer, now.

    Attributes:
        tag: seconds of use, divided by its share, in the virtual time of ``rounds.py``.
        owes: whether it may have to rest.
        served: the number of the round in which it was in line or served last; None before the first.
    """

    __slots__ = (
        "_own",
        "_own_part",
        "_rank",
        "_rates",
        "_read_bytes",
        "_read_s",
        "_share",
        "_shared",
        "owes",
        "served",
        "tag",
    )

    def __init__(
        self, rates: WasteRates, own: TokenBucket, shared: list[TokenBucket], rank: Callable[[], Rank]
    ) -> None:
        self.tag = 0.0
        self.owes = False
        self.served: int | None = None
        self._rates, self._own, self._shared, self._rank = rates, own, shared, rank
        self._share = 1.0
        self._own_part = 1.0  # of the work that is done for it, what is not paid by others
        self._read_s = 0.0
        self._read_bytes = 1

    def use(self, seconds: float) -> None:
        """It was worked for."""
        self.tag += seconds / self._share

    def use_in_part(self, seconds: float) -> None:
        """As :meth:`use`, for work that :meth:`pay` settles: what others pay of such work as a rule is left out."""
        self.tag += seconds * self._own_part / self._share

    def pay(self, seconds: float, payer: WorkAccount | None) -> None:
        """Settle work that :meth:`use_in_part` has charged while it was done.

        Args:
            seconds: that it took, at its price.
            payer: the account of somebody else whose work it was.
        """
        if payer is not None:
            payer.tag += min(seconds, PAID_S_MAX) / payer._share
        elif self._own_part < 1.0:
            self.tag += seconds * (1.0 - self._own_part) / self._share
        else:
            return  # as of nearly all connections
        if seconds > 0:
            part = 1.0 if payer is None else max(OWN_PART_MIN, 1.0 - PAID_S_MAX / seconds)
            self._own_part += (part - self._own_part) * min(1.0, seconds / SETTLES_S)

    def read(self, seconds: float, size: int) -> None:
        """So many bytes of it were read, which is also work."""
        self.use(seconds)
        self._read_s += seconds
        self._read_bytes += size

    def waste(self, seconds: float, size: int, now: float) -> None:
        """What was done came to nothing.

        Args:
            seconds: that handling it took.
            size: bytes that were read for it.
            now: as above.
        """
        wasted_s = min(WASTE_MAX_S, seconds + self._read_s * min(1.0, size / self._read_bytes))
        self._rates.wasted_s += wasted_s
        for bucket in (self._own, self._rates.together, *self._shared):
            bucket.charge(wasted_s * 1e6, now)
        self.owes = self.owes or self._debt_s(now) > 0

    def rest_s(self, now: float) -> float:
        """Seconds for which nothing of it may be read or begun; then ask again."""
        if not self.owes:
            return 0.0
        debt_s = self._debt_s(now)
        if debt_s <= 0 or self._rank() >= Rank.TRUSTED:
            self.owes = False
            return 0.0
        return min(REST_MAX_S, debt_s)

    def tick(self) -> None:
        """Look how much the peer counts now; call it every second or so."""
        self._share = SHARES[self._rank()]

    def _debt_s(self, now: float) -> float:
        debt_s = max((bucket.debt_s(now) for bucket in self._shared), default=0.0)
        debt_s = max(debt_s, self._own.debt_s(now))
        return max(debt_s, self._rates.together.debt_s(now)) if self._own.half_used(now) else debt_s


@types.coroutine
def metered(
    work: Coroutine[Any, Any, T], account: WorkAccount, clock: WorkClock, price: float = 1.0
) -> Generator[Any, Any, tuple[T, float]]:
    """Await work; each of its steps is charged to an account when it is done, at a price (``prices.py``).

    Returns:
        What the work returns, and how many seconds its steps took.
    """
    step: Callable[[Any], Any] = work.send
    value: Any = None
    spent, ended, now = 0.0, False, clock.now
    while True:
        began = now()
        try:
            value = step(value)
        except StopIteration as end:
            value, ended = end.value, True
        except BaseException:
            value = None  # it has this frame in its traceback: in a circle, they would keep what the work had
            raise
        finally:
            if (took := now() - began) > DOUBTFUL_S:
                took = clock.at_most(took)
            spent += took
            account.use_in_part(took * price)
        if ended:
            return value, spent
        try:
            value = yield value
            step = work.send
        except BaseException as error:  # noqa: BLE001 - a cancellation or a failure is the work's
            step, value = work.throw, error
