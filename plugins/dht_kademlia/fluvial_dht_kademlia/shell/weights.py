"""The weights of peers, remembered as long as the authorization's answers cannot have changed."""

from __future__ import annotations

from typing import Final

from fluvial.identity import PeerId
from fluvial.ports import Trust

REMEMBERED_MAX: Final = 16_384


class WeightCache:
    """See the module's docstring.

    Args:
        trust: the port.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust: Final = trust
        self._weights: dict[PeerId, int] = {}
        self._version = -1

    def version(self) -> int:
        """Changes whenever a weight may have changed, as far as was looked."""
        return self._version

    def refresh(self) -> None:
        """Forget what may have changed; called before each step of the machine."""
        version = self._trust.version
        if version != self._version:
            self._version = version
            self._weights.clear()

    def weigh(self, peer: PeerId) -> int:
        """The weight of a peer now."""
        weight = self._weights.get(peer)
        if weight is None:
            if len(self._weights) >= REMEMBERED_MAX:
                self._weights.clear()
            weight = self._weights[peer] = self._trust.weight(peer)
        return weight
