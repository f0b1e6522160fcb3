"""Who may deploy: the peer itself, and those that its settings name. Closed by default; the peer's authorization is asked before, for every call."""

from __future__ import annotations

from collections.abc import Collection

from fluvial.effectors import Call
from fluvial.errors import ServiceError
from fluvial.identity import PeerId
from fluvial.services import Status

from fluvial_fce_wasm.tables import ServiceEntry


class Permissions:
    """The rules.

    Args:
        me: this peer.
        deployers: who else may deploy.

    Attributes:
        operator: who acts for the owner of the peer, with a key that the peer has made; set when the part starts.
    """

    def __init__(self, me: PeerId, deployers: Collection[str]) -> None:
        self.operator: PeerId | None = None
        self._me = me
        self._deployers = frozenset(deployers)

    def actor(self, call: Call) -> PeerId:
        """For whom the caller acts, who will own what is made: the operator acts for the peer."""
        return self._me if call.initiator == self.operator else call.initiator

    def require_self(self, call: Call) -> None:
        """Raises ServiceError 8 if it is not this peer that calls."""
        if self.actor(call) != self._me:
            raise _not_allowed(f"{call.function} is for the peer itself")

    def require_deployer(self, call: Call) -> None:
        """Raises ServiceError 8 if the caller may not deploy here."""
        if self.actor(call) != self._me and call.initiator not in self._deployers:
            raise _not_allowed(f"{call.initiator} may not deploy here: `deployers` of [execution] does not have it")

    def require_owner(self, call: Call, entry: ServiceEntry) -> None:
        """Raises ServiceError 8 if the service is not the caller's; the peer itself may change all."""
        if self.actor(call) not in (self._me, entry.owner):
            raise _not_allowed(f"the service {entry.id} belongs to {entry.owner}")


def _not_allowed(text: str) -> ServiceError:
    return ServiceError(Status.NOT_ALLOWED, text)
