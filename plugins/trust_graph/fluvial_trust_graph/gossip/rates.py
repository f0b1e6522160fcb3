"""How much each sender may hand over: a bucket of tokens for each, and few remembered senders."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fluvial.identity import PeerId

SENDERS_MAX: Final = 4_096
"""Senders that are remembered; the one that was heard of longest ago is forgotten first."""


class SenderRates:
    """Tokens by sender; pure.

    Args:
        per_s: tokens that a sender gets in a second.
        burst: the most that it can have.
        strangers_per_s: tokens that all senders whose bucket is new share in a second, so that fresh keys bring no fresh tokens.
    """

    def __init__(self, *, per_s: float, burst: int, strangers_per_s: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._strangers_per_s = strangers_per_s
        self._buckets: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()
        self._shared = (float(burst), 0.0)

    def take(self, sender: PeerId, wanted: int, now_s: float, *, weight: int = 0) -> int:
        """Take as many tokens as there are, at most ``wanted``; returns how many.

        Args:
            sender: who hands over.
            wanted: how many statements.
            now_s: the time, seconds.
            weight: of the sender; one without takes from the bucket of all strangers as well.
        """
        tokens, since = self._buckets.get(sender, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - since) * self._per_s)
        granted = min(wanted, int(tokens))
        if not weight:
            left, at = self._shared
            left = min(self._burst, left + (now_s - at) * self._strangers_per_s)
            granted = min(granted, int(left))
            self._shared = (left - granted, now_s)
        self._buckets[sender] = (tokens - granted, now_s)
        self._buckets.move_to_end(sender)
        if len(self._buckets) > SENDERS_MAX:
            self._buckets.popitem(last=False)
        return granted
