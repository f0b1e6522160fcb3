"""One part without a node: real messages, a real database, and ports that do what a test says.

::

    network = Memory(seed=7)
    async with solo(Trust, Options(), kind="authorization", tables=TABLES, network=network) as one:
        async with solo(Trust, Options(), kind="authorization", tables=TABLES, network=network) as other:
            ...  # two parts that gossip

What surrounds the part is the kernel's own: the switchboard with its limits, ordered start and stop, hooks for its watchers, an in-memory
database with the part's tables. It works with real and with virtual time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Generic, TypeVar

import structlog
from anyio.abc import TaskStatus
from prometheus_client import CollectorRegistry
from structlog.testing import LogCapture

from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.effectors import NoConfig
from fluvial.guard import Guard
from fluvial.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair, PeerId
from fluvial.life import started
from fluvial.memory.network import Memory
from fluvial.memory.options import MemoryOptions
from fluvial.memory.transport import MemoryTransport
from fluvial.observers import Observers
from fluvial.peers import ContactPeers, DirectPeers
from fluvial.plugins import load_plugins
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Part, Routing
from fluvial.storage import Store, open_store
from fluvial.switchboard import Switchboard
from fluvial.tables import Tables
from fluvial.testing.blobs import KeptBlobs
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


@dataclass(slots=True, kw_only=True, eq=False)
class Surrounding:
    """What a test sees of a part's surroundings, and sets.

    Attributes:
        context: what the part gets.
        network: carries its messages.
        doors: of its ports; ``doors.fail()`` and ``doors.hang()`` show how it gets along without them.
        trust, ledger, directory, blobs, extensions: what stands behind those ports.
        guard: the kernel's, which calls the part.
        logged: what the part and the kernel around it have logged, as structlog's dictionaries.
    """

    context: Context
    network: Memory
    doors: PortDoors
    trust: WeightsTrust
    ledger: ValuesLedger
    directory: NamedDirectory
    blobs: KeptBlobs
    extensions: ListedExtensions
    logged: list[MutableMapping[str, Any]]
    guard: Guard
    _transport: GuardedTransport
    _routing: GuardedRouting
    _peers: DirectPeers
    _given: list[Contributions] = field(default_factory=list)

    @property
    def peer(self) -> PeerId:
        """Who the part is."""
        return self.context.keys.peer_id

    @property
    def contact(self) -> Contact:
        """How others reach it, while it runs."""
        return Contact(self.peer, tuple(self._transport.addresses))


@dataclass(slots=True, kw_only=True, eq=False)
class Solo(Generic[PartT]):
    """A part that runs.

    Attributes:
        part: itself.
        given: what it contributes.
        around: what it has around it.
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


def surrounding(
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
) -> Surrounding:
    """What is around a part that is not built yet. Its peers and its database work only inside of :func:`solo`.

    Args:
        name: of the part.
        kind: decides what it may use.
        network: one of its own by default.
        network_name: peers of different ones never talk to each other.
        keys: drawn from the seed by default.
        clock: the event loop's time by default, also with real time.
        base_dir: where relative paths of options start.
        store: where its database is.
        seed: of its randomness.
    """
    network = network if network is not None else Memory(seed)
    rng = Random(f"{seed} {name}")  # noqa: S311 - no secret
    keys = keys or KeyPair.from_secret(rng.randbytes(32))
    metrics, logged = CollectorRegistry(), LogCapture()
    log = structlog.wrap_logger(None, processors=[logged], wrapper_class=structlog.stdlib.BoundLogger)
    doors = PortDoors(kind)
    guard = Guard(log=log, metrics=metrics, rng=rng)
    transport, routing = GuardedTransport(guard, "transport"), GuardedRouting(guard, "routing")
    peers = (ContactPeers if kind == "routing" else DirectPeers)(transport, routing)
    given: list[Contributions] = []
    trust, ledger, extensions = WeightsTrust(), ValuesLedger(), ListedExtensions()
    directory = NamedDirectory(
        lambda: [one for of in given if of.capabilities is not None for one in of.capabilities()]
    )
    blobs = KeptBlobs(base_dir)
    context = closed_context(
        name,
        keys=keys,
        network=network_name,
        clock=clock or LoopClock(),
        seed=rng.getrandbits(64),
        metrics=metrics,
        log=log,
        base_dir=base_dir,
        peers=doors.door("peers", peers),
        database=doors.door("database", store and store.part(name)),
        trust=doors.door("trust", trust),
        ledger=doors.door("ledger", ledger),
        directory=doors.door("directory", directory),
        extensions=doors.door("extensions", extensions),
    )
    return Surrounding(
        context=context,
        network=network,
        doors=doors,
        trust=trust,
        ledger=ledger,
        directory=directory,
        blobs=blobs,
        extensions=extensions,
        logged=logged.entries,
        guard=guard,
        _transport=transport,
        _routing=routing,
        _peers=peers,
        _given=given,
    )


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
        kind: as for :func:`surrounding`.
        network: as for :func:`surrounding`.
        keys: as for :func:`surrounding`.
        clock: as for :func:`surrounding`.
        tables: those of its offer.
        base_dir: where relative paths of options start.
        seed: of its randomness.
        hangs: ports that hang from the start, as by ``doors.hang``.

    Raises:
        FluvialError: as a node would: its contributions or tables cannot be used, or the part failed.
    """
    async with open_store("sqlite://", base_dir=base_dir, tables=[tables] if tables else [], inline=True) as store:
        around = surrounding(
            name, kind=kind, network=network, keys=keys, clock=clock, base_dir=base_dir, store=store, seed=seed
        )
        part = factory(around.context, NoConfig() if options is None else options)
        given = part.contributions()
        around._given.append(given)
        switchboard = Switchboard(guard=around.guard, metrics=around.context.metrics)
        switchboard.connect(given.answers, owner=name)
        observers = _observers(around, given)
        transport = MemoryTransport(around.network, around.context, MemoryOptions())
        routing: Any = part if kind == "routing" else _WholeNetwork(around.network)
        around._transport.take(transport, "memory")
        around._routing.take(routing, name)

        async def run_transport(*, task_status: TaskStatus[None]) -> None:
            await transport.run(switchboard.receive, observers, task_status=task_status)

        async def close() -> None:
            await switchboard.close(given.answers)

        around.doors.open = True
        if hangs:
            around.doors.hang(*hangs)
        log = around.context.log
        async with started("transport memory", run_transport, log=log):
            around._peers.open()
            async with started(name, part.run, log=log, close=close):
                switchboard.open(given.answers)
                yield Solo(part=part, given=given, around=around)


def _observers(around: Surrounding, given: Contributions) -> Observers:
    context = around.context
    nobody = load_plugins(entry_points=())
    observers = Observers(around.peer, nobody, log=context.log, metrics=context.metrics)
    for watcher in given.watchers:
        observers.add(watcher, owner=context.name)
    return observers


class _WholeNetwork(Routing):
    """The routing of a part that is none itself: finds whoever listens in the network."""

    def __init__(self, network: Memory) -> None:
        self._network = network

    async def find(self, peer: PeerId) -> Contact | None:
        """As :meth:`Routing.find`."""
        return self._network.find(peer)

    def learn(self, contact: Contact) -> None:
        """Nothing is to be learnt."""

    def contacts(self) -> list[Contact]:
        """Whoever listens."""
        return self._network.contacts()

    async def providers(self, capability: Capability, *, limit: int) -> list[Any]:
        """Nobody."""
        return []
