"""How often peers may cause something: a token bucket for each of them, in a bounded table; pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial.identity import PeerId

PEERS_MAX: Final = 4_096
"""Peers whose buckets are remembered; the one longest unused goes first, and begins with a full bucket should it come again."""


class Allowance:
    """See the module's docstring.

    Args:
        per_minute: how often each peer may, on average; so many at once after a pause.
        peers_max: how many peers are remembered.
    """

    def __init__(self, per_minute: int, peers_max: int = PEERS_MAX) -> None:
        self._per_minute = per_minute
        self._peers_max = peers_max
        self._buckets: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()

    def take(self, peer: PeerId, now_s: float) -> bool:
        """Whether a peer may once more at this time, in seconds of a clock that never goes back."""
        left, then_s = self._buckets.pop(peer, (float(self._per_minute), now_s))
        left = min(left + (now_s - then_s) * self._per_minute / 60, self._per_minute)
        allowed = left >= 1
        self._buckets[peer] = (left - 1 if allowed else left, now_s)
        if len(self._buckets) > self._peers_max:
            self._buckets.popitem(last=False)
        return allowed
