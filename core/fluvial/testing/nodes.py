"""Whole nodes in one process: everything is real except the wire, which is memory, and, with the virtual event loop, the time.

::

    async def test_they_find_each_other(tmp_path):
        async with nodes("ada", "bob", base_dir=tmp_path, plugins={"kad": Path("kad.py")}, routing={"kind": "kad"}) as network:
            ada, bob = network["ada"], network["bob"]
            async with ada.run('(call bob ("op" "identity") ["hi"] x)', bob=bob.peer_id) as flow:
                ...

With the fixture ``anyio_backend`` of ``fluvial.virtual.loop.BACKEND`` a test runs under virtual time: an hour costs what its work costs,
and everything happens in the same order each time. Without it the same test runs in real time.

Keys, ports and all chance come from names and the seed. Nodes start one after another and stop all at once; each keeps its store in
memory and its blobs in a temporary folder, unless its sections say otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from logging import DEBUG
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from structlog.testing import LogCapture

from fluvial.addresses import Address, Contact
from fluvial.client import Client, Flow
from fluvial.clock import Clock
from fluvial.config import from_values, load
from fluvial.effectors import Effector
from fluvial.errors import root_cause
from fluvial.identity import KeyPair, PeerId
from fluvial.memory.network import HOST, Memory
from fluvial.memory.transport import MemoryPlugin
from fluvial.node import Node, running
from fluvial.plugins import Plugins, load_plugins
from fluvial.virtual.clock import LoopClock

NETWORK: Final = "test"
UNTIL_S: Final = 60.0
"""How long :func:`until` waits, of the event loop's time."""
LOOK_S: Final = 0.01


@dataclass(slots=True, eq=False)
class RunningNode:
    """A node that runs.

    Attributes:
        name: how the test calls it.
        node: the node.
        logged: what it has logged so far, as structlog's dictionaries, debug lines included.
    """

    name: str
    node: Node
    logged: Sequence[Mapping[str, Any]]
    _stop: anyio.Event = field(default_factory=anyio.Event)
    _over: anyio.Event = field(default_factory=anyio.Event)

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""
        return self.node.peer_id

    @property
    def contact(self) -> Contact:
        """How others reach it."""
        return Contact(self.peer_id, tuple(self.node.addresses))

    @property
    def address(self) -> str:
        """Its first address, as settings have it."""
        return str(self.node.addresses[0])

    def run(self, script: str, *, ttl_s: float = 30.0, until: Sequence[str] = ("return",), **values: Any) -> Flow:
        """Begin a flow here; see :meth:`fluvial.client.Client.run`."""
        return Client(self.node).run(script, ttl_s=ttl_s, until=until, **values)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if there is none."""
        return self.node.metrics.get_sample_value(name, labels) or 0.0

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """What was logged under a name."""
        return [entry for entry in self.logged if entry["event"] == name]


class NodeNetwork(Mapping[str, RunningNode]):
    """Nodes by name; made by :func:`nodes`.

    Attributes:
        memory: the network between those that use the transport ``memory``; cut it, slow it down, watch it.
    """

    def __init__(
        self,
        group: TaskGroup,
        *,
        base_dir: Path,
        memory: Memory,
        plugins: Plugins,
        sections: Mapping[str, Any],
        clock: Clock | None,
        seed: int,
    ) -> None:
        self.memory: Final = memory
        self._group = group
        self._base_dir = base_dir
        self._plugins = plugins
        self._sections = sections
        self._clock = clock or LoopClock()
        self._seed = seed
        self._ports: dict[str, int] = {}
        self._running: dict[str, RunningNode] = {}

    def __getitem__(self, name: str) -> RunningNode:
        """A node that runs now."""
        return self._running[name]

    def __iter__(self) -> Iterator[str]:
        """The names of those that run now, in the order of their starts."""
        return iter(list(self._running))

    def __len__(self) -> int:
        """How many run now."""
        return len(self._running)

    def address(self, name: str) -> str:
        """Where a node listens in memory, or will listen when it is started."""
        port = self._ports.setdefault(name, len(self._ports) + 1)
        return str(Address(host_kind="dns", host=HOST, port=port, peer=keys_of(name).peer_id))

    async def start(
        self, name: str, *, serves: Sequence[Effector[Any]] = (), clock: Clock | None = None, **sections: Any
    ) -> RunningNode:
        """Start a node, perhaps again.

        Args:
            name: decides on its keys and its port.
            serves: native services that it has from the first particle on.
            clock: another than that of all, for clocks that disagree.
            sections: of its config, instead of those that all have.

        Raises:
            FluvialError: it cannot start.
        """
        port = Address.parse(self.address(name)).port
        values = {
            "network": NETWORK,
            "transport": {"kind": "memory", "port": port},
            "storage": {"url": "sqlite://"},
            "blobs": {"folder": ""},
            **self._sections,
            **sections,
        }
        configuration = load(from_values(values, base_dir=self._base_dir), plugins=self._plugins)
        capture = LogCapture()
        log = structlog.wrap_logger(
            None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(DEBUG)
        )
        begin = partial(
            running,
            configuration,
            keys=keys_of(name),
            clock=clock or self._clock,
            rng=Random(f"{self._seed} {name}"),  # noqa: S311 - a simulation
            log=log,
            serves=serves,
        )
        started: RunningNode = await self._group.start(self._live, name, begin, capture.entries)
        return started

    async def stop(self, name: str) -> None:
        """Stop a node in order, and wait until it has."""
        one = self._running[name]
        one._stop.set()
        await one._over.wait()

    def introduce(self) -> None:
        """Let all that run now know each other's addresses."""
        for one in self._running.values():
            for other in self._running.values():
                if other is not one and other.contact.addresses:
                    one.node.routing.learn(other.contact)

    async def _live(
        self, name: str, begin: Any, logged: Sequence[Mapping[str, Any]], *, task_status: TaskStatus[RunningNode]
    ) -> None:
        async with begin() as node:
            one = self._running[name] = RunningNode(name, node, logged)
            task_status.started(one)
            try:
                await one._stop.wait()
            finally:
                del self._running[name]
        one._over.set()


