"""One part without a node: real messages, a real database, and ports that do what a test says.

::

    network = Memory(seed=7)
    async with solo(Trust, Options(), kind="authorization", tables=TABLES, network=network) as one:
        async with solo(Trust, Options(), kind="authorization", tables=TABLES, network=network) as other:
            ...  # two parts that gossip

What surrounds the part is the kernel's own: the switchboard with its limits, ordered start and stop, hooks for its watchers, blobs, an in-memory
database with the part's tables. It works with real and with virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from logging import DEBUG
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, TypeVar

import structlog
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from fluvial.addresses import Address, Contact
from fluvial.assembly.life import started
from fluvial.assembly.peers import ContactPeers, DirectPeers
from fluvial.assembly.switchboard import Switchboard
from fluvial.blobs.room import BlobRoom
from fluvial.blobs.settings import BlobsSection
from fluvial.clock import Clock
from fluvial.effectors import NoConfig
from fluvial.guard.guard import Guard
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair, PeerId
from fluvial.memory.network import Memory
from fluvial.memory.options import MemoryOptions
from fluvial.memory.transport import MemoryTransport
from fluvial.observers import Observers
from fluvial.plugins import load_plugins
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Part, Routing
from fluvial.storage import Store, open_store
from fluvial.tables import Tables
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import (
    ListedExtensions,
    NamedDirectory,
    PartKind,
    PortDoors,
    ValuesLedger,
    WeightsTrust,
)
from fluvial.virtual.clock import LoopClock

PartT = TypeVar("PartT", bound=Part)

NETWORK: Final = "test"


class Surrounding:
    """The surroundings of one part, which a test reads and sets. Peers and database work only inside of :func:`solo`.

    Args:
        name: of the part.
        kind: decides what it may use.
        network: carries its messages; one of its own by default.
        network_name: peers of different ones never talk to each other.
        keys: drawn from the seed by default.
        clock: the event loop's time by default, also with real time.
        base_dir: where relative paths of options start.
        store: where its database is.
        seed: of its randomness.

    Attributes:
        context: what the part gets.
        network: carries its messages.
        doors: of its ports; ``doors.fail()`` and ``doors.hang()`` show how it gets along without them.
        trust, ledger, directory, extensions: the implementations of those ports.
        logged: what the part and the kernel around it have logged, as structlog's dictionaries.
        guard: the kernel's, which calls the part.
    """

    def __init__(
        self,
        name: str = "under-test",
        *,
        kind: PartKind = "extra",
        network: Memory | None = None,
        network_name: str = NETWORK,
        keys: KeyPair | None = None,
        clock: Clock | None = None,
        base_dir: Path = Path(),
        store: Store | None = None,
        seed: int = 0,
    ) -> None:
        rng = Random(f"{seed} {name}")  # noqa: S311 - no secret
        keys, clock = keys or KeyPair.from_secret(rng.randbytes(32)), clock or LoopClock()
        metrics, capture = CollectorRegistry(), LogCapture()
        log = structlog.wrap_logger(
            None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(DEBUG)
        )
        self.network: Final = network if network is not None else Memory(seed)
        self.doors: Final = PortDoors(kind)
        self.trust: Final = WeightsTrust()
        self.ledger: Final = ValuesLedger()
        self.directory: Final = NamedDirectory(self._capabilities)
        self.extensions: Final = ListedExtensions()
        self.logged: Final[list[MutableMapping[str, Any]]] = capture.entries
        self.guard: Final = Guard(log=log, metrics=metrics, rng=rng)
        self._transport = GuardedTransport(self.guard, "transport")
        self._routing = GuardedRouting(self.guard, "routing")
        self._peers = (ContactPeers if kind == "routing" else DirectPeers)(self._transport, self._routing)
        self._given = Contributions()
        self._blobs = BlobRoom(
            keys.peer_id,
            BlobsSection(folder=""),
            base_dir=base_dir,
            peers=self._peers,
            directory=self.directory,
            clock=clock,
            metrics=metrics,
            log=log,
        )
        ports = {
            "peers": self._peers,
            "database": store and store.part(name),
            "trust": self.trust,
            "ledger": self.ledger,
            "directory": self.directory,
            "blobs": self._blobs.for_part(name),
            "extensions": self.extensions,
        }
        self.context: Final = closed_context(
            name,
            keys=keys,
            network=network_name,
            clock=clock,
            seed=rng.getrandbits(64),
            metrics=metrics,
            log=log,
            base_dir=base_dir,
            **{port: self.doors.door(port, behind) for port, behind in ports.items()},
        )

    @property
    def peer(self) -> PeerId:
        """Who the part is."""
        return self.context.keys.peer_id

    @property
    def contact(self) -> Contact:
        """How others reach it, while it runs."""
        return Contact(self.peer, tuple(self._transport.addresses))

    @asynccontextmanager
    async def living(self, part: Any, given: Contributions) -> AsyncIterator[None]:
        """Run the part while the block runs: started, asked and stopped as in a node.

        Raises:
            FluvialError: its contributions cannot be used, or it failed.
        """
        name, log = self.context.name, self.context.log
        self._given = given
        switchboard = Switchboard(guard=self.guard, metrics=self.context.metrics)
        served = self._blobs.contributions().answers
        switchboard.connect(served, owner="blobs", plugin="blobs", foreign=False)
        switchboard.connect(given.answers, owner=name, plugin=name)
        observers = self._observers(given)
        transport = MemoryTransport(self.network, self.context, MemoryOptions())
        self._transport.take(transport, "memory")
        self._routing.take(part if self.doors.kind == "routing" else _WholeNetwork(self.network), name)

        reports = _Reports(observers, self._routing)

        async def run_transport(*, task_status: TaskStatus[None]) -> None:
            await transport.run(switchboard.receive, reports, task_status=task_status)

        self.doors.open = True
        async with started("transport memory", run_transport, log=log):
            self._peers.open()
            async with started("blobs", self._blobs.run, log=log, close=lambda: switchboard.close(served)):
                switchboard.open(served)
                async with started(name, part.run, log=log, close=lambda: switchboard.close(given.answers)):
                    switchboard.open(given.answers)
                    yield

    def _observers(self, given: Contributions) -> Observers:
        nobody = load_plugins(entry_points=())
        observers = Observers(self.peer, nobody, log=self.context.log, metrics=self.context.metrics)
        for watcher in given.watchers:
            observers.add(watcher, owner=self.context.name, plugin=self.context.name)
        return observers

    def _capabilities(self) -> Iterable[Capability]:
        return self._given.capabilities() if self._given.capabilities is not None else ()


@dataclass(slots=True, kw_only=True, eq=False)
class Solo(Generic[PartT]):
    """A part that runs.

    Attributes:
        part: the part.
        given: what it contributes.
        around: its surroundings.
    """

    part: PartT
    given: Contributions
    around: Surrounding

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        return self.around.peer

    @property
    def contact(self) -> Contact:
        """How others reach it."""
        return self.around.contact

    def metric(self, name: str, **labels: str) -> float:
        """The value of one of its metrics; 0 if it has none of this name."""
        return self.around.context.metrics.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def solo(
    factory: Callable[[Context, Any], PartT],
    options: Any = None,
    *,
    name: str = "under-test",
    kind: PartKind = "extra",
    network: Memory | None = None,
    keys: KeyPair | None = None,
    clock: Clock | None = None,
    tables: Tables | None = None,
    base_dir: Path = Path(),
    seed: int = 0,
    hangs: Sequence[str] = (),
) -> AsyncIterator[Solo[PartT]]:
    """A part that runs while the block does.

    Args:
        factory: builds it, as in its offer; not for transports, which ``TransportConformance`` runs.
        options: of its section; none by default.
        name: of the part; different parts of one network need different names or keys.
        kind: as for :class:`Surrounding`.
        network: as for :class:`Surrounding`.
        keys: as for :class:`Surrounding`.
        clock: as for :class:`Surrounding`.
        tables: those of its offer.
        base_dir: where relative paths of options start.
        seed: of its randomness.
        hangs: ports that hang from the start, as by ``doors.hang``.

    Raises:
        FluvialError: as a node would: its contributions or tables cannot be used, or the part failed.
    """
    async with open_store("sqlite://", base_dir=base_dir, tables=[tables] if tables else [], inline=True) as store:
        around = Surrounding(
            name, kind=kind, network=network, keys=keys, clock=clock, base_dir=base_dir, store=store, seed=seed
        )
        part = factory(around.context, NoConfig() if options is None else options)
        given = part.contributions()
        if hangs:
            around.doors.hang(*hangs)
        async with around.living(part, given):
            yield Solo(part=part, given=given, around=around)


class _Reports:
    """Takes what the transport sees to the routing and the watchers, as a node does."""

    def __init__(self, observers: Observers, routing: GuardedRouting) -> None:
        self._observers = observers
        self._routing = routing

    def peer_connected(self, contact: Contact) -> None:
        if contact.addresses:
            self._routing.learn(contact)
        self._observers.peer_connected(contact)

    def address_proven(self, peer: PeerId, address: Address) -> None:
        self._routing.proven(peer, address)

    def peer_disconnected(self, peer: PeerId) -> None:
        self._observers.peer_disconnected(peer)


class _WholeNetwork(Routing):
    """The routing for a part that is no routing itself: finds every peer that listens in the network."""

    def __init__(self, network: Memory) -> None:
        self._network = network

    async def find(self, peer: PeerId) -> Contact | None:
        """As :meth:`Routing.find`."""
        return self._network.find(peer)

    def learn(self, contact: Contact) -> None:
        """Does nothing: it finds all peers without learning."""

    def contacts(self) -> list[Contact]:
        """Whoever listens."""
        return self._network.contacts()

    async def providers(self, capability: Capability, *, limit: int) -> list[Any]:
        """Nobody."""
        return []
