"""How often somebody may cause something: a token bucket for each, in a bounded table; pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

OwnerT = TypeVar("OwnerT", bound=Hashable)

OWNERS_MAX: Final = 4_096
"""Buckets that are remembered. The one that was unused for the longest time is forgotten first; it begins again full."""


class RateLimiter(Generic[OwnerT]):
    """See the module's docstring.

    Args:
        per_minute: how often each may do it on average; also how often at once after a pause.
        owners_max: how many buckets are remembered.
    """

    def __init__(self, per_minute: int, owners_max: int = OWNERS_MAX) -> None:
        self._per_minute = per_minute
        self._owners_max = owners_max
        self._buckets: OrderedDict[OwnerT, tuple[float, float]] = OrderedDict()

    def take(self, owner: OwnerT, now_s: float) -> bool:
        """Take a token; False if there is none left.

        Args:
            owner: from whose bucket.
            now_s: the time in seconds, by a clock that never goes back.
        """
        left, then_s = self._buckets.pop(owner, (float(self._per_minute), now_s))
        left = min(left + (now_s - then_s) * self._per_minute / 60, self._per_minute)
        allowed = left >= 1
        self._buckets[owner] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > self._owners_max:
            self._buckets.popitem(last=False)
        return allowed
