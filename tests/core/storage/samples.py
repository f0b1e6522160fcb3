"""Particles for tests: small, signed, and the same in every run."""

from __future__ import annotations

from typing import Final

from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle

NOW_MS: Final = 1_700_000_000_000
TTL_MS: Final = 10_000


def keys(number: int) -> KeyPair:
    """The key pair with this number."""
    return KeyPair.from_secret(number.to_bytes(32, "big"))


def peer(number: int) -> PeerId:
    """The peer with this number."""
    return keys(number).peer_id


def make_particle(particle_id: str, *, script: str = "(null)", timestamp_ms: int = NOW_MS) -> Particle:
    """A particle of peer 1 that lives for TTL_MS."""
    return Particle.create(
        keys(1),
        script,
        particle_id=particle_id,
        timestamp_ms=timestamp_ms,
        ttl_ms=TTL_MS,
        max_hops=20,
        network="test",
    )
