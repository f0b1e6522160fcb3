"""Puts a peer together: fills the seats, opens the store, starts everything, stops it in the opposite order."""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus
from prometheus_client import CollectorRegistry, Gauge

from fluvial import __version__
from fluvial.addresses import Address, Contact
from fluvial.air.machine.findings import Waits
from fluvial.air.machine.machine import Effects
from fluvial.clock import Clock, SystemClock
from fluvial.config import Configuration, Settings
from fluvial.effectors import Effector
from fluvial.errors import ConfigError, FluvialError, RemoteProtocolError
from fluvial.identity import KeyPair, PeerId
from fluvial.observers import Observers
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.actor import Surroundings as ActorSurroundings
from fluvial.particles.carrier import Carrier
from fluvial.particles.hearing import Hearing
from fluvial.particles.inbox import Inbox
from fluvial.particles.inspection import Limits
from fluvial.particles.keeper import Keeper
from fluvial.particles.notice import PROTOCOL as NOTICE_PROTOCOL
from fluvial.particles.notice import Notice
from fluvial.particles.outbox import Outbox
from fluvial.particles.receipt import PROTOCOL, encode_receipt
from fluvial.particles.reporter import Reporter
from fluvial.particles.resender import Resender
from fluvial.seats import Authorization, Execution, Routing, SeatName, Surroundings, Transport
from fluvial.services import Accounts, Handler, Services
from fluvial.services import Limits as ServiceLimits
from fluvial.services.builtin import PING_PROTOCOL, Versions, serve_builtins
from fluvial.storage import Store, StoredParticle, open_store
from fluvial.telemetry import make_logger

Watch: TypeAlias = Callable[[Effects, Waits], None]
"""Told what each run of a particle on this peer came to, with a function that says what waits."""

Listen: TypeAlias = Callable[[Notice], None]
"""Told of each failure notice about a particle."""

AIR_VERSION: Final = "0.62"
"""The version of the language that this peer speaks, as the reference counts."""


