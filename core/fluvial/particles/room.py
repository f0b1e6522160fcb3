"""The room of the particles as one part: what comes in, what is kept, what goes out, and who is told."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus
from prometheus_client import CollectorRegistry

from fluvial.addresses import Contact
from fluvial.air.machine.findings import Waits
from fluvial.air.machine.machine import Effects
from fluvial.clock import Clock
from fluvial.effectors import Call
from fluvial.errors import FluvialError
from fluvial.fairness import BRANCHES_KEY_BYTES, Branches
from fluvial.guard.guarded import GuardedAuthorization, GuardedExecution, GuardedRouting, GuardedTransport
from fluvial.guard.recent_weights import RecentWeights
from fluvial.health import check_question
from fluvial.hooks import hookimpl
from fluvial.identity import KeyPair, PeerId
from fluvial.light_tasks import LightTasks
from fluvial.observers import Observers
from fluvial.particle import Particle
from fluvial.particles.context import ActorContext
from fluvial.particles.delivery.carrier import Carrier, Hold
from fluvial.particles.delivery.outbox import Outbox
from fluvial.particles.evidence import EvidenceLog
from fluvial.particles.failure_detector import FailureDetector
from fluvial.particles.inbox import Inbox, answer_of
from fluvial.particles.keeper import Keeper
from fluvial.particles.life_signs import LifeSigns
from fluvial.particles.limits import DiskLimits, ParticleLimits
from fluvial.particles.memory import MemoryBudget
from fluvial.particles.notice import NOTICE_BYTES_MAX, Notice
from fluvial.particles.notice import PROTOCOL as NOTICE_PROTOCOL
from fluvial.particles.notice_inbox import NoticeInbox
from fluvial.particles.processor import Processor
from fluvial.particles.quota import DiskQuota
from fluvial.particles.receipt import PROTOCOL
from fluvial.particles.refusals import PROTOCOL as REFUSALS_PROTOCOL
from fluvial.particles.refusals import QUERY_BYTES_MAX, RefusalLog, encode_refusals, read_query
from fluvial.particles.reporter import Reporter
from fluvial.particles.resender import Resender
from fluvial.seats import Answer, Contributions, Decision, Part
from fluvial.services import Services
from fluvial.storage.particles import ParticleStore
from fluvial.stored import StoredParticle
from fluvial.throttling import ThrottledLog
from fluvial.waiting import now_s

OnRun: TypeAlias = Callable[[Particle, Effects, Waits], None]
"""Told the outcome of each run of a particle here, with a function that says what waits."""

Charge: TypeAlias = Callable[[Call, int], Awaitable[Decision]]
"""Called with a permitted call that costs units, and how many; decides whether it is paid for."""

OnNotice: TypeAlias = Callable[[Particle, Notice], None]
"""Told of each new failure notice about a particle of this peer."""

DELIVERY_EXTRA_BYTES: Final = 65_536
"""What a delivery may have besides script and data: header, signature, framing."""
GREETINGS_S: Final = (0.0, 1.0)
"""Pauses before those are greeted who connected before this room was told of it; else they would wait behind all that goes on after a restart."""
DELIVERIES_AT_ONCE: Final = 1_024
DELIVERIES_PER_SENDER: Final = 256
NOTICES_AT_ONCE: Final = 512
NOTICES_PER_SENDER: Final = 128
"""More than are passed on at the same time: which of these gives way is for whoever passes them on to say."""


class ParticleContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the room works with.

    Attributes:
        keys: the peer's key pair.
        network: its network.
        limits: what it accepts.
        disk: how much they may write, and how long it is kept.
        condense: makes of a particle that has ended what is kept of it in place of its journal.
        relays: this peer's own relays now, best first.
        hold: keeps a message for a client of this relay that is away.
        store: where they are.
        transport, routing, authorization, execution: the seats.
        services: who answers calls.
        prices: units that a call of a service of this peer costs, by service; what is deployed has its own.
        charge: lets a licence of the initiator pay for a call.
        on_run: told what each run of a particle here came to.
        on_notice: told of each new failure notice about a particle of this peer.
        clock, rng, observers, metrics, log: as usual.
    """

    keys: KeyPair
    network: str
    limits: ParticleLimits
    disk: DiskLimits
    condense: Callable[[StoredParticle, bool], bytes]
    relays: Callable[[], Sequence[Contact]]
    hold: Hold
    store: ParticleStore
    transport: GuardedTransport
    routing: GuardedRouting
    authorization: GuardedAuthorization
    execution: GuardedExecution
    services: Services
    prices: Mapping[str, int]
    charge: Charge
    on_run: OnRun
    on_notice: OnNotice
    clock: Clock
    rng: random.Random
    observers: Observers
    metrics: CollectorRegistry
    log: structlog.stdlib.BoundLogger