@asynccontextmanager
async def nodes(
    *names: str,
    base_dir: Path,
    plugins: Mapping[str, object] = MappingProxyType({}),
    memory: Memory | None = None,
    clock: Clock | None = None,
    seed: int = 0,
    **sections: Any,
) -> AsyncIterator[NodeNetwork]:
    """Nodes that run while the block does, and know each other's addresses.

    Args:
        names: of those that are started at once; :meth:`NodeNetwork.start` starts more.
        base_dir: where relative paths start; a test's ``tmp_path``.
        plugins: by name, next to the installed ones: objects with hooks, or paths of one-file plugins.
        memory: the network between them; one without delays by default.
        clock: of all; by default it goes with the event loop.
        seed: of all chance.
        sections: of the config of each.

    Raises:
        FluvialError: a plugin cannot be used, or a node cannot start.
    """
    memory = memory or Memory(seed)
    loaded = load_plugins(given={"memory": MemoryPlugin(memory), **plugins})
    loaded.require_all()
    try:
        async with anyio.create_task_group() as group:
            network = NodeNetwork(
                group, base_dir=base_dir, memory=memory, plugins=loaded, sections=sections, clock=clock, seed=seed
            )
            for name in names:
                await network.start(name)
            network.introduce()
            yield network
            for name in reversed(list(network)):
                await network.stop(name)
    except BaseExceptionGroup as errors:
        raise root_cause(errors) from None


def keys_of(name: str) -> KeyPair:
    """The key pair of a node of this name, the same in every test; at most 32 bytes long."""
    return KeyPair.from_secret(name.encode().ljust(32, b"\0"))


async def until(true: Any, *, within_s: float = UNTIL_S) -> None:
    """Wait until a function returns a true value.

    Raises:
        TimeoutError: it did not within this time of the event loop.
    """
    with anyio.fail_after(within_s):
        while not true():  # noqa: ASYNC110 - whoever makes it true knows of no event
            await anyio.sleep(LOOK_S)
