"""How often peers may cause something: a token bucket for each peer, in a bounded table; pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial.identity import PeerId

PEERS_MAX: Final = 4_096
"""Peers whose buckets are remembered. The one that was unused for the longest time is forgotten first; it begins again with a full bucket."""


class RateLimiter:
    """A token bucket for each peer.

    Args:
        per_minute: how often each peer may do it on average; also how often at once after a pause.
        peers_max: how many peers are remembered.
    """

    def __init__(self, per_minute: int, peers_max: int = PEERS_MAX) -> None:
        self._per_minute = per_minute
        self._peers_max = peers_max
        self._buckets: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()

    def take(self, peer: PeerId, now_s: float) -> bool:
        """Take a token of a peer; False if it has none left.

        Args:
            peer: who causes something.
            now_s: the time in seconds, by a clock that never goes back.
        """
        left, then_s = self._buckets.pop(peer, (float(self._per_minute), now_s))
        left = min(left + (now_s - then_s) * self._per_minute / 60, self._per_minute)
        allowed = left >= 1
        self._buckets[peer] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > self._peers_max:
            self._buckets.popitem(last=False)
        return allowed
