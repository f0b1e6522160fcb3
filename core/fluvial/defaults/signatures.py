"""Authorization ``signatures``: relies on the node, which verifies the initiator's signature, and allows everything."""

from __future__ import annotations

from fluvial.effectors import Call, NoConfig
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Authorization, Decision, Json


class SignatureAuthorization(Authorization):
    """Admits every particle, permits every call, and gives no peer a weight."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        """Needs nothing of its context and has no options."""

    def admit(self, particle: Particle, sender: PeerId) -> Decision:
        """Always."""
        return ALLOWED

    def permit(self, call: Call, policy: Json | None) -> Decision:
        """Always."""
        return ALLOWED
