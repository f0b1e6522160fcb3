"""Which particles can leave the memory, and which of them leaves first."""

from __future__ import annotations

from collections import OrderedDict

from fluvial.fairness import Payer
from fluvial.particle import ParticleKey
from fluvial.particles.actor import Actor
from fluvial.particles.memory import BySize


class RestingActors:
    """The actors that were idle when they were last looked at.

    An actor that is at work again stays in here until it is taken out, or would have its turn to leave: then it turns out. So a turn of an
    actor costs the same however many there are.
    """

    def __init__(self) -> None:
        self._by_age: OrderedDict[ParticleKey, Actor] = OrderedDict()
        self._by_size: BySize[ParticleKey] = BySize()
        self._by_payer: dict[Payer, dict[ParticleKey, Actor]] = {}

    def __contains__(self, actor: Actor) -> bool:
        """Whether an actor is among them."""
        return actor.particle.key in self._by_age

    def put(self, actor: Actor, held: int) -> None:
        """An actor is idle, and holds so many bytes."""
        key = actor.particle.key
        self._by_age[key] = actor
        self._by_age.move_to_end(key)
        self._by_size.put(key, held)
        self._by_payer.setdefault(actor.payer, {})[key] = actor

    def remove(self, actor: Actor) -> None:
        """An actor has left the memory."""
        key, payer = actor.particle.key, actor.payer
        if self._by_age.pop(key, None) is None:
            return
        self._by_size.remove(key)
        of_payer = self._by_payer[payer]
        del of_payer[key]
        if not of_payer:
            del self._by_payer[payer]

    def longest(self) -> Actor | None:
        """The idle actor that was unused for the longest time; None if none is idle."""
        while self._by_age:
            actor = next(iter(self._by_age.values()))
            if actor.idle:
                return actor
            self.remove(actor)
        return None

    def of(self, payer: Payer) -> Actor | None:
        """An idle actor for which somebody pays, of those that came first; None if none is idle."""
        while of_payer := self._by_payer.get(payer):
            actor = next(iter(of_payer.values()))
            if actor.idle:
                return actor
            self.remove(actor)
        return None

    def heaviest(self) -> Actor | None:
        """One of the idle actors that hold most; None if none is idle."""
        while (key := self._by_size.largest()) is not None:
            actor = self._by_age[key]
            if actor.idle:
                return actor
            self.remove(actor)
        return None
