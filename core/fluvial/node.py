"""A node: the facade of a peer in operation, and the one that runs it."""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, TypeAlias

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry, Gauge

from fluvial import __version__
from fluvial.addresses import Address
from fluvial.air.machine.findings import Waits
from fluvial.air.machine.machine import Effects
from fluvial.assembly.assembly import Assembly, Owner
from fluvial.assembly.switchboard import Switchboard
from fluvial.clock import Clock, SystemClock
from fluvial.config import Configuration, Settings
from fluvial.effectors import Effector
from fluvial.errors import ConfigError, FluvialError, root_cause
from fluvial.fairness import Upstream
from fluvial.findings import Finding
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair, PeerId
from fluvial.log_output import LogOutput
from fluvial.metrics_page import metrics_page
from fluvial.particle import REPLY_ADDRESSES_MAX, Particle, ParticleKey
from fluvial.particles.notice import Notice, make_notice
from fluvial.particles.quota import log_bytes
from fluvial.particles.room import Particles
from fluvial.ports import Blobs
from fluvial.prepared import health_of_statements
from fluvial.services import Handler, Services
from fluvial.storage.opening import Keeping, keeping
from fluvial.stored import StoredParticle
from fluvial.telemetry import make_logger
from fluvial.virtual.loop import is_virtual

Watch: TypeAlias = Callable[[Effects, Waits], None]
"""Called with the outcome of each run of a particle on this peer, and with a function that lists what waits."""

Listen: TypeAlias = Callable[[Notice], None]
"""Called with each failure notice about a particle."""


class _RunningNode(msgspec.Struct, frozen=True):
    """Objects that exist only while the node runs."""

    store: Keeping
    assembly: Assembly
    particles: Particles


