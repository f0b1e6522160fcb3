"""The actors that are in memory, and those of each initiator."""

from __future__ import annotations

from itertools import islice
from typing import Final

from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Actor

LOOKED_AT_MAX: Final = 64
"""Machines of one initiator among which the heaviest is looked for."""


class PresentActors:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._by_key: dict[ParticleKey, Actor] = {}
        self._by_initiator: dict[PeerId, dict[ParticleKey, Actor]] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: ParticleKey) -> Actor | None:
        """The actor of a particle; None if it is not in memory."""
        return self._by_key.get(key)

    def awaiting(self, key: ParticleKey, peer: PeerId) -> Particle | None:
        """A particle, if it is in memory and something in it waits for this peer."""
        actor = self._by_key.get(key)
        return actor.particle if actor is not None and actor.awaits(peer) else None

    def put(self, actor: Actor) -> None:
        """An actor has come into memory."""
        particle = actor.particle
        self._by_key[particle.key] = actor
        self._by_initiator.setdefault(particle.initiator, {})[particle.key] = actor

    def remove(self, actor: Actor) -> bool:
        """An actor has left the memory; False if it, or another one of its particle, was not there."""
        key, initiator = actor.particle.key, actor.particle.initiator
        if self._by_key.get(key) is not actor:
            return False
        del self._by_key[key]
        of_initiator = self._by_initiator[initiator]
        del of_initiator[key]
        if not of_initiator:
            del self._by_initiator[initiator]
        return True

    def heavy(self, initiator: PeerId) -> Actor | None:
        """One of the heaviest of an initiator, if it is only waiting for services; the next look finds others."""
        found: Actor | None = None
        of_initiator = self._by_initiator.get(initiator, {})
        for actor in list(islice(of_initiator.values(), LOOKED_AT_MAX)):
            if not actor.waiting:
                of_initiator[actor.particle.key] = of_initiator.pop(actor.particle.key)  # to the end
            elif found is None or actor.held > found.held:
                found = actor
        return found