class Particles(Part):
    """See the module's docstring.

    Attributes:
        keeper: has the particles, once the room has started.
    """

    keeper: Keeper
    _inbox: Inbox
    _notice_inbox: NoticeInbox
    _outbox: Outbox
    _detector: FailureDetector

    def __init__(self, context: ParticleContext) -> None:
        self._context = context
        self._weight = RecentWeights(context.authorization.weight)
        self._refusals = RefusalLog()
        self._signs = LifeSigns(context.transport, context.routing, relays=context.relays)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Go on with what is alive, then take in what comes.

        Raises:
            StorageError: the store cannot be read or written.
        """
        async with anyio.create_task_group() as tasks:
            light = LightTasks()
            await tasks.start(light.run)
            reporter = self._furnish(tasks, light)
            reporter.start(tasks, self._notice_inbox.hear)
            self._detector.start(tasks, self.keeper.present)
            await self._outbox.start(light, self.keeper, later=await self.keeper.resume())
            tasks.start_soon(self.keeper.go_on)
            tasks.start_soon(self.keeper.sweep)
            tasks.start_soon(self.keeper.resend)
            tasks.start_soon(self.keeper.purge)
            tasks.start_soon(self.keeper.shrink)
            task_status.started()
            for pause_s in GREETINGS_S:
                await anyio.sleep(pause_s)
                for peer in self._context.transport.connected():
                    self.fluvial_peer_connected(peer)

    def contributions(self) -> Contributions:
        """Answers deliveries, failure notices and questions whether a peer answers, and tries again to deliver to a peer that has come."""
        limits = self._context.limits
        return Contributions(
            answers=(
                Answer(
                    protocol=PROTOCOL,
                    by=self._delivery,
                    bytes_max=limits.script_bytes_max + limits.data_bytes_max + DELIVERY_EXTRA_BYTES,
                    at_once=DELIVERIES_AT_ONCE,
                    per_sender=DELIVERIES_PER_SENDER,
                ),
                Answer(
                    protocol=NOTICE_PROTOCOL,
                    by=self._notice,
                    bytes_max=NOTICE_BYTES_MAX,
                    at_once=NOTICES_AT_ONCE,
                    per_sender=NOTICES_PER_SENDER,
                ),
                Answer(
                    protocol=REFUSALS_PROTOCOL, by=self._refused, bytes_max=QUERY_BYTES_MAX, at_once=4, per_sender=1
                ),
                self._signs.answer,
            ),
            watchers=(self,),
        )

    @hookimpl
    def fluvial_peer_connected(self, peer: PeerId) -> None:
        """A reason to go on with what it waits for, and to try again."""
        self.keeper.come(peer)
        self._outbox.wake(peer)

    def _delivery(self, sender: PeerId, payload: bytes) -> Awaitable[bytes]:
        return self._inbox.answer(sender, payload)

    async def _notice(self, sender: PeerId, payload: bytes) -> bytes:
        return answer_of(await self._notice_inbox.receive(sender, payload))

    async def _refused(self, sender: PeerId, payload: bytes) -> bytes:
        """What was refused, for this peer's owner."""
        context, query = self._context, read_query(payload)
        me, now_ms = context.keys.peer_id, context.clock.now_ms()
        check_question(query.question, me=me, sender=sender, network=context.network, now_ms=now_ms)
        return encode_refusals(self._refusals.find(query.particle_id))

    async def _permit(self, call: Call) -> Decision:
        decision = await self._decided(call)
        if not decision.allowed:
            what, now_ms = f"{call.service}.{call.function}", self._context.clock.now_ms()
            self._refusals.note(call.particle_id, what, call.initiator, decision.reason, decision.explanation, now_ms)
        return decision

    async def _decided(self, call: Call) -> Decision:
        context = self._context
        try:
            if context.services.answers(call):
                policy, price = None, context.prices.get(call.service, 0)
            else:
                policy, price = context.execution.policy(call.service), context.execution.price(call.service)
        except FluvialError as error:
            return Decision(False, "failed", error.message)
        decision = await context.authorization.permit(call, policy)
        if price and decision.allowed and call.initiator != context.keys.peer_id:
            return await context.charge(call, price)
        return decision

    def _quota(self) -> DiskQuota:
        context = self._context
        return DiskQuota(
            context.store.account,
            context.disk,
            me=context.keys.peer_id,
            weight=self._weight,
            clock=now_s,
            metrics=context.metrics,
        )

    def _hearing(self, carrier: Carrier, throttled: ThrottledLog) -> NoticeInbox:
        context = self._context
        return NoticeInbox(
            context.keys.peer_id,
            limits=context.limits,
            keeper=self.keeper,
            carrier=carrier,
            on_notice=context.on_notice,
            clock=context.clock,
            observers=context.observers,
            metrics=context.metrics,
            log=context.log,
            throttled=throttled,
        )

    def _furnish(self, tasks: TaskGroup, light: LightTasks) -> Reporter:
        """Put the room together; its tasks live in ``tasks``, those of particles in ``light``."""
        context = self._context
        me, clock, metrics, log = context.keys.peer_id, context.clock, context.metrics, context.log
        limits, observers = context.limits, context.observers
        weight = self._weight
        processor = Processor(weight=weight, metrics=metrics)
        processor.start(tasks)
        quota = self._quota()
        throttled = ThrottledLog(log, clock=now_s)
        tasks.start_soon(_tell, throttled)
        carrier = Carrier(me, context.transport, context.routing, relays=context.relays, hold=context.hold)
        reporter = Reporter(
            context.keys, limits=limits, carrier=carrier, clock=clock, metrics=metrics, log=log, throttled=throttled
        )
        budget = MemoryBudget(limits.node_memory_bytes_max, weight=weight, me=me)
        self._detector = FailureDetector(self._signs, reporter=reporter, clock=clock)
        self._outbox = self._make_outbox(carrier, reporter, budget, throttled)
        actor_context = ActorContext(
            keys=context.keys,
            clock=clock,
            store=context.store,
            processor=processor,
            quota=quota,
            services=context.services,
            permit=self._permit,
            observers=observers,
            outbox=self._outbox,
            is_connected=carrier.is_connected,
            branches=Branches(context.rng.randbytes(BRANCHES_KEY_BYTES)),
            reporter=reporter,
            evidence=EvidenceLog(metrics=metrics, throttled=throttled),
            resender=Resender(after_ms=limits.resend_after_ms, clock=clock, metrics=metrics, log=log),
            tasks=light,
            on_run=context.on_run,
            limits=limits,
            log=log,
            throttled=throttled,
        )
        keeper = Keeper(actor_context, limits, context.disk, budget=budget, condense=context.condense, metrics=metrics)
        self.keeper = keeper
        self._inbox = Inbox(
            me,
            network=context.network,
            limits=limits,
            keeper=keeper,
            budget=budget,
            processor=processor,
            quota=quota,
            carrier=carrier,
            authorization=context.authorization,
            clock=clock,
            observers=observers,
            metrics=metrics,
            log=log,
            throttled=throttled,
            refusals=self._refusals,
        )
        self._notice_inbox = self._hearing(carrier, throttled)
        return reporter

    def _make_outbox(
        self, carrier: Carrier, reporter: Reporter, budget: MemoryBudget, throttled: ThrottledLog
    ) -> Outbox:
        context = self._context
        return Outbox(
            context.store,
            carrier,
            reporter=reporter,
            detector=self._detector,
            budget=budget,
            weight=self._weight,
            clock=context.clock,
            rng=context.rng,
            metrics=context.metrics,
            log=context.log,
            throttled=throttled,
        )


async def _tell(throttled: ThrottledLog) -> None:
    """Until cancelled: say what has gathered."""
    while True:
        await anyio.sleep(1)
        throttled.look()