class Node:
    """A peer. Made by :func:`running`, which also runs it.

    Attributes:
        keys: its key pair.
        metrics: all its metrics.
        log: its logger.
        transport, routing, services: for those who look inside.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        keys: KeyPair | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        log: structlog.stdlib.BoundLogger | None = None,
        serves: Sequence[Effector[Any]] = (),
    ) -> None:
        settings = self._settings = configuration.settings
        self.keys: Final = keys or KeyPair.load(settings.key_file)
        self.metrics: Final = CollectorRegistry()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311 - pauses, not secrets
        telemetry = settings.telemetry
        base_log = log or make_logger(log_format=telemetry.log_format, log_level=telemetry.log_level)
        self.log: Final = base_log.bind(peer=self.keys.peer_id)
        self._observers = Observers(configuration.plugins, log=self.log, metrics=self.metrics)
        for record in configuration.plugins.records:
            if record.state == "failed":
                self.log.error("plugin_failed", plugin=record.name, distribution=record.origin, error=record.error)
        self._surroundings = Surroundings(
            keys=self.keys,
            network=settings.network,
            clock=self._clock,
            metrics=self.metrics,
            log=self.log,
            base_dir=settings.base_dir,
        )
        self.transport: Final[Transport] = self._seat("transport")
        self.routing: Final[Routing] = self._seat("routing")
        self._authorization: Authorization = self._seat("authorization")
        self._execution: Execution = self._seat("execution")
        self._consensus = self._seat("consensus")
        self.services: Final = Services(
            peer=self.keys.peer_id,
            accounts=Accounts(metrics=self.metrics, clock=self._clock),
            log=self.log,
            execution=self._execution,
            limits=ServiceLimits(**msgspec.structs.asdict(settings.services)),
        )
        self._serves = tuple(serves)
        self._watches: dict[ParticleKey, tuple[Watch, Listen]] = {}
        self._store: Store | None = None
        self._inbox: Inbox | None = None
        self._hearing: Hearing | None = None
        self._keeper: Keeper | None = None
        self._outbox: Outbox | None = None
        self._ready = anyio.Event()
        Gauge("fluvial_peers_connected", "Peers with an open connection", registry=self.metrics).set_function(
            lambda: len(self.transport.connected())
        )

    def _seat(self, seat: SeatName) -> Any:
        return self._settings.seats[seat].build(self._surroundings)

    # --- who it is

    @property
    def peer_id(self) -> PeerId:
        """Its name."""
        return self.keys.peer_id

    @property
    def addresses(self) -> Sequence[Address]:
        """Where it can be dialled."""
        return self.transport.addresses

    @property
    def reply_to(self) -> tuple[str, ...]:
        """Where others can reach it: its addresses, or, without any, the way through its relays."""
        if self.addresses:
            return tuple(str(address) for address in self.addresses)
        return tuple(
            str(Address(host_kind=way.host_kind, host=way.host, port=way.port, peer=self.peer_id, relay=relay.peer))
            for relay in self._settings.relays
            for way in relay.addresses
        )

    # --- flows

    def particle(
        self, script: str, *, ttl_ms: int, particle_id: str | None = None, max_hops: int | None = None
    ) -> Particle:
        """A new particle of this peer, signed; nothing happens before :meth:`submit`."""
        return Particle.create(
            self.keys,
            script,
            particle_id=particle_id or str(uuid.uuid4()),
            timestamp_ms=self._clock.now_ms(),
            ttl_ms=ttl_ms,
            max_hops=self._settings.particles.hops_max if max_hops is None else max_hops,
            network=self._settings.network,
            reply_to=self.reply_to,
        )

    async def submit(self, particle: Particle) -> None:
        """Begin a particle of this peer; it is durable when this returns.

        Raises:
            Refused: its script does not parse, or too many particles are alive.
        """
        assert self._keeper is not None, "the node is not running"
        actor = await self._keeper.admit(particle, sender=self.peer_id, hops=0)
        await actor.begin()

    async def serve(self, effector: Effector[Any]) -> None:
        """Answer the calls of all particles with a native service; raises PluginError if it cannot be started."""
        await self.services.serve(effector)

    async def stored(self, particle: Particle) -> StoredParticle | None:
        """All that this peer's store has of a particle; None if it is not here. Raises StorageError."""
        assert self._store is not None, "the node is not running"
        return await self._store.particles.load(particle.key)

    def bind(self, particle: Particle, handlers: Mapping[str, Handler], watch: Watch, listen: Listen) -> None:
        """Answer calls that one particle of this peer makes here; until :meth:`release`.

        Args:
            particle: which.
            handlers: who answers, by service id.
            watch: told what each of the particle's runs on this peer came to.
            listen: told which peers cannot go on with it, and why.

        Raises:
            PluginError, ResourceLimit: as ``Services.bind``; nothing is bound then.
        """
        try:
            for service, handler in handlers.items():
                self.services.bind(particle.id, service, handler)
        except FluvialError:
            self.services.release(particle.id)
            raise
        self._watches[particle.key] = (watch, listen)

    def release(self, particle: Particle) -> None:
        """Undo :meth:`bind`."""
        self.services.release(particle.id)
        self._watches.pop(particle.key, None)

    def _ran(self, particle: Particle, effects: Effects, waits: Waits) -> None:
        if (found := self._watches.get(particle.key)) is not None:
            watch, _ = found
            watch(effects, waits)

    def _heard(self, particle: Particle, notice: Notice) -> None:
        if (found := self._watches.get(particle.key)) is not None:
            _, listen = found
            listen(notice)

    # --- life

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Work until cancelled; ``task_status.started()`` when particles are taken in and resumed.

        Raises:
            FluvialError: something that the peer needs is not to be had.
        """
        settings = self._settings
        _make_state_folder(settings)
        async with (
            open_store(settings.storage_url, base_dir=settings.base_dir, metrics=self.metrics, log=self.log) as store,
            self.services,
            anyio.create_task_group() as tasks,
        ):
            await tasks.start(self._execution_run)
            await self._start_services()
            await tasks.start(self._transport_run)
            await tasks.start(self._routing_run)
            await self._start_particles(store, tasks)
            for relay in settings.relays:
                self.transport.keep(relay)
            self._ready.set()
            self.log.info(
                "peer_started",
                version=__version__,
                network=settings.network,
                addresses=[str(address) for address in self.addresses],
                seats={seat: choice.kind for seat, choice in settings.seats.items()},
            )
            task_status.started()
            await anyio.sleep_forever()

    async def _execution_run(self, *, task_status: TaskStatus[None]) -> None:
        await self._execution.run(task_status=task_status)

    async def _transport_run(self, *, task_status: TaskStatus[None]) -> None:
        await self.transport.run(self.receive, self, task_status=task_status)

    async def _routing_run(self, *, task_status: TaskStatus[None]) -> None:
        await self.routing.run(task_status=task_status)

    async def _start_services(self) -> None:
        await serve_builtins(
            self.services,
            keys=self.keys,
            transport=self.transport,
            routing=self.routing,
            clock=self._clock,
            versions=Versions(node=__version__, air=AIR_VERSION),
            log=self.log,
        )
        for choice in self._settings.effectors.values():
            await self.services.serve(choice.build(self._surroundings), kind="effector")
        for effector in self._serves:
            await self.services.serve(effector)

    async def _start_particles(self, store: Store, tasks: TaskGroup) -> None:
        limits = Limits(**msgspec.structs.asdict(self._settings.particles))
        carrier = Carrier(self.peer_id, self.transport, self.routing)
        reporter = Reporter(
            self.keys, limits=limits, carrier=carrier, clock=self._clock, metrics=self.metrics, log=self.log
        )
        outbox = Outbox(
            store.particles,
            carrier,
            reporter=reporter,
            clock=self._clock,
            rng=self._rng,
            metrics=self.metrics,
            log=self.log,
        )
        around = ActorSurroundings(
            keys=self.keys,
            clock=self._clock,
            store=store.particles,
            services=self.services,
            authorization=self._authorization,
            observers=self._observers,
            outbox=outbox,
            reporter=reporter,
            resender=Resender(after_ms=limits.resend_after_ms, clock=self._clock, metrics=self.metrics, log=self.log),
            tasks=tasks,
            on_run=self._ran,
            log=self.log,
        )
        keep_ms = self._settings.storage.keep_ms
        self._keeper = keeper = Keeper(around, limits, keep_ms=keep_ms, metrics=self.metrics)
        self._inbox = Inbox(
            self.peer_id,
            network=self._settings.network,
            limits=limits,
            keeper=keeper,
            carrier=carrier,
            authorization=self._authorization,
            routing=self.routing,
            clock=self._clock,
            observers=self._observers,
            metrics=self.metrics,
            log=self.log,
        )
        self._hearing = hearing = Hearing(
            self.peer_id,
            limits=limits,
            keeper=keeper,
            carrier=carrier,
            on_notice=self._heard,
            clock=self._clock,
            observers=self._observers,
            metrics=self.metrics,
            log=self.log,
        )
        self._store = store
        reporter.start(tasks, hearing.hear)
        await outbox.start(tasks, keeper)
        self._outbox = outbox
        await keeper.resume()
        tasks.start_soon(keeper.sweep)
        tasks.start_soon(keeper.purge)

    # --- what the transport tells

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        """Called by the transport; raises RemoteProtocolError for a protocol that this peer does not speak."""
        await self._ready.wait()
        if protocol == PROTOCOL:
            assert self._inbox is not None
            return encode_receipt(await self._inbox.receive(sender, payload))
        if protocol == NOTICE_PROTOCOL:
            assert self._hearing is not None
            return encode_receipt(await self._hearing.receive(sender, payload))
        if protocol == PING_PROTOCOL:
            return b""
        raise RemoteProtocolError(f"this peer does not speak {protocol[:80]!r}")

    def peer_connected(self, contact: Contact) -> None:
        """Called by the transport."""
        self.log.info("peer_connected", other=contact.peer)
        if contact.addresses:
            self.routing.learn(contact)
        if self._outbox is not None:
            self._outbox.wake(contact.peer)
        self._observers.peer_connected(contact.peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Called by the transport."""
        self.log.info("peer_disconnected", other=peer)
        self._observers.peer_disconnected(peer)


