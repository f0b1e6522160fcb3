"""What the actors of a peer work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog

from fluvial.air.machine.findings import Waits
from fluvial.air.machine.machine import Effects
from fluvial.clock import Clock
from fluvial.effectors import Call
from fluvial.fairness import Branches
from fluvial.identity import KeyPair, PeerId
from fluvial.light_tasks import LightTasks
from fluvial.observers import Observers
from fluvial.particle import Particle
from fluvial.particles.delivery.outbox import Outbox
from fluvial.particles.evidence import EvidenceLog
from fluvial.particles.limits import ParticleLimits
from fluvial.particles.processor import Processor
from fluvial.particles.quota import DiskQuota
from fluvial.particles.reporter import Reporter
from fluvial.particles.resender import Resender
from fluvial.seats import Decision
from fluvial.services.dispatcher import Services
from fluvial.storage.particles import ParticleStore
from fluvial.throttling import ThrottledLog


class ActorContext(msgspec.Struct, frozen=True, kw_only=True):
    """What actors work with; the same objects for all particles of a peer.

    Attributes:
        keys: the peer's key pair.
        clock: the time in journals.
        store: where journals and outboxes are written.
        processor: shares the peer's time among particles.
        quota: who may write how much.
        services: answer calls.
        permit: decides whether a call may be made.
        observers: are notified of every call.
        outbox: delivers what is written.
        is_connected: whether a connection with a peer stands.
        branches: numbers for those of whom particles come, for the next peers.
        reporter: reports errors to initiators.
        evidence: is told of peers that contradict themselves.
        resender: decides when promises of others are looked at.
        tasks: where calls run.
        on_run: called after each run, when it is durable, with its effects and a function that returns what waits.
        limits: what the peer accepts.
        log: a logger bound to the peer.
        throttled: the same for what scripts and other peers can cause often.
    """

    keys: KeyPair
    clock: Clock
    store: ParticleStore
    processor: Processor
    quota: DiskQuota
    services: Services
    permit: Callable[[Call], Awaitable[Decision]]
    observers: Observers
    outbox: Outbox
    is_connected: Callable[[PeerId], bool]
    branches: Branches
    reporter: Reporter
    evidence: EvidenceLog
    resender: Resender
    tasks: LightTasks
    on_run: Callable[[Particle, Effects, Waits], None]
    limits: ParticleLimits
    log: structlog.stdlib.BoundLogger
    throttled: ThrottledLog
