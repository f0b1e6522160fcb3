"""What it is worth to ask a peer, and to ask whom it names: by what came of that before, over all lookups.

Names are free. A liar can name sixty peers in each answer, none of which is there, each nearer than the last; without a memory of that every lookup
would ask them until its requests are used up, and learn nothing. And it can answer with noise, as long as a frame may be, and be in the table as
before with its next request. So a peer has two credits:

========== ======= ======================================= ============================= =========================
credit     full    lost                                    gained                        without it
========== ======= ======================================= ============================= =========================
naming     16      1 for each peer that it has named and   2 for each that answers, and  it is asked, and whom it
                   that fails                              1 in 2 s                      names is not
answering  4       1 for each answer that is none          1 in 30 s                     lookups do not ask it
========== ======= ======================================= ============================= =========================

An honest peer keeps the first as long as a third of those that it names answers. Silence costs nothing of the second: it is cheap, and no lie.
Good answers give nothing back of it: who never answers with noise has lost none.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec
from fluvial.identity import PeerId

REMEMBERED_MAX: Final = 4_096
"""Peers whose credit is remembered; the one that was heard of longest ago is forgotten."""


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """What a credit is made of.

    Attributes:
        full: what a peer has of which nothing is known, and the most that one can have; it can owe as much.
        gain: for what came out well; what did not costs 1.
        each_ms: in which time it gains 1 besides.
    """

    full: int
    gain: int
    each_ms: int


NAMING: Final = Tariff(full=16, gain=2, each_ms=2_000)
ANSWERING: Final = Tariff(full=4, gain=0, each_ms=30_000)


class PeerCredit:
    """The credit of each peer in one matter.

    Args:
        tariff: how it is lost and gained.
    """

    def __init__(self, tariff: Tariff) -> None:
        self._tariff: Final = tariff
        self._of: OrderedDict[PeerId, tuple[float, int]] = OrderedDict()  # how much, when

    def __len__(self) -> int:
        """How many peers have not all of it."""
        return len(self._of)

    def good(self, peer: PeerId, now: int) -> bool:
        """Whether a peer has any."""
        return self._left(peer, now) > 0

    def gained(self, peer: PeerId, now: int) -> None:
        """It came out well."""
        self._set(peer, self._left(peer, now) + self._tariff.gain, now)

    def lost(self, peer: PeerId, now: int) -> None:
        """It did not."""
        self._set(peer, self._left(peer, now) - 1, now)

    def _left(self, peer: PeerId, now: int) -> float:
        known = self._of.get(peer)
        if known is None:
            return self._tariff.full
        credit, at = known
        return min(self._tariff.full, credit + max(0, now - at) / self._tariff.each_ms)

    def _set(self, peer: PeerId, credit: float, now: int) -> None:
        full = self._tariff.full
        if credit >= full:  # as one of whom nothing is known
            self._of.pop(peer, None)
            return
        self._of[peer] = (max(-full, credit), now)
        self._of.move_to_end(peer)
        if len(self._of) > REMEMBERED_MAX:
            self._of.popitem(last=False)


class PeerStanding:
    """Both credits of all peers, at the time of the last :meth:`advance`, in milliseconds; a clock that is set back gains nobody anything."""

    def __init__(self) -> None:
        self._naming: Final = PeerCredit(NAMING)
        self._answering: Final = PeerCredit(ANSWERING)
        self._now = 0

    def advance(self, now: int) -> None:
        """It is now."""
        self._now = now

    @property
    def doubts(self) -> bool:
        """Whether there is anybody of whom something bad is known: else nobody need be looked at."""
        return bool(self._naming or self._answering)

    def may_name(self, peer: PeerId) -> bool:
        """Whether those are worth asking that a peer names."""
        return self._naming.good(peer, self._now)

    def named(self, namer: PeerId, *, answers: bool) -> None:
        """What became of one that a peer has named."""
        (self._naming.gained if answers else self._naming.lost)(namer, self._now)

    def may_answer(self, peer: PeerId) -> bool:
        """Whether a peer is worth asking."""
        return self._answering.good(peer, self._now)

    def noise(self, peer: PeerId) -> None:
        """A peer has given what is no answer to what it was asked."""
        self._answering.lost(peer, self._now)