@asynccontextmanager
async def running(
    configuration: Configuration,
    *,
    keys: KeyPair | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    log: structlog.stdlib.BoundLogger | None = None,
    serves: Sequence[Effector[Any]] = (),
) -> AsyncIterator[Node]:
    """A peer that runs while the block does.

    Args:
        configuration: checked settings and the plugins.
        keys: its key pair; the config's key file by default.
        clock: the machine's clock by default.
        rng: randomness for pauses.
        log: a logger as the config says by default.
        serves: native services that are there from the first particle on, also for those that a restart goes on with.

    Raises:
        FluvialError: something that the peer needs is not to be had. What the block raises comes out as it is.
    """
    node = Node(configuration, keys=keys, clock=clock, rng=rng, log=log, serves=serves)
    try:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_run, node)
            yield node
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise root_cause(group) from None


async def _run(node: Node, *, task_status: TaskStatus[None]) -> None:
    await node.run(task_status=task_status)


def _make_state_folder(settings: Settings) -> None:
    """A relative SQLite path, such as the default's, lies in the peer's own folder: nobody has to make room for it."""
    _, found, path = settings.storage.url.partition("sqlite:///")
    if not found or not path or path.startswith("/"):
        return
    folder = (settings.base_dir / path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: this folder for the peer's state cannot be made: {error.strerror}") from error


def root_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the task groups wrapped: their only error, or the first of ours; the group itself if there are several others."""
    errors: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            pending.extend(reversed(error.exceptions))
        else:
            errors.append(error)
    ours = [error for error in errors if isinstance(error, FluvialError)]
    return errors[0] if len(errors) == 1 else next(iter(ours), group)
