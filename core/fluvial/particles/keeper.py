"""Keeps the particles that are alive on this peer: begins, restores, evicts and buries them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import anyio
from prometheus_client import CollectorRegistry, Gauge

from fluvial.air.machine.machine import Machine
from fluvial.errors import FluvialError, Refused
from fluvial.identity import PeerId
from fluvial.particle import Delivery, Particle, ParticleKey
from fluvial.particles.actor import Actor, Surroundings
from fluvial.particles.inspection import Limits
from fluvial.particles.journal import records_of
from fluvial.particles.scripts import Scripts
from fluvial.storage.particle_rows import ParticleState, StoredParticle

SWEEP_S: Final = 1.0
PURGE_S: Final = 30.0
"""How often memory and store are rid of particles that are dead."""


class Keeper:
    """See the module's docstring.

    Args:
        around: what actors work with.
        limits: how many may be in memory.
        keep_ms: how long dead particles stay in the store for inspection, at least until a replay of them would be refused anyhow.
        metrics: gets ``fluvial_particles_in_memory``.
    """

    def __init__(self, around: Surroundings, limits: Limits, *, keep_ms: int, metrics: CollectorRegistry) -> None:
        self._around = around
        self._limits = limits
        self._keep_ms = keep_ms
        self._scripts = Scripts()
        self._actors: OrderedDict[ParticleKey, Actor] = OrderedDict()
        self._opening = anyio.Lock()
        gauge = Gauge("fluvial_particles_in_memory", "Particles whose state is in memory", registry=metrics)
        gauge.set_function(lambda: len(self._actors))

    # --- getting at a particle

    async def admit(self, particle: Particle, *, sender: PeerId, hops: int) -> Actor:
        """The actor of a particle that was inspected and authorized; its first run makes it durable.

        Raises:
            Refused: ``replay``, it is finished here; ``script``, it does not parse; ``busy``, too many are alive.
            StorageError: the store could not be read.
        """
        async with self._opening:
            if (actor := self._in_memory(particle.key)) is not None:
                if actor.finished:
                    raise Refused("the particle is finished on this peer", reason="replay")
                return actor
            if (stored := await self._around.store.load(particle.key)) is not None:
                if stored.state is ParticleState.FINISHED:
                    raise Refused("the particle is finished on this peer", reason="replay")
                return self._restore(stored)
            self._make_room()
            machine = self._machine(particle)
            return self._keep(Actor(particle, machine, self._around, sender=sender, hops=hops, on_broken=self._drop))

    async def find(self, key: ParticleKey) -> Actor | None:
        """The actor of a particle that was admitted before; None if it is gone."""
        async with self._opening:
            if (actor := self._in_memory(key)) is not None:
                return actor
            stored = await self._around.store.load(key)
            return None if stored is None else self._restore(stored)

    async def parcel(self, key: ParticleKey, to: PeerId) -> Delivery | None:
        """What to hand to a peer now; None if the particle is gone."""
        actor = await self.find(key)
        return None if actor is None else await actor.parcel(to)

    # --- life

    async def resume(self) -> None:
        """After a restart: go on with every particle that is alive, asking again for calls whose outcome was not recorded."""
        for key in await self._around.store.live(self._around.clock.now_ms()):
            try:
                if (actor := await self.find(key)) is not None:
                    await actor.begin()
            except FluvialError as error:
                self._around.log.error("particle_not_resumed", key=key.hex(), error=error.message)

    async def sweep(self) -> None:
        """Bury what has died, for ever."""
        purged = anyio.current_time()
        while True:
            await anyio.sleep(SWEEP_S)
            now_ms = self._around.clock.now_ms()
            for actor in [actor for actor in self._actors.values() if actor.particle.deadline_ms <= now_ms]:
                if not actor.finished:
                    self._around.log.info("particle_expired", particle=actor.particle.id)
                self._drop(actor)
            if anyio.current_time() - purged > PURGE_S:
                purged = anyio.current_time()
                skew_ms = self._limits.clock_skew_ms_max
                await self._around.store.purge(now_ms, keep_ms=self._keep_ms, skew_ms=skew_ms)

    # --- memory

    def _in_memory(self, key: ParticleKey) -> Actor | None:
        actor = self._actors.get(key)
        if actor is not None:
            self._actors.move_to_end(key)
        return actor

    def _restore(self, stored: StoredParticle) -> Actor:
        self._make_room()
        particle = stored.particle
        machine = Machine.restore(
            self._scripts.of(particle),
            particle.key,
            self._around.keys.peer_id,
            list(records_of(stored.journal)),
            initiator=particle.initiator,
            timestamp_ms=particle.header.timestamp_ms,
            ttl_ms=particle.header.ttl_ms,
        )
        actor = Actor(
            particle,
            machine,
            self._around,
            sender=stored.sender,
            entries=len(stored.journal),
            hops=stored.hops,
            on_broken=self._drop,
        )
        actor.finished = stored.state is ParticleState.FINISHED
        return self._keep(actor)

    def _machine(self, particle: Particle) -> Machine:
        return Machine(
            self._scripts.of(particle),
            particle.key,
            self._around.keys.peer_id,
            initiator=particle.initiator,
            timestamp_ms=particle.header.timestamp_ms,
            ttl_ms=particle.header.ttl_ms,
        )

    def _keep(self, actor: Actor) -> Actor:
        self._actors[actor.particle.key] = actor
        return actor

    def _make_room(self) -> None:
        """Evict the longest unused idle one if memory is full; it is restored from the store when it is needed."""
        if len(self._actors) < self._limits.live_max:
            return
        idle = next((actor for actor in self._actors.values() if actor.idle), None)
        if idle is None:
            raise Refused(f"{len(self._actors)} particles are being worked on, no more are allowed", reason="busy")
        self._drop(idle)

    def _drop(self, actor: Actor) -> None:
        if self._actors.get(actor.particle.key) is actor:
            del self._actors[actor.particle.key]
        actor.stop()
