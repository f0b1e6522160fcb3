"""Puts a node together: builds its parts, reads their contributions, starts them one after the other, stops them in the opposite order.

==== =================================== =====================================================================
step part                                may count on
==== =================================== =====================================================================
1    consensus                           the database
2    authorization                       the ledger
3    transport                           trust weights; from here on other peers can be asked
4    routing                             the transport
5    blobs, relaying, execution, extras  all above
6    services                            all above: built-in, contributed, effectors, native
7    particles, health                   the services
==== =================================== =====================================================================

All parts are built, without I/O, before any of them starts; their contributions are read once. A part in a seat that fails ends the node, in
order; an extra that fails is set aside alone, with its contributions.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from fluvial import __version__
from fluvial.addresses import Address, Contact
from fluvial.assembly.contributions import checked
from fluvial.assembly.directory import NodeDirectory
from fluvial.assembly.health_desk import HealthDesk
from fluvial.assembly.parts import GivenExtensions, Installed, Parts
from fluvial.assembly.peers import ContactPeers, DirectPeers
from fluvial.assembly.switchboard import Switchboard
from fluvial.blobs.room import BlobRoom
from fluvial.clock import Clock
from fluvial.config import Choice, Configuration
from fluvial.effectors import Call, Effector
from fluvial.errors import FluvialError
from fluvial.findings import Finding
from fluvial.guard.blame import BLAME
from fluvial.guard.guard import Guard, PluginFailed
from fluvial.guard.guarded import (
    GuardedAuthorization,
    GuardedConsensus,
    GuardedExecution,
    GuardedRouting,
    GuardedTransport,
)
from fluvial.guard.recent_weights import RecentWeights
from fluvial.hosting.tables import TABLES as LEDGER_TABLES
from fluvial.identity import KeyPair, PeerId
from fluvial.licensing.tables import TABLES as LICENCE_TABLES
from fluvial.observers import Observers
from fluvial.particles.room import Charge, OnNotice, OnRun, ParticleContext, Particles
from fluvial.ports import Context
from fluvial.relaying.room import RelayRoom
from fluvial.seats import Decision, SeatName
from fluvial.services import Accounts, Services
from fluvial.services.accounts import Kind
from fluvial.services.builtin import Versions, serve_builtins
from fluvial.services.room import ServiceOffer, ServiceRoom
from fluvial.storage.opening import Keeping
from fluvial.story.condensed import condense
from fluvial.tables import Tables, distinct

if TYPE_CHECKING:
    from fluvial.licensing.desk import LicenceDesk

AIR_VERSION: Final = "0.62"
"""The version of the language that this peer speaks, as the reference counts."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a node gives it besides the settings.

    Attributes:
        keys: the node's key pair.
        clock: the only source of wall-clock time.
        rng: the only source of randomness that is no secret.
        metrics: the registry of all its metrics.
        log: its logger.
        health: what is found of the process itself.
        serves: native services that are available from the first particle on.
        on_run: called with the outcome of each run of a particle here.
        on_notice: called with each failure notice about a particle of the node's own.
    """

    keys: KeyPair
    clock: Clock
    rng: random.Random
    metrics: CollectorRegistry
    log: structlog.stdlib.BoundLogger
    health: Callable[[], Iterable[Finding]]
    serves: Sequence[Effector[Any]]
    on_run: OnRun
    on_notice: OnNotice


class Assembly:
    """A node's parts, and the connections between them.

    Args:
        configuration: checked settings and the plugins.
        owner: what the node's owner gives it.
    """

    def __init__(self, configuration: Configuration, owner: Owner) -> None:
        self._settings = configuration.settings
        self._owner = owner
        self._seated: dict[SeatName, Installed] = {}
        me, metrics, log = owner.keys.peer_id, owner.metrics, owner.log
        guard = self._guard = Guard(log=log, metrics=metrics, rng=owner.rng)
        self.transport: Final = GuardedTransport(guard, "transport")
        self.routing: Final = GuardedRouting(guard, "routing")
        self.authorization: Final = GuardedAuthorization(guard, "authorization")
        self.execution: Final = GuardedExecution(guard, "execution")
        self.consensus: Final = GuardedConsensus(guard, "consensus")
        self.observers: Final = Observers(me, configuration.plugins, log=log, metrics=metrics)
        self.switchboard: Final = Switchboard(guard=guard, metrics=metrics)
        self.peers: Final = DirectPeers(self.transport, self.routing)
        self._contact_peers = ContactPeers(self.transport, self.routing)
        self.services: Final = Services(
            peer=me,
            accounts=Accounts(metrics=metrics, clock=owner.clock),
            log=log,
            guard=guard,
            execution=self.execution,
            limits=self._settings.services,
            weight=RecentWeights(self.authorization.weight),
        )
        self.extensions: Final = GivenExtensions()
        self.directory: Final = NodeDirectory(
            me, routing=self.routing, trust=self.authorization, guard=guard, services=self._served
        )
        self.parts: Final = Parts(
            guard=guard,
            switchboard=self.switchboard,
            observers=self.observers,
            directory=self.directory,
            extensions=self.extensions,
            services=self.services,
            log=log,
        )
        self.blobs: Final = BlobRoom(
            me,
            self._settings.blobs,
            base_dir=self._settings.base_dir,
            peers=self.peers,
            directory=self.directory,
            clock=owner.clock,
            metrics=metrics,
            log=log,
            on_change=self.observers.capabilities_changed,
        )

        self.relaying: Final = RelayRoom(
            owner.keys,
            network=self._settings.network,
            relays=self._settings.relays,
            transport=self.transport,
            routing=self.routing,
            weight=self.authorization.weight,
            on_change=self.observers.capabilities_changed,
            clock=owner.clock,
            rng=owner.rng,
            metrics=metrics,
            log=log,
        )

    def tables(self) -> Sequence[Tables]:
        """The tables of the offers that the settings name.

        Raises:
            PluginError: two of them have different tables of one name.
        """
        offers = [choice.offer for choice in (*self._settings.seats.values(), *self._settings.extras.values())]
        owned = [(f"{one.kind} {one.name} ({one.distribution})", one.tables) for one in offers if one.tables]
        return distinct([*owned, ("core", LICENCE_TABLES)] if self._has_ledger else owned)

    @property
    def _has_ledger(self) -> bool:
        """Whether what takes the seat of consensus holds a ledger."""
        return self._settings.seats["consensus"].offer.tables is LEDGER_TABLES

    @asynccontextmanager
    async def running(self, store: Keeping) -> AsyncIterator[Particles]:
        """Run all parts while the block runs; yields the room of the particles.

        Args:
            store: is open, with the tables of :meth:`tables`.

        Raises:
            FluvialError: a part could not be built or started, two parts contribute the same thing, or a part failed, which cancels the block.
        """
        BLAME.set(self._guard.blame("unknown", "node"))
        self._build(store)
        licences = self._licence_desk(store)
        licensing = [self.parts.add(LICENCE_TABLES.name, licences)] if licences is not None else []
        service_room, particles = self._rooms(store, licences.charge if licences is not None else _unpaid)
        blobs = self.parts.add("blobs", self.blobs)
        relaying = self.parts.add("relaying", self.relaying)
        named = (("services", service_room), ("particles", particles), ("health", self._health_desk()))
        rooms = [self.parts.add(name, room) for name, room in named]
        async with AsyncExitStack() as lives:
            lives.callback(self._guard.close)
            await lives.enter_async_context(self.parts.living(self._seated["consensus"]))
            await lives.enter_async_context(self.parts.living(self._seated["authorization"]))
            run_transport = partial(self.transport.part.run, self.switchboard.receive, self)
            await lives.enter_async_context(self.parts.living(self._seated["transport"], run_transport))
            self._transport_started()
            await lives.enter_async_context(self.parts.living(self._seated["routing"]))
            await lives.enter_async_context(self.parts.living(blobs))
            await lives.enter_async_context(self.parts.living(relaying))
            await lives.enter_async_context(self.parts.living(self._seated["execution"]))
            await lives.enter_async_context(self.parts.extras())
            for room in (*licensing, *rooms):  # their own work has its own limits
                await lives.enter_async_context(self.parts.living(room, start_s=inf))
            for relay in self._settings.relays:
                self.transport.keep(relay)
            self.observers.capabilities_changed()
            yield particles

    def _transport_started(self) -> None:
        """From now on other peers can be asked."""
        self.peers.open()
        self._contact_peers.open()
        connected = Gauge("fluvial_peers_connected", "Peers with an open connection", registry=self._owner.metrics)
        connected.set_function(lambda: len(self.transport.connected()))

    # --- building

    def _build(self, store: Keeping) -> None:
        wrappers: Sequence[tuple[SeatName, Any]] = (
            ("consensus", self.consensus),
            ("authorization", self.authorization),
            ("transport", self.transport),
            ("routing", self.routing),
            ("execution", self.execution),
        )
        for seat, wrapper in wrappers:
            installed = self._seated[seat] = self._built(seat, self._settings.seats[seat], store)
            wrapper.take(installed.part, installed.plugin)
            self.parts.install(installed)
        for choice in self._settings.extras.values():
            try:
                installed = self._built("extra", choice, store)
            except FluvialError as error:
                self.parts.missing(f"extra {choice.kind}", choice.offer.plugin, error)
            else:
                self.parts.install(installed)

    def _built(self, kind: str, choice: Choice, store: Keeping) -> Installed:
        """A part with its contributions.

        Raises:
            FluvialError: as its factory raised it, or the factory failed in another way.
        """
        name, plugin = f"{kind} {choice.kind}", choice.offer.plugin
        context = self._context(name, kind, store)
        part = self._made(plugin, f"{name}: building it", lambda: choice.build(context))
        given = self._made(plugin, f"{name}.contributions", lambda: checked(part.contributions(), owner=name))
        return Installed(name, plugin, part, given, extra=kind == "extra")

    def _made(self, plugin: str, what: str, make: Callable[[], Any]) -> Any:
        try:
            return self._guard.run(plugin, what, make, passes=(FluvialError,))
        except PluginFailed as error:
            raise error.for_operator() from error.cause

    def _context(self, name: str, kind: str, store: Keeping) -> Context:
        return Context(
            name=name,
            keys=self._owner.keys,
            network=self._settings.network,
            clock=self._owner.clock,
            rng=random.Random(self._owner.rng.getrandbits(64)),  # noqa: S311 - no secrets
            metrics=self._owner.metrics,
            log=self._owner.log.bind(part=name),
            base_dir=self._settings.base_dir,
            peers=self._contact_peers if kind == "routing" else self.peers,
            database=store.part(name),
            trust=self.authorization,
            ledger=self.consensus,
            directory=self.directory,
            blobs=self.blobs.for_part(name),
            extensions=self.extensions,
        )

    def _licence_desk(self, store: Keeping) -> LicenceDesk | None:
        """Who lets licences pay for calls; nobody where there is no ledger."""
        if not self._has_ledger:
            return None
        from fluvial.licensing.desk import LicenceDesk  # and with it the ledger, which peers without one do not pay for

        section = self._settings.ledger
        return LicenceDesk(
            self._owner.keys,
            self._settings.base_dir / section.genesis,
            self.consensus,
            store.part(LICENCE_TABLES.name),
            prices=section.prices,
            served=self.services.kinds,
        )

    def _rooms(self, store: Keeping, charge: Charge) -> tuple[ServiceRoom, Particles]:
        """Core's own rooms."""
        settings, owner = self._settings, self._owner
        services = ServiceRoom(self.services, builtin=self._serve_builtins, offers=list(self._service_offers()))
        context = ParticleContext(
            keys=owner.keys,
            network=settings.network,
            limits=settings.particles,
            disk=settings.storage,
            condense=partial(condense, me=owner.keys.peer_id),
            relays=lambda: self.relaying.relays,
            hold=self.relaying.hold,
            store=store.particles,
            transport=self.transport,
            routing=self.routing,
            authorization=self.authorization,
            execution=self.execution,
            services=self.services,
            prices=settings.ledger.prices,
            charge=charge,
            on_run=owner.on_run,
            on_notice=owner.on_notice,
            clock=owner.clock,
            rng=owner.rng,
            observers=self.observers,
            metrics=owner.metrics,
            log=owner.log,
        )
        return services, Particles(context)

    def _health_desk(self) -> HealthDesk:
        return HealthDesk(
            self._owner.keys.peer_id,
            network=self._settings.network,
            clock=self._owner.clock,
            connected=self.transport.connected,
            findings=lambda: chain(self._owner.health(), self.parts.findings()),
        )

    # --- services

    async def _serve_builtins(self) -> None:
        owner = self._owner
        await serve_builtins(
            self.services,
            keys=owner.keys,
            transport=self.transport,
            routing=self.routing,
            clock=owner.clock,
            versions=Versions(node=__version__, air=AIR_VERSION),
            log=owner.log,
        )

    def _service_offers(self) -> Iterator[ServiceOffer]:
        """The services that parts contribute, in the order of building, then the effectors of the settings, then the owner's."""
        for one in self.parts:
            kind: Kind = "extra" if one.extra else "native" if one.part is self.execution.part else "builtin"
            on_failed = partial(self.parts.set_aside, one) if one.extra else None
            wanted = partial(_works, one)
            for service in one.given.services:
                yield ServiceOffer(effector=service, kind=kind, owner=one.plugin, on_failed=on_failed, wanted=wanted)
        for choice in self._settings.effectors.values():
            plugin = choice.offer.plugin
            effector = self._made(plugin, f"effector {choice.kind}: building it", partial(choice.build, None))
            yield ServiceOffer(effector=effector, kind="effector", owner=plugin)
        for effector in self._owner.serves:
            yield ServiceOffer(effector=effector, kind="native")

    def _served(self) -> Mapping[str, Iterable[str]]:
        """The services of this node that others may look for, by kind of capability."""
        kinds = self.services.kinds()
        native = [service for service, kind in kinds.items() if kind == "native"]
        return {
            "service": [*native, *self.execution.services()],
            "effector": [service for service, kind in kinds.items() if kind == "effector"],
        }

    # --- reports of the transport

    def peer_connected(self, contact: Contact) -> None:
        """Called by the transport."""
        self._owner.log.info("peer_connected", other=contact.peer)
        if contact.addresses:
            self.routing.learn(contact)
        self.observers.peer_connected(contact)

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """Called by the transport."""
        self.routing.proven(peer, address)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Called by the transport."""
        self._owner.log.info("peer_disconnected", other=peer)
        self.observers.peer_disconnected(peer)


async def _unpaid(call: Call, price: int) -> Decision:
    """Refuse a call that costs units."""
    return Decision(
        False, "licence", f"a call of {call.service[:80]} costs {price:,} units, and this peer holds no ledger"
    )


def _works(installed: Installed) -> bool:
    """Whether a part was not set aside."""
    return installed.failed is None
