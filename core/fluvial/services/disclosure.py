"""What a peer tells of itself to those who run scripts on it: who may ask about its neighbours and its services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from fluvial.effectors import Call
from fluvial.errors import ServiceError
from fluvial.identity import PeerId
from fluvial.services.status import Status

Audience: TypeAlias = Literal["nobody", "trusted", "everybody"]
"""Who besides the peer itself: nobody, those to whom the authorization gives weight, or everybody."""

TELLS: Final = {
    "nobody": "nobody else",
    "trusted": "only those who are trusted here",
    "everybody": "everybody",
}


class Disclosure:
    """The owner's choice.

    Args:
        peer: this peer, which may ask everything.
        to: who else may.
        weight: how much an initiator counts for the authorization.
    """

    def __init__(self, peer: PeerId, to: Audience, weight: Callable[[PeerId], int]) -> None:
        self._peer: Final = peer
        self._to: Final = to
        self._weight = weight

    def allows(self, initiator: PeerId) -> bool:
        """Whether the initiator of a particle may ask."""
        if initiator == self._peer or self._to == "everybody":
            return True
        return self._to == "trusted" and self._weight(initiator) > 0

    def check(self, call: Call, about: str) -> None:
        """Refuse a call of somebody who may not ask.

        Args:
            call: the call.
            about: what it asks for, as in "about its neighbours".

        Raises:
            ServiceError: status 8.
        """
        if not self.allows(call.initiator):
            raise ServiceError(
                Status.NOT_ALLOWED,
                f"peer {self._peer} does not tell {call.initiator} about its {about}; its owner tells {TELLS[self._to]}",
            )
