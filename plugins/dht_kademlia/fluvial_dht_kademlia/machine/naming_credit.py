"""What it is worth to ask whom a peer names: one that names peers which do not answer loses its credit, and is not listened to for a while.

Names are free. A liar can name sixty peers in each answer, none of which is there, each nearer than the last; without a memory of that every lookup
would ask them until its requests are used up, and learn nothing. So it counts what became of those that a peer has named, over all lookups::

    named one answers      + ANSWERED, up to FULL
    named one fails        - 1, down to - FULL
    time                   + 1 each EACH_MS, up to FULL

Above zero the peer is listened to. An honest one is as long as a third of those that it names answers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from fluvial.identity import PeerId

FULL: Final = 16
"""Credit of a peer of which nothing is known, and the most that one can have."""
ANSWERED: Final = 2
EACH_MS: Final = 2_000
REMEMBERED_MAX: Final = 4_096
"""Peers whose credit is remembered; the one that was heard of longest ago is forgotten."""


class NamingCredit:
    """See the module's docstring. Times are in milliseconds; the clock may be set back, which gains nobody anything."""

    def __init__(self) -> None:
        self._now = 0
        self._left: OrderedDict[PeerId, tuple[float, int]] = OrderedDict()  # credit, when

    def advance(self, now: int) -> None:
        """It is now."""
        self._now = now

    def good(self, namer: PeerId) -> bool:
        """Whether those are worth asking that this peer names."""
        return self._of(namer) > 0

    def answered(self, namers: Iterable[PeerId]) -> None:
        """A peer has answered that these have named."""
        for namer in namers:
            self._set(namer, self._of(namer) + ANSWERED)

    def failed(self, namers: Iterable[PeerId]) -> None:
        """A peer has not answered that these have named."""
        for namer in namers:
            self._set(namer, self._of(namer) - 1)

    def _of(self, namer: PeerId) -> float:
        known = self._left.get(namer)
        if known is None:
            return FULL
        credit, at = known
        return min(FULL, credit + max(0, self._now - at) / EACH_MS)

    def _set(self, namer: PeerId, credit: float) -> None:
        self._left[namer] = (max(-FULL, min(FULL, credit)), self._now)
        self._left.move_to_end(namer)
        if len(self._left) > REMEMBERED_MAX:
            self._left.popitem(last=False)
