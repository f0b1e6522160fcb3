"""Authorization ``signatures``: whoever signed a particle is who began it; everything else is allowed."""

from __future__ import annotations

from fluvial.effectors import Call, NoConfig
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.seats import ALLOWED, Decision, Surroundings


class SignatureAuthorization:
    """Admits every particle that carries its initiator's signature, and permits every call."""

    def __init__(self, surroundings: Surroundings, options: NoConfig) -> None:
        """Needs nothing of its surroundings and has no options."""

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        """Whether the header's signature is the initiator's."""
        if particle.signed_by_initiator():
            return ALLOWED
        return Decision(
            False, "signature", f"the signature of particle {particle.id!r} is not that of {particle.initiator}"
        )

    async def permit(self, call: Call) -> Decision:
        """Always."""
        return ALLOWED
