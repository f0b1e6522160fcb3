"""The actors that are in memory, and who pays for each."""

from __future__ import annotations

from itertools import islice
from typing import Final

from fluvial.fairness import Payer
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Actor

LOOKED_AT_MAX: Final = 64
"""Machines of one payer among which the heaviest is looked for."""


class PresentActors:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._by_key: dict[ParticleKey, Actor] = {}
        self._by_payer: dict[Payer, dict[ParticleKey, Actor]] = {}

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
        self._by_payer.setdefault(actor.payer, {})[particle.key] = actor

    def remove(self, actor: Actor) -> bool:
        """An actor has left the memory; False if it, or another one of its particle, was not there."""
        key, payer = actor.particle.key, actor.payer
        if self._by_key.get(key) is not actor:
            return False
        del self._by_key[key]
        of_payer = self._by_payer[payer]
        del of_payer[key]
        if not of_payer:
            del self._by_payer[payer]
        return True

    def heavy(self, payer: Payer) -> Actor | None:
        """One of the heaviest for which somebody pays, if it is only waiting for services; the next look finds others."""
        found: Actor | None = None
        of_payer = self._by_payer.get(payer, {})
        for actor in list(islice(of_payer.values(), LOOKED_AT_MAX)):
            if not actor.waiting:
                of_payer[actor.particle.key] = of_payer.pop(actor.particle.key)  # to the end
            elif found is None or actor.held > found.held:
                found = actor
        return found
