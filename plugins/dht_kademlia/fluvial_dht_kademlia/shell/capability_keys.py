"""The keys of capabilities: which challenge stands for ``kind:name``.

If there is a kind of challenge of the capability's own kind (``relay``: only peers to which the client has given a lease may register), its body is the
name. Everything else has an open key.
"""

from __future__ import annotations

from fluvial.ports import Capability

from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds, open_challenge

BUILT_IN = frozenset({"open", "owned", "self"})
"""Kinds of challenges that are no kinds of capabilities."""


def challenge_of(capability: Capability, kinds: ChallengeKinds) -> Challenge:
    """The challenge of a capability."""
    if capability.kind not in BUILT_IN and capability.kind in kinds:
        return Challenge(capability.kind, capability.name.encode())
    return open_challenge(str(capability))
