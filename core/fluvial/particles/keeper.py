"""Keeps the actors of the particles that are alive on this peer: makes them, restores them from the store, and drops them.

A machine can be rebuilt from the journal, so memory can be had back: what is idle leaves first, the heaviest before the others. If that is
not enough, machines of whoever holds more than their part leave though they wait for services; they go on when there is room (``suspended``),
and ask those services again, as after a restart. What has finished or failed here leaves at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from logging import INFO
from typing import Any, Final, TypedDict

import anyio
import anyio.lowlevel
from prometheus_client import CollectorRegistry, Gauge

from fluvial.air.data.content import ContentId
from fluvial.air.machine.memory import MACHINE_BYTES
from fluvial.air.machine.slices import Clock
from fluvial.air.syntax import Script
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, StorageError
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Actor
from fluvial.particles.containment import Contained
from fluvial.particles.context import ActorContext
from fluvial.particles.deadlines import Deadlines
from fluvial.particles.doors import Doors
from fluvial.particles.journal import FlowFailed, failure_in
from fluvial.particles.limits import DiskLimits, ParticleLimits
from fluvial.particles.memory import MEMORY, MemoryBudget
from fluvial.particles.present import PresentActors
from fluvial.particles.quota import kept_bytes
from fluvial.particles.receipt import FAILED
from fluvial.particles.relief import MemoryRelief
from fluvial.particles.resting import RestingActors
from fluvial.particles.scripts import Scripts, analysed_script, is_parsed_at_once, parse_script, script_weight
from fluvial.particles.session import ParticleSession
from fluvial.particles.session_outputs import Parcel
from fluvial.particles.shrinking import Shrinker
from fluvial.particles.sliced import SlicedInput, at_once
from fluvial.particles.suspended import Suspended
from fluvial.particles.turns import LoopTurn, SlicedChores
from fluvial.storage.entries import ParticleGone
from fluvial.storage.purge import Purge
from fluvial.stored import ParticleState, StoredParticle

SWEEP_S: Final = 1.0
"""How often particles that have died or finished are removed from memory."""
OVER_MAX: Final = 4_096
"""Particles that ended here of which it is remembered how, so that a further copy costs nothing."""
RELEASED_AT_ONCE_MAX: Final = 65_536
"""Bytes of a machine that is taken apart at once: a third of a millisecond; larger ones are in slices, one after another."""


class _SessionLimits(TypedDict):
    """What bounds a session."""

    destinations_max: int
    memory_bytes_max: int


class Keeper:
    """See the module's docstring.

    Args:
        context: what actors work with.
        limits: how many particles may be in memory.
        disk: how long, and how many bytes of, particles stay in the store for inspection. What keeps them from being run again stays longer if
            need be: until a replay of them would be refused because of its age.
        budget: who holds how much memory.
        condense: makes of a large particle that has ended what is kept of it in place of its journal, with or without its events; runs in a
            thread.
        metrics: gets ``fluvial_particles_in_memory``, ``fluvial_particles_memory_bytes``, ``fluvial_particles_suspended`` and
            ``fluvial_particles_put_off_total``.
    """

    def __init__(
        self,
        context: ActorContext,
        limits: ParticleLimits,
        disk: DiskLimits,
        *,
        budget: MemoryBudget,
        condense: Callable[[StoredParticle, bool], bytes],
        metrics: CollectorRegistry,
    ) -> None:
        self._context = context
        self._limits = limits
        self._disk = disk
        self._condense = condense
        self._budget = budget
        self._scripts = Scripts(budget)
        self.present = self._actors = PresentActors()
        self._deadlines = Deadlines()
        self._resting = RestingActors()
        self._leaving: dict[ParticleKey, Actor] = {}
        self._over: OrderedDict[ParticleKey, tuple[str, str]] = OrderedDict()
        relief = MemoryRelief(
            budget,
            self._actors,
            self._resting,
            self._scripts,
            leave=self._leave,
            put_off=self._put_off,
            metrics=metrics,
        )
        self._suspended = Suspended(self._go_on, relief.has_room, context.is_connected, budget=budget, log=context.log)
        self._doors = Doors()
        self._releases = SlicedChores(context.tasks)
        gauge = Gauge("fluvial_particles_in_memory", "Particles whose state is in memory", registry=metrics)
        gauge.set_function(lambda: len(self._actors))
        held = Gauge("fluvial_particles_memory_bytes", "Memory that particles take, estimated", registry=metrics)
        held.set_function(lambda: budget.total)
        waiting = Gauge("fluvial_particles_suspended", "Particles that go on when there is room", registry=metrics)
        waiting.set_function(lambda: len(self._suspended))

    # --- getting at a particle

    async def admit(self, particle: Particle, *, upstream: Upstream, hops: int) -> Actor:
        """The actor of a particle that was inspected and authorized; its first run makes it durable.

        Raises:
            Refused: ``replay``, it is finished here; ``failed``, it has come to a limit here; ``script``, it does not parse; ``memory``,
                its initiator has more than its part; ``busy``, too many are alive.
            StorageError: the store could not be read.
        """
        script = self._scripts.parsed(particle)
        if script is not None and self._doors.is_free(particle.key) and not self.is_here(particle):
            return self._new(particle, script, upstream, hops)  # nothing to wait for
        async with self._doors.through(particle.key):
            here = self.is_here(particle)
            actor = await self._open(particle.key, going_on=True) if here else None
            if actor is None and here and await self._context.store.is_spent(particle.key):
                raise self._remember_over(particle.key, _refusal(None))
            if actor is None:
                payer = self._budget.payer(particle.initiator, upstream)
                self._budget.check(payer, MACHINE_BYTES + len(particle.script))
                return self._new(particle, await self._script(particle, payer), upstream, hops)
            if actor.finished or actor.failure is not None:
                raise _refusal(actor.failure)
            return actor

    def check_door(self, particle: Particle, upstream: Upstream) -> None:
        """Raise Refused, before anything is verified or decoded: ``replay`` or ``failed``, it is over here; ``busy``, it is new, and who brings it was told to wait."""
        if (over := self._over.get(particle.key)) is not None:
            raise Refused(over[0], reason=over[1])
        if not self.is_here(particle):
            self._context.outbox.check_told(upstream)

    def is_here(self, particle: Particle) -> bool:
        """Whether a particle is perhaps in the store; False is certain."""
        return self._actors.get(particle.key) is not None or self._context.store.knows(particle)

    def _new(self, particle: Particle, script: Script, upstream: Upstream, hops: int) -> Actor:
        """The actor of a particle that is not here."""
        self._budget.check(self._budget.payer(particle.initiator, upstream), MACHINE_BYTES + len(particle.script))
        self._make_room()
        self._scripts.share_text(particle, script)
        me, limits = self._context.keys.peer_id, self._session_limits()
        return self._keep(ParticleSession.new(particle, script, me, upstream=upstream, hops=hops, **limits))

    async def find(self, key: ParticleKey) -> Actor | None:
        """The actor of a particle that was admitted before; None if it is gone."""
        if (actor := self._actors.get(key)) is not None and self._doors.is_free(key):
            return actor
        async with self._doors.through(key):
            return await self._open(key)

    async def parcel(self, key: ParticleKey, to: PeerId) -> Parcel | None:
        """What to hand to a peer now; None if the particle is gone."""
        if (actor := await self.find(key)) is None:
            return None
        parcel = await actor.parcel(to)
        if actor not in self._resting:  # it came from the store for this
            self.rested(actor)
        return parcel

    def handed_over(self, key: ParticleKey, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        if (actor := self._actors.get(key)) is not None:
            actor.handed_over(to, parcel)
            self._count_again(actor)

    def lacks(self, key: ParticleKey, to: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer asks for values that it lacks; if none are named, it gets everything the next time."""
        if (actor := self._actors.get(key)) is not None:
            actor.lacks(to, contents)
            self._count_again(actor)

    # --- life

    async def resume(self) -> Container[ParticleKey]:
        """After a restart: have every particle that is alive go on (:meth:`go_on`), asking again for calls whose outcome was not recorded.

        Returns them. Raises StorageError: the store cannot be read or written.
        """
        now_ms = self._context.clock.now_ms()
        await self._context.store.remember(now_ms, skew_ms=self._limits.clock_skew_ms_max)
        live = await self._context.store.live(now_ms)
        await self._suspended.put_all(live)
        return live

    async def go_on(self) -> None:
        """Until cancelled: have those go on that were stopped, a few at a time."""
        await self._suspended.run()

    def come(self, initiator: PeerId) -> None:
        """A peer is connected: its particles are among the next to go on."""
        self._suspended.prefer(initiator)

    async def sweep(self) -> None:
        """Until cancelled: drop what has died or finished."""
        while True:
            await anyio.sleep(SWEEP_S)
            await self._drop_dead()
            await self._drop_finished()

    async def resend(self) -> None:
        """Until cancelled: send on what others should have sent. A run of such a particle may take long, and what has died waits for none."""
        await self._context.resender.run(self.find)

    async def _drop_dead(self) -> None:
        turn = LoopTurn()  # thousands may die together
        for key in self._deadlines.passed(self._context.clock.now_ms()):
            await turn.over()
            if (actor := self._actors.get(key)) is None:
                continue
            if not actor.finished:
                self._context.log.info("particle_expired", particle=actor.particle.id)
            self._leave(actor)

    async def _drop_finished(self) -> None:
        """What goes to other peers has mostly been handed over by now; else it is restored when it is needed."""
        turn = LoopTurn()
        for key in tuple(self._leaving):
            await turn.over()
            if (actor := self._leaving.get(key)) is not None and actor.idle:
                self._leave(actor)

    async def purge(self) -> None:
        """Until cancelled: remove from the store particles that died long ago, or have ended and there is no room for."""
        await Purge(
            self._context.store.retention,
            now_ms=self._context.clock.now_ms,
            keep_ms=self._disk.keep_ms,
            keep_bytes=kept_bytes(self._disk),
            skew_ms=self._limits.clock_skew_ms_max,
            gone=self._context.quota.removed,
            log=self._context.log,
        ).run()

    async def shrink(self) -> None:
        """Until cancelled: put the stories of large particles that have ended in the place of their journals."""
        skew_ms = self._limits.clock_skew_ms_max
        await Shrinker(
            self._context,
            skew_ms=skew_ms,
            condense=self._condense,
            door=self._doors.through,
            restoring=self._restoring,
            gone=self._gone,
        ).run()

    def _gone(self, key: ParticleKey) -> None:
        """The journal of a particle is gone."""
        if (actor := self._actors.get(key)) is not None:
            self._leave(actor)

    async def _restoring(self, stored: StoredParticle) -> SlicedInput[Any, ParticleSession]:
        """The run that makes the session of a stored particle; raises as :meth:`_script`."""
        script = await self._script(stored.particle, self._payer(stored))
        return ParticleSession.restoring(stored, script, self._context.keys.peer_id, **self._session_limits())

    async def _go_on(self, key: ParticleKey) -> None:
        """Do what is left to do for a particle: its run, its calls, its deliveries."""
        async with self._doors.through(key):
            stored = await self._context.store.load(key)
            if stored is None or stored.particle.deadline_ms <= self._context.clock.now_ms():
                return
            actor = self._actors.get(key) or await self._restore(stored)
        self._context.outbox.put(stored.outbox, stored.particle, upstream=Upstream(stored.sender))
        await actor.begin()
        self._context.log.info("particle_resumed", particle=stored.particle.id)

    def broken(self, actor: Actor, error: BaseException) -> None:
        """As :class:`ActorOwner` says."""
        particle = actor.particle
        if isinstance(error, ParticleGone):
            pass  # it has died, and there was no room for it: nobody else is concerned
        elif isinstance(error, StorageError):
            self._suspended.put_back_all(particle.key, actor.payer, actor.held)
        elif _short_of_memory(error) and not actor.was_new:
            self._suspended.put_back(particle.key, actor.payer, actor.held)
        elif (
            isinstance(error, FluvialError)
            and not isinstance(error, RemoteProtocolError)
            and not _short_of_memory(error)
            and not (actor.was_new and isinstance(error, Refused))  # whoever handed it over is told
        ):
            self._context.reporter.broken(particle, actor.payer, error)
        self._leave(actor)

    def grown(self, session: ParticleSession, held: int) -> None:
        """As :class:`ActorOwner` says."""
        session.check()  # what was dropped is not counted any more
        particle = session.particle
        self._count(particle, self._budget.payer(particle.initiator, session.upstream), held)

    def rested(self, actor: Actor) -> None:
        """As :class:`ActorOwner` says."""
        key = actor.particle.key
        if self._actors.get(key) is not actor:
            self._give_back(actor)
            return
        held = actor.held
        self._budget.charge(key, actor.payer, held)
        if actor.failure is not None:
            if actor.waiting:
                self._end(actor)
            return
        if actor.finished and actor.idle and actor.stays_here:
            self._leave(actor)  # nobody else can bring anything more of it
        elif actor.idle:
            actor.rest()
            self._resting.put(actor, held)
            if actor.finished:
                self._leaving[key] = actor
        if self._budget.over:
            self._budget.relieve()

    # --- memory

    @property
    def held_bytes(self) -> int:
        """How much memory all particles take, estimated from above."""
        return self._budget.total

    async def _open(self, key: ParticleKey, *, going_on: bool = False) -> Actor | None:
        """The actor from memory or from the store; the caller holds the particle's door.

        Args:
            key: which.
            going_on: whether it is wanted to go on with; then raises Refused, ``replay`` or ``failed``, if it is over.
        """
        if (actor := self._actors.get(key)) is not None:
            return actor
        if (stored := await self._context.store.load(key)) is None:
            return None
        if going_on and stored.state is ParticleState.FINISHED:
            raise self._remember_over(key, _refusal(failure_in(stored.journal)))
        return await self._restore(stored)

    async def _restore(self, stored: StoredParticle) -> Actor:
        particle = stored.particle
        waiting, payer = sum(len(entry.payload) for entry in stored.journal), self._payer(stored)
        try:
            self._count(particle, payer, waiting)
            with Contained(self._context.log.bind(particle=particle.id)):
                restoring = await self._restoring(stored)
                counted = self._counted(particle, payer, restoring, waiting)
                try:
                    session = await self._context.processor.finish(particle.initiator, counted, upstream=payer.upstream)
                except BaseException:
                    self._releases.put(restoring.holder.release())
                    raise
        except RemoteProtocolError as error:  # whoever hands the particle over is not to blame
            message = f"the particle's journal here is damaged: {error.message}"
            self._context.reporter.broken(particle, payer, Refused(message, reason="broken"))
            raise Refused(message, reason="broken") from error
        except Refused as error:
            if not _short_of_memory(error):
                self._context.reporter.broken(particle, payer, error)
            raise
        finally:
            self._budget.release(particle.key)
        self._make_room()
        return self._keep(session)

    def _counted(
        self, particle: Particle, payer: Payer, run: SlicedInput[Any, ParticleSession], waiting: int
    ) -> Callable[[int, Clock], ParticleSession | None]:
        """The slices of a run, each of which is looked at for the memory that it took, besides what waits to be decoded."""

        def advance(steps: int, clock: Clock) -> ParticleSession | None:
            session = run.advance(steps, clock)
            if session is None:
                self._count(particle, payer, run.held + waiting)
            return session

        return advance

    def _count_again(self, actor: Actor) -> None:
        """An actor that perhaps rests has learnt something about another peer."""
        held = actor.held
        self._budget.charge(actor.particle.key, actor.payer, held)
        if actor in self._resting:
            self._resting.put(actor, held)
        if self._budget.over:
            self._budget.relieve()

    def _count(self, particle: Particle, payer: Payer, held: int) -> None:
        """A machine holds so much in the middle of a run; raises Refused, ``memory``, if it must not go on."""
        self._budget.charge(particle.key, payer, held)
        self._budget.check_under_way(payer)

    def _payer(self, stored: StoredParticle) -> Payer:
        return self._budget.payer(stored.particle.initiator, Upstream(stored.sender))

    def _session_limits(self) -> _SessionLimits:
        return {"destinations_max": self._limits.destinations_max, "memory_bytes_max": self._limits.memory_bytes_max}

    async def _script(self, particle: Particle, payer: Payer) -> Script:
        """The parsed script; raises Refused: ``script``, it does not parse; ``memory``, for whom it is."""
        if (script := self._scripts.parsed(particle)) is not None:
            return script
        if is_parsed_at_once(particle.script):
            return self._scripts.keep(particle, parse_script(particle), payer)
        # Not reserved: one is parsed after another, and who waits for it has nothing yet.
        weight = script_weight(particle.script)
        self._budget.check(payer, weight)
        upstream, processor = payer.upstream, self._context.processor
        script = await processor.off_loop(particle.initiator, lambda: analysed_script(particle), upstream=upstream)
        self._budget.check(payer, weight)
        return self._scripts.keep(particle, script, payer)

    def _keep(self, session: ParticleSession) -> Actor:
        payer = self._budget.payer(session.particle.initiator, session.upstream)
        actor = Actor(session, self._context, owner=self, payer=payer)
        self._actors.put(actor)
        self._deadlines.put(actor.particle)
        self._budget.charge(actor.particle.key, payer, session.held)
        return actor

    def _make_room(self) -> None:
        """If too many are in memory, drop the idle actor that was unused for the longest time; it is restored when it is needed."""
        if len(self._actors) < self._limits.live_max:
            return
        idle = self._resting.longest()
        if idle is None:
            raise Refused(f"{len(self._actors)} particles are being worked on, no more are allowed", reason="busy")
        self._leave(idle)

    def _put_off(self, actor: Actor) -> None:
        """An actor that is at work leaves for want of memory."""
        self._context.throttled.note(
            "particle_put_off", "memory", level=INFO, particle=actor.particle.id, held_bytes=actor.held
        )
        self._suspended.put(actor.particle.key, actor.payer, actor.held)
        self._leave(actor)

    def _end(self, actor: Actor) -> None:
        """The flow has failed here: nothing more comes of it, nor of its calls."""
        self._remember_over(actor.particle.key, _refusal(actor.failure))
        self._leave(actor)

    def _remember_over(self, key: ParticleKey, refusal: Refused) -> Refused:
        self._over[key] = refusal.message, refusal.reason
        if len(self._over) > OVER_MAX:
            self._over.popitem(last=False)
        return refusal

    def _leave(self, actor: Actor) -> None:
        """Drop an actor, and give back its memory: now, or when a turn is over that is under way."""
        key = actor.particle.key
        self._resting.remove(actor)
        self._leaving.pop(key, None)
        if not self._actors.remove(actor):
            return
        self._deadlines.remove(actor.particle)
        self._budget.release(key)
        # Whoever began it here may still ask what it waits for.
        is_own = actor.particle.initiator == self._context.keys.peer_id
        actor.leave(stays=is_own and (not actor.finished or actor.failure is not None))
        self._give_back(actor)

    def _give_back(self, actor: Actor) -> None:
        """Give back the memory of an actor that was dropped, unless a turn of it is under way."""
        release = actor.release()
        if actor.held <= RELEASED_AT_ONCE_MAX:
            at_once(release)
        else:
            self._releases.put(release)


def _short_of_memory(error: BaseException) -> bool:
    return isinstance(error, Refused) and error.reason == MEMORY


def _refusal(failure: FlowFailed | None) -> Refused:
    """Why nothing more is taken of a particle that is over, which perhaps has failed."""
    if failure is not None:
        return Refused(f"the flow has failed here: {failure.code}: {failure.message}", reason=FAILED)
    return Refused("the particle is finished on this peer", reason="replay")
