"""Whole peers in this process: real TCP on the loopback, real SQLite, and an ear for what they say."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from fluvial import hookimpl
from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.config import from_values, load
from fluvial.effectors import Effector, EffectorError, NoConfig, function
from fluvial.identity import KeyPair, PeerId
from fluvial.node import Node, running
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt
from fluvial.plugins import load_plugins
from fluvial.telemetry import make_logger

NETWORK: Final = "test"
LISTEN: Final = "/ip4/127.0.0.1/tcp/0"
WAIT_S: Final = 60.0
"""Longer than anything here takes on a busy machine."""


def keys_of(name: str) -> KeyPair:
    """The key pair of a peer with this name, the same in every run."""
    return KeyPair.from_secret(name.encode().ljust(32, b"\0"))


def id_of(name: str) -> PeerId:
    """The peer id of a peer with this name."""
    return keys_of(name).peer_id


class Watcher:
    """A plugin that remembers what the hooks told it."""

    def __init__(self) -> None:
        self.refused: list[tuple[PeerId, str, str]] = []
        self.received: list[str] = []
        self.calls: list[tuple[str, str, int]] = []
        self.noticed: list[tuple[str, PeerId, int, str]] = []

    @hookimpl
    def fluvial_particle_refused(self, sender: PeerId, particle_id: str, reason: str) -> None:
        self.refused.append((sender, particle_id, reason))

    @hookimpl
    def fluvial_particle_received(self, particle: Particle) -> None:
        self.received.append(particle.id)

    @hookimpl
    def fluvial_failure_noticed(self, particle: Particle, peer: PeerId, code: int, message: str) -> None:
        self.noticed.append((particle.id, peer, code, message))

    @hookimpl
    def fluvial_call_done(self, call: Any, status: int) -> None:
        self.calls.append((call.service, call.function, status))


@dataclass
class Peer:
    """A running node, its watcher and its log."""

    node: Node
    watcher: Watcher
    _log: io.StringIO = field(repr=False)

    @property
    def peer_id(self) -> PeerId:
        return self.node.peer_id

    @property
    def address(self) -> str:
        """Where it can be dialled."""
        return str(self.node.addresses[0])

    def metric(self, name: str, **labels: str) -> float:
        return self.node.metrics.get_sample_value(name, labels) or 0.0

    def outcomes(self, outcome: str) -> float:
        """How many particles were handed to it with this outcome."""
        return self.metric("fluvial_particles_total", outcome=outcome)

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log events of a name."""
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    async def deliver(self, delivery: Delivery, to: Peer) -> Receipt:
        """Hand a delivery over as any peer could that speaks the protocol: nothing is checked on this side."""
        return await self.deliver_bytes(encode_delivery(delivery), to)

    async def deliver_bytes(self, payload: bytes, to: Peer) -> Receipt:
        """As :meth:`deliver`, with whatever bytes."""
        contact = Contact.parse(to.address)
        return decode_receipt(await self.node.transport.request(contact, PROTOCOL, payload, timeout_s=WAIT_S))


@asynccontextmanager
async def peer(
    name: str,
    folder: Path,
    *,
    listen: str | None = LISTEN,
    knows: Sequence[Peer] = (),
    relays: Sequence[Peer] = (),
    serves: Sequence[Effector[Any]] = (),
    clock: Clock | None = None,
    network: str = NETWORK,
    **sections: Mapping[str, Any],
) -> AsyncIterator[Peer]:
    """A peer for the time of a block; the same name and folder again is the same peer after a restart.

    Args:
        name: gives it its keys and its database.
        folder: where the database and the blobs lie.
        listen: its address; None for one that only dials.
        knows: peers whose addresses are in its config.
        relays: peers that it stays connected to.
        serves: its services.
        clock: the machine's by default.
        network: name of the network.
        sections: further tables of its config.
    """
    values = {
        "network": network,
        "relays": [one.address for one in relays],
        "transport": {"listen": [] if listen is None else [listen], "reconnect_min_s": 0.05},
        "routing": {"kind": "static", "peers": [one.address for one in knows]},
        "storage": {"url": f"sqlite:///{name}.db"},
        "blobs": {"folder": f"{name}.blobs"},
        **sections,
    }
    plugins, watcher, log = load_plugins(), Watcher(), io.StringIO()
    plugins.manager.register(watcher, "watcher")
    configuration = load(from_values(values, base_dir=folder), plugins=plugins)
    logger = make_logger(log_format="json", log_level="debug", file=log)
    async with running(configuration, keys=keys_of(name), clock=clock, log=logger, serves=serves) as node:
        await until(lambda: {one.peer_id for one in relays} <= node.transport.connected())
        yield Peer(node, watcher, log)


async def until(true: Callable[[], object], *, within_s: float = WAIT_S) -> None:
    """Wait until something that nobody tells of has come about."""
    with anyio.fail_after(within_s):
        while not true():  # noqa: ASYNC110 - see above
            await anyio.sleep(0.005)


class Work(Effector[NoConfig]):
    """A service that counts its calls and can be made to take its time."""

    service_id = "work"

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []
        self.held = 0
        self.ended_early = 0
        self.open = anyio.Event()

    @function
    async def step(self, value: int) -> int:
        """The next number."""
        self.done.append(value)
        return value + 1

    @function
    async def hold(self, value: int) -> int:
        """The next number, when the test opens the gate."""
        self.held += 1
        try:
            await self.open.wait()
        except anyio.get_cancelled_exc_class():
            self.ended_early += 1
            raise
        self.done.append(value)
        return value + 1

    @function
    async def fail(self, text: str) -> None:
        """A service's own error."""
        raise EffectorError(418, text)


def chain(peer_ids: Sequence[str], *, service: str = "work", function: str = "step") -> str:
    """A script that hands a number, which begins as 0, along these peers, each adding one, and returns it."""
    calls = [
        f'(call "{one}" ("{service}" "{function}") [{f"v{number}" if number else 0}] v{number + 1})'
        for number, one in enumerate(peer_ids)
    ]
    script = f'(call %init_peer_id% ("return" "") [v{len(calls)}])'
    for call in reversed(calls):
        script = f"(seq {call}\n{script})"
    return script
