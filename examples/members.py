"""Authorization ``members``: serves the particles of listed peers, and lets nobody but this peer call ``run-console``."""

from typing import Annotated

import msgspec
from fluvial import hookimpl
from fluvial.effectors import Call
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.particle import Particle
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Authorization, Decision, Json


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[authorization]`` next to ``kind = "members"``."""

    peers: Annotated[tuple[str, ...], msgspec.Meta(description="whose particles are served, next to this peer's own")]

    def __post_init__(self) -> None:
        """Refuse what is no peer id; the error names the key."""
        for text in self.peers:
            PeerId.parse(text)


class Members(Authorization):
    """Takes the seat."""

    def __init__(self, context: Context, options: Options) -> None:
        self._me = context.keys.peer_id
        self._members = {self._me, *options.peers}

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        """Whether the particle is a member's; that it is its initiator's was proven before."""
        if particle.initiator not in self._members:
            return Decision(False, "stranger", f"{particle.initiator} is no member here")
        return ALLOWED

    async def permit(self, call: Call, policy: Json | None) -> Decision:
        """Whether the call may be made: the console is this peer's own."""
        if call.service == "run-console" and call.initiator != self._me:
            return Decision(False, "console", "only the peer itself may print")
        return ALLOWED


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the authorization."""
    registry.authorization("members", Members, options=Options)
