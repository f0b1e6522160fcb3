"""Who goes first when there is not enough for all: peers compared by how much this peer has to do with them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

from fluvial.identity import PeerId

FORGET_AFTER_S: Final = 86_400.0
"""A peer that was not seen for a day is a stranger again."""
FORGET_EVERY_S: Final = 60.0
"""Minimum gap between two looks for peers to forget."""


class Rank(IntEnum):
    """Classes of peers, the least first."""

    STRANGER = 0  # a key that this peer has had nothing to do with; anybody can make as many as they like
    KNOWN = 1  # messages were exchanged with it before: clients of this relay, partners of flows
    TRUSTED = 2  # the authorization gives it weight
    KEPT = 3  # this node stays connected to it on purpose


class Standing(NamedTuple):
    """A peer's place in the order, compared field by field: the greater one stays.

    Attributes:
        rank: its class.
        weight: what the authorization says.
        seniority_s: seconds since the first exchange with it, 0 for a stranger. Of two peers that are alike in all else the one
            that was here first stays, so a crowd of fresh keys never displaces who was here before it.
    """

    rank: Rank
    weight: int
    seniority_s: float


STRANGER: Final = Standing(Rank.STRANGER, 0, 0.0)


class Acquaintances:
    """Remembers with whom messages were exchanged and since when.

    When it is full, whoever is new is not remembered: those that were there before stay, until they have not been seen for a day.

    Args:
        most: how many are remembered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: dict[PeerId, tuple[float, float]] = {}  # first, last
        self._forgot_at = float("-inf")

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, peer: PeerId, now: float) -> None:
        """Messages were exchanged with this peer by now."""
        if (seen := self._seen.get(peer)) is not None:
            self._seen[peer] = (seen[0], now)
            return
        if len(self._seen) >= self._most:
            self._forget(now)
        if len(self._seen) < self._most:
            self._seen[peer] = (now, now)

    def seniority_s(self, peer: PeerId, now: float) -> float | None:
        """Seconds since the first exchange; None for a stranger."""
        seen = self._seen.get(peer)
        return None if seen is None else now - seen[0]

    def _forget(self, now: float) -> None:
        if now - self._forgot_at >= FORGET_EVERY_S:
            self._forgot_at = now
            self._seen = {peer: seen for peer, seen in self._seen.items() if now - seen[1] < FORGET_AFTER_S}
