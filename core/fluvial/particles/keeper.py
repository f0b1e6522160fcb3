"""Keeps the particles that are alive on this peer: begins, restores, evicts and buries them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import anyio
from prometheus_client import CollectorRegistry, Gauge

from fluvial.air.data.content import ContentId
from fluvial.air.data.log import Record
from fluvial.air.machine.machine import Machine
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, StorageError
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Actor, Parcel, Surroundings
from fluvial.particles.containment import contained
from fluvial.particles.inspection import Limits
from fluvial.particles.journal import hops_of, notices_of, resent_of, timed_records_of
from fluvial.particles.promises import Promises
from fluvial.particles.scripts import Scripts
from fluvial.storage.particle_rows import ParticleState, StoredParticle
from fluvial.storage.purge import Purge

SWEEP_S: Final = 1.0
"""How often memory is rid of what has died, particles that a failing store has stopped are taken up again, and promises are looked at."""
OPENED_AT_ONCE: Final = 64
"""Particles that are looked up in the store at the same time; a particle is never opened twice at once."""


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
        self._stopped: dict[ParticleKey, None] = {}  # in the order in which they are to be taken up
        self._opening = tuple(anyio.Lock(fast_acquire=True) for _ in range(OPENED_AT_ONCE))
        gauge = Gauge("fluvial_particles_in_memory", "Particles whose state is in memory", registry=metrics)
        gauge.set_function(lambda: len(self._actors))

    # --- getting at a particle

    async def admit(self, particle: Particle, *, sender: PeerId, hops: int) -> Actor:
        """The actor of a particle that was inspected and authorized; its first run makes it durable.

        Raises:
            Refused: ``replay``, it is finished here; ``script``, it does not parse; ``busy``, too many are alive.
            StorageError: the store could not be read.
        """
        async with self._door(particle.key):
            here = particle.key in self._actors or self._around.store.knows(particle)
            actor = await self._open(particle.key) if here else None
            if actor is None:
                self._make_room()
                machine = self._machine(particle)
                return self._keep(
                    Actor(particle, machine, self._around, sender=sender, hops=hops, on_broken=self._broken)
                )
            if actor.finished:
                raise Refused("the particle is finished on this peer", reason="replay")
            return actor

    async def find(self, key: ParticleKey) -> Actor | None:
        """The actor of a particle that was admitted before; None if it is gone."""
        async with self._door(key):
            return await self._open(key)

    async def parcel(self, key: ParticleKey, to: PeerId) -> Parcel | None:
        """What to hand to a peer now; None if the particle is gone."""
        actor = await self.find(key)
        return None if actor is None else await actor.parcel(to)

    def handed_over(self, key: ParticleKey, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        if (actor := self._actors.get(key)) is not None:
            actor.handed_over(to, parcel)

    def lacks(self, key: ParticleKey, to: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer could not take a parcel in: it lacks these values, or if none are named something that it was thought to have."""
        if (actor := self._actors.get(key)) is not None:
            actor.lacks(to, contents)

    # --- life

    async def resume(self) -> None:
        """After a restart: go on with every particle that is alive, asking again for calls whose outcome was not recorded.

        Raises:
            StorageError: the store cannot be read or written.
        """
        await self._around.store.remember(self._around.clock.now_ms(), skew_ms=self._limits.clock_skew_ms_max)
        self._stopped = dict.fromkeys(await self._around.store.live(self._around.clock.now_ms()))
        await self._take_up()

    async def sweep(self) -> None:
        """Bury what has died, take up what was stopped, and send on what others should have sent, for ever; a failing store only puts that off."""
        while True:
            await anyio.sleep(SWEEP_S)
            self._bury()
            try:
                await self._take_up()
                await self._around.resender.sweep(self.find)
            except StorageError as error:
                self._around.log.error("storage_failed", error=error.message)

    def _bury(self) -> None:
        now_ms = self._around.clock.now_ms()
        for actor in [actor for actor in self._actors.values() if actor.particle.deadline_ms <= now_ms]:
            if not actor.finished:
                self._around.log.info("particle_expired", particle=actor.particle.id)
            self._drop(actor)

    async def purge(self) -> None:
        """Rid the store of what died long ago, for ever."""
        await Purge(
            self._around.store,
            now_ms=self._around.clock.now_ms,
            keep_ms=self._keep_ms,
            skew_ms=self._limits.clock_skew_ms_max,
            log=self._around.log,
        ).run()

    async def _take_up(self) -> None:
        """Go on with the particles that a restart or a failing store has stopped; if the store fails, with the rest another time."""
        for key in tuple(self._stopped):
            try:
                await self._go_on(key)
            except StorageError:
                raise
            except FluvialError as error:  # no room, say
                self._around.log.warning("particle_not_resumed", key=key.hex(), error=error.message)
            else:
                self._stopped.pop(key, None)

    async def _go_on(self, key: ParticleKey) -> None:
        """Do whatever is left to do for a particle, as far as the store knows it."""
        async with self._door(key):
            stored = await self._around.store.load(key)
            if stored is None or stored.particle.deadline_ms <= self._around.clock.now_ms():
                return
            actor = self._actors.get(key) or self._restore(stored)
        self._around.outbox.put(stored.outbox)
        await actor.begin()
        self._around.log.info("particle_resumed", particle=stored.particle.id)

    def _broken(self, actor: Actor, error: BaseException) -> None:
        self._drop(actor)
        if isinstance(error, StorageError):
            self._stopped[actor.particle.key] = None
        elif isinstance(error, FluvialError) and not isinstance(error, RemoteProtocolError):
            self._around.reporter.broken(actor.particle, error)

    # --- memory

    def _door(self, key: ParticleKey) -> anyio.Lock:
        return self._opening[key[0] % OPENED_AT_ONCE]

    async def _open(self, key: ParticleKey) -> Actor | None:
        """From memory or from the store; behind the particle's door."""
        if (actor := self._actors.get(key)) is not None:
            self._actors.move_to_end(key)
            return actor
        stored = await self._around.store.load(key)
        return None if stored is None else self._restore(stored)

    def _restore(self, stored: StoredParticle) -> Actor:
        self._make_room()
        particle = stored.particle
        try:
            with contained(self._around.log.bind(particle=particle.id)):
                timed = list(timed_records_of(stored.journal))
                actor = Actor(
                    particle,
                    self._machine(particle, [record for _, record in timed]),
                    self._around,
                    sender=stored.sender,
                    entries=len(stored.journal),
                    hops=max(stored.hops, hops_of(stored.journal)),
                    notices=notices_of(stored.journal),
                    promises=self._promises(stored, timed),
                    on_broken=self._broken,
                )
        except RemoteProtocolError as error:  # nobody's fault who hands it over
            damaged = Refused(f"the particle's journal here is damaged: {error.message}", reason="broken")
            self._around.reporter.broken(particle, damaged)
            raise damaged from error
        except Refused as error:
            self._around.reporter.broken(particle, error)
            raise
        actor.finished = stored.state is ParticleState.FINISHED
        return self._keep(actor)

    def _promises(self, stored: StoredParticle, timed: Sequence[tuple[int, Record]]) -> Promises:
        promises = Promises(self._around.keys.peer_id, stored.particle.initiator)
        for at_ms, record in timed:
            promises.record((record,), at_ms)
        for at_ms, resent in resent_of(stored.journal):
            promises.resent(PeerId.from_public_key(resent.peer), at_ms)
        return promises

    def _machine(self, particle: Particle, records: Sequence[Record] | None = None) -> Machine:
        """A new machine, or the one that these records lead to."""
        script, me, header = self._scripts.of(particle), self._around.keys.peer_id, particle.header
        if records is None:
            return Machine(
                script,
                particle.key,
                me,
                initiator=particle.initiator,
                timestamp_ms=header.timestamp_ms,
                ttl_ms=header.ttl_ms,
            )
        return Machine.restore(
            script,
            particle.key,
            me,
            records,
            initiator=particle.initiator,
            timestamp_ms=header.timestamp_ms,
            ttl_ms=header.ttl_ms,
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
