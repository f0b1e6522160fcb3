"""How fast this peer reads from those whom nobody vouches for. No I/O; time is passed in.

Whoever sends more than its rate is not read for a while: TCP's own flow control then slows the sender down, and nothing is dropped. Each such
connection has a rate of its own, and all of one network prefix have one together, since keys are free and addresses are not. Both are token
buckets that may hold one second's worth; who takes more than there is waits until the debt is paid.

Bytes are accounted for in portions, so that a connection asks for the time once in many messages.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial_transport_tcp.prefix import Prefix

PORTION_BYTES: Final = 262_144
"""What a connection reads before it is accounted for again; also what each new connection costs its prefix at once."""
WAIT_MAX_S: Final = 5.0
"""One pause; then the debt is looked at again, so that a peer that has got weight meanwhile goes on. Far less than any side's ``silence_max_s``."""
PREFIXES_MAX: Final = 4_096
"""Prefixes that are remembered; the one that has sent nothing for the longest time is forgotten first."""


class TokenBucket:
    """What may be taken now, and what is owed.

    Args:
        per_s: how much comes back in a second, and how much it holds.
        now: seconds of a clock that never goes back.
    """

    __slots__ = ("_level", "_per_s", "_seen")

    def __init__(self, per_s: int, now: float) -> None:
        self._per_s = per_s
        self._level = float(per_s)
        self._seen = now

    def charge(self, amount: float, now: float) -> None:
        """Take an amount, whatever is left."""
        self._level = self._refilled(now) - amount
        self._seen = now

    def half_used(self, now: float) -> bool:
        """Whether less than half of what it holds is left."""
        return self._refilled(now) * 2 < self._per_s

    def debt_s(self, now: float) -> float:
        """Seconds until nothing is owed; 0 if less than one is."""
        debt = -self._refilled(now)
        return debt / self._per_s if debt >= 1 else 0.0

    def _refilled(self, now: float) -> float:
        return min(float(self._per_s), self._level + (now - self._seen) * self._per_s)


class PrefixRates:
    """The rates of all connections of a node, each by itself and all of one network prefix together.

    Args:
        each: per second, of one connection; 0: as much as comes.
        together: per second, of all of one public prefix; 0: as much as comes.
    """

    def __init__(self, each: int, together: int) -> None:
        self._each: Final = each
        self._together: Final = together
        self._prefixes: OrderedDict[str, TokenBucket] = OrderedDict()

    def buckets(self, prefix: Prefix | None, now: float) -> list[TokenBucket]:
        """What one connection pays into.

        Args:
            prefix: where it comes from; None if this peer has dialled. Private ones have no rate together: a whole site is behind one.
            now: as above.
        """
        buckets = [TokenBucket(self._each, now)] if self._each else []
        if self._together and prefix is not None and prefix.public:
            shared = self._prefixes.setdefault(prefix.name, TokenBucket(self._together, now))
            self._prefixes.move_to_end(prefix.name)
            if len(self._prefixes) > PREFIXES_MAX:
                self._prefixes.popitem(last=False)
            buckets.append(shared)
        return buckets


class ReadingPace:
    """The pace of one connection.

    Args:
        buckets: what it pays into.
    """

    def __init__(self, buckets: list[TokenBucket]) -> None:
        self._buckets = buckets
        self._left = 0

    def spend(self, size: int) -> bool:
        """Bytes were read; whether it is time to :meth:`settle`."""
        self._left -= size
        return self._left < 0

    def settle(self, *, vouched: bool, now: float) -> float:
        """Account for what was read; as :meth:`owed_s`.

        Args:
            vouched: the peer has weight, or is kept: it pays nothing and does not wait.
            now: as above.
        """
        portions = -(-max(0, -self._left) // PORTION_BYTES)
        self._left += portions * PORTION_BYTES
        if not vouched:
            for bucket in self._buckets:
                bucket.charge(portions * PORTION_BYTES, now)
        return self.owed_s(vouched=vouched, now=now)

    def owed_s(self, *, vouched: bool, now: float) -> float:
        """Seconds for which nothing more may be read; then ask again."""
        return 0.0 if vouched else min(WAIT_MAX_S, max((bucket.debt_s(now) for bucket in self._buckets), default=0.0))
