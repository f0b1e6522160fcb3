"""Authorization ``signatures``: whoever signed a particle is who began it, which the node verifies itself; everything is allowed."""

from __future__ import annotations

from fluvial.effectors import Call, NoConfig
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Authorization, Decision, Json


class SignatureAuthorization(Authorization):
    """Admits every particle, permits every call, and weighs nobody: all are strangers to it."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        """Needs nothing of its context and has no options."""

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        """Always."""
        return ALLOWED

    async def permit(self, call: Call, policy: Json | None) -> Decision:
        """Always."""
        return ALLOWED