class Node:
    """A peer. Made by :func:`running`, which also runs it.

    Attributes:
        keys: its key pair.
        metrics: all its metrics.
        log: its logger.
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
        self._configuration = configuration
        self.keys: Final = keys or KeyPair.load(settings.key_file)
        self.metrics: Final = CollectorRegistry()
        self._clock = clock or SystemClock()
        self._rng = rng or random.SystemRandom()
        telemetry = settings.telemetry
        output = self._log_output = LogOutput(sys.stderr)
        base_log = log or make_logger(
            log_format=telemetry.log_format,
            log_level=telemetry.log_level,
            lines_per_s=telemetry.lines_per_s_max,
            file=output,
        )
        lost = Gauge("fluvial_log_lines_lost", "Lines of the log that could not be written", registry=self.metrics)
        lost.set_function(lambda: output.lost_in_all)
        self.log: Final = base_log.bind(peer=self.keys.peer_id)
        self._serves = tuple(serves)
        self._watches: dict[ParticleKey, tuple[Watch, Listen]] = {}
        self._operation: _RunningNode | None = None

    @property
    def _in_operation(self) -> _RunningNode:
        assert self._operation is not None, "the node is not running"
        return self._operation

    # --- who it is

    @property
    def peer_id(self) -> PeerId:
        """Its id."""
        return self.keys.peer_id

    @property
    def assembly(self) -> Assembly:
        """Its parts; while the node runs."""
        return self._in_operation.assembly

    @property
    def transport(self) -> GuardedTransport:
        """The transport, behind its guard; while the node runs."""
        return self._in_operation.assembly.transport

    @property
    def routing(self) -> GuardedRouting:
        """The routing, behind its guard; while the node runs."""
        return self._in_operation.assembly.routing

    @property
    def services(self) -> Services:
        """The dispatcher of calls; while the node runs."""
        return self._in_operation.assembly.services

    @property
    def switchboard(self) -> Switchboard:
        """The switchboard of messages; while the node runs."""
        return self._in_operation.assembly.switchboard

    @property
    def blobs(self) -> Blobs:
        """The port ``blobs`` for the program that runs the node; while the node runs."""
        return self._in_operation.assembly.blobs.for_part("node")

    @property
    def held_bytes(self) -> int:
        """Memory that its particles take, estimated from above; 0 while it does not run."""
        return 0 if self._operation is None else self._operation.particles.keeper.held_bytes

    @property
    def addresses(self) -> Sequence[Address]:
        """Where it can be dialled."""
        return self.transport.addresses

    @property
    def reply_to(self) -> tuple[str, ...]:
        """Where others can reach it: its addresses or, if it has none, circuits through its relays."""
        if addresses := self.addresses:
            return tuple(map(str, addresses))
        circuits = (
            str(Address(host_kind=way.host_kind, host=way.host, port=way.port, peer=self.peer_id, relay=relay.peer))
            for relay in self._in_operation.assembly.relaying.relays
            for way in relay.addresses
        )
        return tuple(islice(circuits, REPLY_ADDRESSES_MAX))

    # --- flows

    def particle(
        self,
        script: str,
        *,
        ttl_ms: int,
        particle_id: str | None = None,
        max_hops: int | None = None,
        credentials: Sequence[bytes] = (),
    ) -> Particle:
        """A new particle of this peer, signed; nothing happens before :meth:`submit`."""
        return Particle.create(
            self.keys,
            script,
            particle_id=particle_id or str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            timestamp_ms=self._clock.now_ms(),
            ttl_ms=ttl_ms,
            max_hops=self._settings.particles.hops_max if max_hops is None else max_hops,
            network=self._settings.network,
            reply_to=self.reply_to,
            credentials=tuple(credentials),
        )

    async def submit(self, particle: Particle) -> None:
        """Begin a particle of this peer; it is durable when this returns.

        Raises:
            Refused: its script does not parse, or too many particles are alive.
        """
        actor = await self._in_operation.particles.keeper.admit(particle, upstream=Upstream(self.peer_id), hops=0)
        await actor.begin()

    async def serve(self, effector: Effector[Any]) -> None:
        """Answer the calls of all particles with a native service; raises PluginError if it cannot be started."""
        running = self._in_operation
        await running.assembly.services.serve(effector)
        running.assembly.observers.capabilities_changed()

    async def stored(self, particle: Particle) -> StoredParticle | None:
        """All that this peer's store has of a particle; None if it is not here. Raises StorageError."""
        return await self._in_operation.store.particles.load(particle.key)

    def bind(self, particle: Particle, handlers: Mapping[str, Handler], watch: Watch, listen: Listen) -> None:
        """Answer calls that one particle of this peer makes here; until :meth:`release`.

        Args:
            particle: which.
            handlers: who answers, by service id.
            watch: called with the outcome of each run of the particle on this peer.
            listen: called with each failure notice about it.

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

    def tell_flows(self, message: str) -> None:
        """Give each particle that :meth:`bind` was called for a failure notice of this peer: something that all of them need is away, and is tried further."""
        for key, (_, listen) in tuple(self._watches.items()):
            listen(make_notice(key, self.peer_id, "unreachable", message, at_ms=self._clock.now_ms()))

    def _ran(self, particle: Particle, effects: Effects, waits: Waits) -> None:
        if (found := self._watches.get(particle.key)) is not None:
            watch, _ = found
            watch(effects, waits)

    def _health(self) -> Iterator[Finding]:
        yield from self._log_output.health()
        yield from health_of_statements()
        if self._operation is not None:
            yield from self._operation.store.health()

    def _heard(self, particle: Particle, notice: Notice) -> None:
        if (found := self._watches.get(particle.key)) is not None:
            _, listen = found
            listen(notice)

    # --- life

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Work until cancelled; ``task_status.started()`` when particles are taken in and resumed.

        Raises:
            FluvialError: something that the peer needs is not available.
        """
        settings = self._settings
        for record in self._configuration.plugins.failed:
            self.log.error("plugin_failed", plugin=record.name, distribution=record.origin, error=record.error)
        _make_state_folder(settings)
        owner = Owner(
            keys=self.keys,
            clock=self._clock,
            rng=self._rng,
            metrics=self.metrics,
            log=self.log,
            health=self._health,
            serves=self._serves,
            on_run=self._ran,
            on_notice=self._heard,
        )
        assembly = Assembly(self._configuration, owner)
        opening = keeping(
            settings.storage_url,
            base_dir=settings.base_dir,
            tables=assembly.tables(),
            inline=is_virtual(),
            log_bytes=log_bytes(settings.storage),
            metrics=self.metrics,
            log=self.log,
        )
        try:
            page = metrics_page(settings.telemetry.metrics_listen, self.metrics, self.log)
            async with page, opening as store, assembly.running(store) as particles:
                self._operation = _RunningNode(store, assembly, particles)
                self.log.info(
                    "peer_started",
                    version=__version__,
                    network=settings.network,
                    addresses=[str(address) for address in self.addresses],
                    seats={seat: choice.kind for seat, choice in settings.seats.items()},
                    extras=list(settings.extras),
                )
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._operation = None


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
        serves: native services that are available from the first particle on, also to particles that are resumed after a restart.

    Raises:
        FluvialError: something that the peer needs is not available. What the block raises is raised as it is; of an exception group, its root cause.
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
    """Make the folder of a relative SQLite path, such as the default's; it lies in the peer's own folder."""
    _, found, path = settings.storage.url.partition("sqlite:///")
    if not found or not path or path.startswith("/"):
        return
    folder = (settings.base_dir / path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: this folder for the peer's state cannot be made: {error.strerror}") from error
