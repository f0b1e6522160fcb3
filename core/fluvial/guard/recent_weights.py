"""What peers weigh, asked of the authorization once in a moment: shares of what is short ask for it several times for each particle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.identity import PeerId
from fluvial.waiting import now_s

MOMENT_S: Final = 0.5
"""A weight that has changed counts after so long."""
REMEMBERED_MAX: Final = 4_096


class RecentWeights:
    """A function from peers to weights that remembers for a moment what it was told.

    Args:
        weight: of a peer, as the authorization says.
    """

    __slots__ = ("_until_s", "_weight", "_weights")

    def __init__(self, weight: Callable[[PeerId], int]) -> None:
        self._weight = weight
        self._weights: dict[PeerId, int] = {}
        self._until_s = 0.0

    def __call__(self, peer: PeerId) -> int:
        """The weight of a peer, from 0 on."""
        if (now := now_s()) >= self._until_s or len(self._weights) > REMEMBERED_MAX:
            self._weights = {}
            self._until_s = now + MOMENT_S
        found = self._weights.get(peer)
        if found is None:
            found = self._weights[peer] = self._weight(peer)
        return found
