"""Keeps the actors of the particles that are alive on this peer: makes them, restores them from the store, and drops them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
from prometheus_client import CollectorRegistry, Gauge

from fluvial.air.data.content import ContentId
from fluvial.air.syntax import Script
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, StorageError
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Actor
from fluvial.particles.containment import contained
from fluvial.particles.context import ActorContext
from fluvial.particles.limits import DiskLimits, ParticleLimits
from fluvial.particles.processor import BYTES_ON_LOOP
from fluvial.particles.quota import kept_bytes
from fluvial.particles.scripts import Scripts, parse_script
from fluvial.particles.session import Parcel, ParticleSession
from fluvial.storage.purge import Purge
from fluvial.stored import StoredParticle

SHRUNK_MAX: Final = 16
"""Particles that are shrunk in one sweep."""

TOLD_STEPS_MAX: Final = 5_000
TOLD_BYTES_MAX: Final = 4 * 2**20
"""Steps and journal of a particle whose story is told when it is shrunk: of others only that they were here."""

SWEEP_S: Final = 1.0
"""How often particles that have died are removed from memory, those that a failing store stopped go on, and promises are looked at."""


class _Door:
    """Whoever wants to open a particle goes through its door, one after another.

    Attributes:
        guests: how many are in it or before it; without any it is forgotten.
    """

    __slots__ = ("guests", "lock")

    def __init__(self) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.guests = 0


class Keeper:
    """See the module's docstring.

    Args:
        context: what actors work with.
        limits: how many particles may be in memory.
        disk: how long, and how many bytes of, particles stay in the store for inspection. What keeps them from being run again stays longer if
            need be: until a replay of them would be refused because of its age.
        condense: makes of a large particle that has ended what is kept of it in place of its journal, with or without its events; runs in a
            thread.
        metrics: gets ``fluvial_particles_in_memory``.
    """

    def __init__(
        self,
        context: ActorContext,
        limits: ParticleLimits,
        disk: DiskLimits,
        *,
        condense: Callable[[StoredParticle, bool], bytes],
        metrics: CollectorRegistry,
    ) -> None:
        self._context = context
        self._limits = limits
        self._disk = disk
        self._condense = condense
        self._scripts = Scripts()
        self._actors: OrderedDict[ParticleKey, Actor] = OrderedDict()
        self._stopped: dict[ParticleKey, None] = {}  # in the order in which they are to be taken up
        self._doors: dict[ParticleKey, _Door] = {}
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
            here = particle.key in self._actors or self._context.store.knows(particle)
            actor = await self._open(particle.key) if here else None
            if actor is None and here and await self._context.store.is_spent(particle.key):
                raise _finished()
            if actor is None:
                script, me = await self._script(particle), self._context.keys.peer_id
                self._make_room()
                most = self._limits.destinations_max
                session = ParticleSession.new(particle, script, me, sender=sender, hops=hops, destinations_max=most)
                return self._keep(session)
            if actor.finished:
                raise _finished()
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
        """A peer asks for values that it lacks; if none are named, it gets everything the next time."""
        if (actor := self._actors.get(key)) is not None:
            actor.lacks(to, contents)

    # --- life

    async def resume(self) -> None:
        """After a restart: go on with every particle that is alive, asking again for calls whose outcome was not recorded.

        Raises:
            StorageError: the store cannot be read or written.
        """
        await self._context.store.remember(self._context.clock.now_ms(), skew_ms=self._limits.clock_skew_ms_max)
        self._stopped = dict.fromkeys(await self._context.store.live(self._context.clock.now_ms()))
        await self._take_up()

    async def sweep(self) -> None:
        """Until cancelled: drop what has died, go on with what was stopped, send on what others should have sent.

        A failing store is logged, and all of it is tried again with the next sweep.
        """
        while True:
            await anyio.sleep(SWEEP_S)
            self._drop_dead()
            try:
                await self._take_up()
                await self._context.resender.sweep(self.find)
            except StorageError as error:
                self._context.log.error("storage_failed", error=error.message)

    def _drop_dead(self) -> None:
        now_ms = self._context.clock.now_ms()
        for actor in [actor for actor in self._actors.values() if actor.particle.deadline_ms <= now_ms]:
            if not actor.finished:
                self._context.log.info("particle_expired", particle=actor.particle.id)
            self._drop(actor)

    async def purge(self) -> None:
        """Until cancelled: remove from the store particles that died long ago, or have ended and there is no room for."""
        await Purge(
            self._context.store.retention,
            now_ms=self._context.clock.now_ms,
            keep_ms=self._disk.keep_ms,
            keep_bytes=kept_bytes(self._disk),
            skew_ms=self._limits.clock_skew_ms_max,
            log=self._context.log,
        ).run()

    async def shrink(self) -> None:
        """Until cancelled: put the stories of large particles that have ended in the place of their journals."""
        retention = self._context.store.retention
        while True:
            await anyio.sleep(SWEEP_S)
            own = self._context.keys.public_key
            for key in retention.to_shrink(self._context.clock.now_ms(), SHRUNK_MAX, own):
                try:
                    await self._shrink(key)
                except StorageError as error:
                    self._context.log.error("storage_failed", error=error.message)
                    break
                except FluvialError:  # its script or journal cannot be read any more: it stays as it is, until it goes
                    retention.leave(key)

    async def _shrink(self, key: ParticleKey) -> None:
        store, now_ms = self._context.store, self._context.clock.now_ms()
        async with self._door(key):
            if (stored := await store.load(key)) is None:
                store.retention.leave(key)
                return
            told = sum(len(entry.payload) for entry in stored.journal) <= TOLD_BYTES_MAX
            told = told and await self._steps(stored) <= TOLD_STEPS_MAX
            story = await self._context.processor.off_loop(
                stored.particle.initiator, lambda: self._condense(stored, told)
            )
            done = await store.retention.shrink(key, story, now_ms, skew_ms=self._limits.clock_skew_ms_max)
            if done and (actor := self._actors.get(key)) is not None:
                self._drop(actor)

    async def _steps(self, stored: StoredParticle) -> int:
        """How many steps the machine of a particle makes; found out in slices."""
        if (actor := self._actors.get(stored.particle.key)) is not None:
            return actor.steps
        script = await self._script(stored.particle)
        restoring = ParticleSession.restoring(stored, script, self._context.keys.peer_id)
        return (await self._context.processor.finish(stored.particle.initiator, restoring.advance)).steps

    async def _take_up(self) -> None:
        """Go on with the particles that a restart or a failing store has stopped; raises StorageError with the rest left for later."""
        for key in tuple(self._stopped):
            try:
                await self._go_on(key)
            except StorageError:
                raise
            except FluvialError as error:  # no room, say
                self._context.log.warning("particle_not_resumed", key=key.hex(), error=error.message)
            else:
                self._stopped.pop(key, None)

    async def _go_on(self, key: ParticleKey) -> None:
        """Do what is left to do for a particle: its run, its calls, its deliveries."""
        async with self._door(key):
            stored = await self._context.store.load(key)
            if stored is None or stored.particle.deadline_ms <= self._context.clock.now_ms():
                return
            actor = self._actors.get(key) or await self._restore(stored)
        self._context.outbox.put(stored.outbox, stored.particle)
        await actor.begin()
        self._context.log.info("particle_resumed", particle=stored.particle.id)

    def _broken(self, actor: Actor, error: BaseException) -> None:
        self._drop(actor)
        if isinstance(error, Refused) and not actor.stored:
            return  # whoever handed it over is told
        if isinstance(error, StorageError):
            self._stopped[actor.particle.key] = None
        elif isinstance(error, FluvialError) and not isinstance(error, RemoteProtocolError):
            self._context.reporter.broken(actor.particle, error)

    # --- memory

    @asynccontextmanager
    async def _door(self, key: ParticleKey) -> AsyncIterator[None]:
        """A particle is never opened twice at once."""
        door = self._doors.setdefault(key, _Door())
        door.guests += 1
        try:
            async with door.lock:
                yield
        finally:
            door.guests -= 1
            if not door.guests:
                del self._doors[key]

    async def _open(self, key: ParticleKey) -> Actor | None:
        """The actor from memory or from the store; the caller holds the particle's door."""
        if (actor := self._actors.get(key)) is not None:
            self._actors.move_to_end(key)
            return actor
        stored = await self._context.store.load(key)
        return None if stored is None else await self._restore(stored)

    async def _restore(self, stored: StoredParticle) -> Actor:
        particle, me = stored.particle, self._context.keys.peer_id
        try:
            with contained(self._context.log.bind(particle=particle.id)):
                script = await self._script(particle)
                most = self._limits.destinations_max
                restoring = ParticleSession.restoring(stored, script, me, destinations_max=most)
                session = await self._context.processor.finish(particle.initiator, restoring.advance)
        except RemoteProtocolError as error:  # whoever hands the particle over is not to blame
            damaged = Refused(f"the particle's journal here is damaged: {error.message}", reason="broken")
            self._context.reporter.broken(particle, damaged)
            raise damaged from error
        except Refused as error:
            self._context.reporter.broken(particle, error)
            raise
        self._make_room()
        return self._keep(session)

    async def _script(self, particle: Particle) -> Script:
        """The parsed script; raises Refused, ``script``, if it does not parse."""
        if (script := self._scripts.cached(particle)) is not None:
            return script
        if len(particle.script) <= BYTES_ON_LOOP:
            return self._scripts.keep(particle, parse_script(particle))
        script = await self._context.processor.off_loop(particle.initiator, lambda: parse_script(particle))
        return self._scripts.keep(particle, script)

    def _keep(self, session: ParticleSession) -> Actor:
        actor = Actor(session, self._context, on_broken=self._broken)
        self._actors[actor.particle.key] = actor
        return actor

    def _make_room(self) -> None:
        """If memory is full, drop the idle actor that was unused for the longest time; it is restored when it is needed."""
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


def _finished() -> Refused:
    return Refused("the particle is finished on this peer", reason="replay")
