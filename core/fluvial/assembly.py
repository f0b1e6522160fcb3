"""Puts a node's parts together: builds them, reads what they give, starts them one after the other, stops them in the opposite order.

==== ========================= ====================================================================
step part                      may count on
==== ========================= ====================================================================
1    consensus                 the database
2    authorization             the ledger
3    transport                 weights; from here on others can be asked
4    routing                   the transport
5    blobs, execution, extras  all above
6    services                  all above: built-in, contributed, effectors, native
7    particles                 the services
==== ========================= ====================================================================

All parts are built before any starts, without I/O, and what they give is read once. A part in a seat that fails ends the node, in order; an extra
that fails is set aside alone, with all that it gave.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import anyio
import msgspec
import structlog
from prometheus_client import CollectorRegistry

from fluvial.clock import Clock
from fluvial.config import Choice, Configuration
from fluvial.detached import Detached
from fluvial.directory import NodeDirectory
from fluvial.errors import FluvialError
from fluvial.findings import Finding
from fluvial.guard import Guard, PluginFailed
from fluvial.guarded import (
    GuardedAuthorization,
    GuardedConsensus,
    GuardedExecution,
    GuardedRouting,
    GuardedTransport,
)
from fluvial.identity import KeyPair
from fluvial.life import START_S, Life, Run, started
from fluvial.observers import Observers
from fluvial.peers import ContactPeers, DirectPeers
from fluvial.ports import Context
from fluvial.seats import Contributions, Part, SeatName
from fluvial.services import Accounts, Limits, Services
from fluvial.services.accounts import Kind
from fluvial.services.room import ServiceOffer
from fluvial.storage import Store
from fluvial.switchboard import Switchboard
from fluvial.tables import Tables, distinct

T = TypeVar("T")

FINDINGS_MAX: Final = 100
"""Of one part."""


class GivenExtensions:
    """What stands behind the port ``extensions``."""

    def __init__(self) -> None:
        self._given: list[tuple[str, object]] = []

    def add(self, owner: str, given: Sequence[object]) -> None:
        """What a part gives."""
        self._given += [(owner, one) for one in given]

    def withdraw(self, owner: str) -> None:
        """Forget what a part has given."""
        self._given = [(of, one) for of, one in self._given if of != owner]

    def all(self, kind: type[T]) -> Sequence[T]:
        """As :meth:`Extensions.all`."""
        return [one for _, one in self._given if isinstance(one, kind)]


@dataclass(slots=True, eq=False)
class Installed:
    """A part in its place.

    Attributes:
        name: how messages call it: ``routing static``.
        plugin: whose code it is, for log and metrics.
        part: itself.
        given: its contributions.
        foreign: whether it is a plugin's; core's own rooms are not guarded.
        extra: whether the node can do without it.
        failed: why it was set aside, if it was.
        life: of an extra that was started.
    """

    name: str
    plugin: str
    part: Any
    given: Contributions = field(default_factory=Contributions)
    foreign: bool = True
    extra: bool = False
    failed: FluvialError | None = None
    life: Life | None = None


class Assembly:
    """A node's parts.

    Args:
        configuration: checked settings and the plugins.
        keys: the node's key pair.
        clock, rng, metrics, log: as usual.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        keys: KeyPair,
        clock: Clock,
        rng: random.Random,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        settings = self._settings = configuration.settings
        self._keys = keys
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._log = log
        self._parts: list[Installed] = []
        self._leaving: list[Detached[None]] = []
        guard = self._guard = Guard(log=log, metrics=metrics, rng=rng)
        self.transport: Final = GuardedTransport(guard, "transport")
        self.routing: Final = GuardedRouting(guard, "routing")
        self.authorization: Final = GuardedAuthorization(guard, "authorization")
        self.execution: Final = GuardedExecution(guard, "execution")
        self.consensus: Final = GuardedConsensus(guard, "consensus")
        self.observers: Final = Observers(keys.peer_id, configuration.plugins, log=log, metrics=metrics)
        self.switchboard: Final = Switchboard(guard=guard, metrics=metrics)
        self.peers: Final = DirectPeers(self.transport, self.routing)
        self._contact_peers = ContactPeers(self.transport, self.routing)
        self.services: Final = Services(
            peer=keys.peer_id,
            accounts=Accounts(metrics=metrics, clock=clock),
            log=log,
            guard=guard,
            execution=self.execution,
            limits=Limits(**msgspec.structs.asdict(settings.services)),
        )
        self.extensions: Final = GivenExtensions()
        self.directory: Final = NodeDirectory(
            keys.peer_id, routing=self.routing, trust=self.authorization, guard=guard, services=self._served
        )

    # --- building

    def tables(self) -> Sequence[Tables]:
        """The tables of the offers that the settings name.

        Raises:
            PluginError: two of them have different tables of one name.
        """
        offers = [choice.offer for choice in (*self._settings.seats.values(), *self._settings.extras.values())]
        return distinct((f"{one.kind} {one.name} ({one.distribution})", one.tables) for one in offers if one.tables)

    def build(self, store: Store) -> None:
        """Build the parts that the settings name, and read what they give.

        Args:
            store: is open.

        Raises:
            FluvialError: a part in a seat could not be built, or two parts give what only one can.
        """
        wrappers: Sequence[tuple[SeatName, Any]] = (
            ("consensus", self.consensus),
            ("authorization", self.authorization),
            ("transport", self.transport),
            ("routing", self.routing),
            ("execution", self.execution),
        )
        for seat, wrapper in wrappers:
            installed = self._built(seat, self._settings.seats[seat], store)
            wrapper.take(installed.part, installed.plugin)
        for choice in self._settings.extras.values():
            try:
                self._built("extra", choice, store)
            except FluvialError as error:
                self._log.error(
                    "part_set_aside", part=f"extra {choice.kind}", plugin=choice.offer.plugin, error=str(error)
                )
                self._parts.append(
                    Installed(f"extra {choice.kind}", choice.offer.plugin, Part, failed=error, extra=True)
                )

    def _built(self, kind: str, choice: Choice, store: Store) -> Installed:
        """A part, and what it gives.

        Raises:
            FluvialError: its factory raised one, or it failed.
        """
        name, plugin = f"{kind} {choice.kind}", choice.offer.plugin
        context = self._context(name, kind, store)
        part = self._made(plugin, f"{name}: building it", lambda: choice.build(context))
        given = self._made(plugin, f"{name}.contributions", lambda: part.contributions())
        if not isinstance(given, Contributions):
            raise self._guard.wrong(plugin, f"{name}.contributions", given)
        installed = Installed(name, plugin, part, given, extra=kind == "extra")
        self._install(installed)
        return installed

    def _made(self, plugin: str, what: str, make: Callable[[], Any]) -> Any:
        try:
            return self._guard.run(plugin, what, make)
        except PluginFailed as error:
            raise error.for_operator() from error.cause

    def add(self, name: str, part: Part) -> Installed:
        """Install one of core's own rooms."""
        installed = Installed(name, "core", part, part.contributions(), foreign=False)
        self._install(installed)
        return installed

    def _install(self, installed: Installed) -> None:
        given, name = installed.given, installed.name
        self.switchboard.connect(given.answers, owner=name, foreign=installed.foreign)
        if given.capabilities is not None:
            self.directory.declare(name, given.capabilities)
        self.extensions.add(name, given.extensions)
        self._parts.append(installed)

    def _context(self, name: str, kind: str, store: Store) -> Context:
        return Context(
            name=name,
            keys=self._keys,
            network=self._settings.network,
            clock=self._clock,
            rng=random.Random(self._rng.getrandbits(64)),  # noqa: S311 - no secrets
            metrics=self._metrics,
            log=self._log.bind(part=name),
            base_dir=self._settings.base_dir,
            peers=self._contact_peers if kind == "routing" else self.peers,
            database=store.part(name),
            trust=self.authorization,
            ledger=self.consensus,
            directory=self.directory,
            extensions=self.extensions,
        )

    # --- life

    def peers_open(self) -> None:
        """The transport has started: parts can ask other peers."""
        self.peers.open()
        self._contact_peers.open()

    @asynccontextmanager
    async def seat(self, seat: SeatName, run: Run | None = None) -> AsyncIterator[None]:
        """Whoever sits in a seat lives while the block runs.

        Args:
            seat: which.
            run: its work, if it needs more than a part's.

        Raises:
            FluvialError: what it raised; the block has been cancelled then.
        """
        installed = next(one for one in self._parts if one.name.startswith(f"{seat} "))
        async with self.living(installed, run):
            yield

    @asynccontextmanager
    async def living(
        self, installed: Installed, run: Run | None = None, *, start_s: float = START_S
    ) -> AsyncIterator[None]:
        """A part lives while the block runs; raises as :meth:`seat`."""
        life = started(
            f"{installed.name} ({installed.plugin})",
            run or installed.part.run,
            log=self._log,
            start_s=start_s,
            close=lambda: self._close(installed),
        )
        async with life:
            self._open(installed)
            yield

    @asynccontextmanager
    async def extras(self) -> AsyncIterator[None]:
        """The extras live while the block runs; one that fails is set aside, and the others go on."""
        async with AsyncExitStack() as lives:
            for installed in [one for one in self._parts if one.extra and one.failed is None]:
                await lives.enter_async_context(self._extra(installed))
            yield

    @asynccontextmanager
    async def _extra(self, installed: Installed) -> AsyncIterator[None]:
        life = installed.life = Life(
            f"{installed.name} ({installed.plugin})",
            installed.part.run,
            log=self._log,
            on_failed=lambda error: self.set_aside(installed, error),
        )
        try:
            await life.start()
            self._open(installed)
        except FluvialError as error:
            self.set_aside(installed, error)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._close(installed)
                await life.stop()

    def set_aside(self, installed: Installed, error: FluvialError) -> None:
        """Go on without an extra: nothing of what it gave is left."""
        if installed.failed is not None:
            return
        installed.failed = error
        self._log.error("part_set_aside", part=installed.name, plugin=installed.plugin, error=str(error))
        given = installed.given
        self.switchboard.disconnect(given.answers)
        self.directory.withdraw(installed.name)
        self.extensions.withdraw(installed.name)
        for watcher in given.watchers:
            self.observers.remove(watcher)
        self._leaving.append(Detached(lambda: self._leave(installed), installed.name))
        self.observers.capabilities_changed()

    async def _leave(self, installed: Installed) -> None:
        """What takes time when an extra is set aside."""
        for service in installed.given.services:
            if self.services.serves(service):
                await self.services.withdraw(service.service_id)
        if installed.life is not None:
            await installed.life.stop()

    def _open(self, installed: Installed) -> None:
        """A part has started: it can be asked, and hears what happens."""
        for watcher in installed.given.watchers:
            self.observers.add(watcher, owner=installed.name)
        self.switchboard.open(installed.given.answers)

    async def _close(self, installed: Installed) -> None:
        """A part is going to stop: it is asked nothing more, and what it is answering is waited for."""
        await self.switchboard.close(installed.given.answers)
        for watcher in installed.given.watchers:
            self.observers.remove(watcher)

    # --- what parts give

    def service_offers(self) -> Iterator[ServiceOffer]:
        """The services that parts give, in the order of building, then the effectors of the settings."""
        for one in self._parts:
            if one.failed is None:
                kind: Kind = "native" if one.part is self.execution.part else "builtin"
                on_failed = partial(self.set_aside, one) if one.extra else None
                for service in one.given.services:
                    yield ServiceOffer(effector=service, kind=kind, owner=one.plugin, on_failed=on_failed)
        for choice in self._settings.effectors.values():
            plugin = choice.offer.plugin
            effector = self._made(plugin, f"effector {choice.kind}: building it", partial(choice.build, None))
            yield ServiceOffer(effector=effector, kind="effector", owner=plugin)

    def _served(self) -> Mapping[str, Iterable[str]]:
        """The services of this node that others may look for, by kind of capability."""
        kinds = self.services.kinds()
        native = [service for service, kind in kinds.items() if kind == "native"]
        return {
            "service": [*native, *self.execution.services()],
            "effector": [service for service, kind in kinds.items() if kind == "effector"],
        }

    def findings(self) -> Iterator[Finding]:
        """How the parts are."""
        for one in self._parts:
            if (error := one.failed) is not None:
                text = f"it was set aside: {error.message}"
                yield Finding(level="fail", subject=one.name, text=text, hint=error.hint, code=error.code)
            elif (health := one.given.health) is not None:
                yield from self._health(one, health)

    def _health(self, installed: Installed, health: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
        name = installed.name
        failed: Sequence[Finding] = (
            Finding(level="fail", text="its own check failed", hint="the peer's log has the cause"),
        )
        for found in self._guard.ask(installed.plugin, f"{name}.health", lambda: _checked(health()), failed):
            yield found if found.subject else msgspec.structs.replace(found, subject=name)


def _checked(findings: Iterable[Finding]) -> Sequence[Finding]:
    kept = list(islice(findings, FINDINGS_MAX))
    if not all(isinstance(one, Finding) for one in kept):
        raise TypeError("a part's health yields something else than findings")
    return kept
