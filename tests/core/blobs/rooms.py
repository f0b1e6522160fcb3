"""Rooms of blobs that reach each other in memory, and peers that lie."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import TaskStatus
from fluvial.addresses import Contact
from fluvial.blob_id import BlobId
from fluvial.blobs.room import BlobRoom, PartBlobs
from fluvial.blobs.settings import BlobsSection
from fluvial.blobs.wire import PROTOCOL, PieceRequest, decode_request
from fluvial.clock import Clock, ManualClock
from fluvial.errors import FluvialError, RemoteProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Capability, Provider
from fluvial.telemetry import make_logger
from prometheus_client import CollectorRegistry

from tests.support.nodes import id_of

Handle: TypeAlias = Callable[[PeerId, bytes], Awaitable[bytes]]
START_MS: Final = 1_700_000_000_000


@dataclass
class Network:
    """Who answers requests, and how many each one got.

    Attributes:
        before_request: what the asking node itself does first, by whom it asks; it may fail.
        before_lookup: what the directory does first; it may fail.
    """

    handlers: dict[PeerId, Handle] = field(default_factory=dict)
    requests: Counter[PeerId] = field(default_factory=Counter)
    providers: dict[BlobId, list[PeerId]] = field(default_factory=dict)
    lookups: int = 0
    before_request: dict[PeerId, Callable[[], None]] = field(default_factory=dict)
    before_lookup: Callable[[], None] = lambda: None

    def liar(self, name: str, handle: Handle) -> PeerId:
        """A peer that answers with whatever ``handle`` returns."""
        self.handlers[id_of(name)] = handle
        return id_of(name)

    def through(self, name: str, change: Callable[[PieceRequest, bytes], bytes]) -> PeerId:
        """Put something between a peer and those who ask it: what it answers is changed on the way."""
        honest = self.handlers[id_of(name)]

        async def handle(sender: PeerId, payload: bytes) -> bytes:
            _, request = decode_request(payload)
            return change(request, await honest(sender, payload))

        return self.liar(name, handle)


class MemoryPeers:
    """The port ``peers`` of one room."""

    def __init__(self, network: Network, own: PeerId) -> None:
        self._network = network
        self._own = own

    async def request(self, to: PeerId | Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        peer = to.peer if isinstance(to, Contact) else to
        assert protocol == PROTOCOL
        assert len(payload) < 128
        self._network.requests[peer] += 1
        if (before := self._network.before_request.get(peer)) is not None:
            before()
        handle = self._network.handlers.get(peer)
        if handle is None:
            raise Unreachable(f"no way to {peer} is known")
        with anyio.move_on_after(timeout_s):
            await anyio.lowlevel.checkpoint()
            try:
                return await handle(self._own, payload)
            except Unreachable:
                raise
            except FluvialError as error:
                raise RemoteProtocolError(f"{peer} answered {protocol} with {error.code}: {error.message}") from error
        raise Unreachable(f"{peer} did not answer within {timeout_s:g} s")

    async def send(self, to: PeerId | Contact, protocol: str, payload: bytes) -> None:
        raise AssertionError("blobs are asked for, never sent")

    def connected(self) -> frozenset[PeerId]:
        return frozenset(self._network.handlers)


class MemoryDirectory:
    """The port ``directory``: what the test put into the network."""

    def __init__(self, network: Network) -> None:
        self._network = network

    async def find(self, capability: Capability, *, limit: int = 8) -> Sequence[Provider]:
        self._network.lookups += 1
        self._network.before_lookup()
        found = self._network.providers.get(BlobId.parse(capability.name), [])
        return [Provider(contact=Contact(peer)) for peer in found[:limit]]

    def own(self) -> frozenset[Capability]:
        return frozenset()


@dataclass
class Room:
    """A running room."""

    peer: PeerId
    room: BlobRoom
    blobs: PartBlobs
    folder: Path
    metrics: CollectorRegistry
    changes: list[frozenset[Capability]]
    _log: io.StringIO

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(f"fluvial_blobs_{name}", labels) or 0.0

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == name]

    def files(self) -> set[str]:
        """The names in the folder but for the lock, ids shortened to their last four characters."""
        there = self.folder.iterdir() if self.folder.exists() else ()
        return {path.name[55:] for path in there if path.name != ".lock"}

    def part(self, name: str) -> PartBlobs:
        return self.room.for_part(name)


@asynccontextmanager
async def room(
    name: str,
    base_dir: Path,
    network: Network,
    *,
    clock: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Room]:
    """A room for the time of a block; the same name and base_dir again is the same peer after a restart."""
    own, metrics, log = id_of(name), CollectorRegistry(), io.StringIO()
    settings.setdefault("folder", name)
    changes: list[frozenset[Capability]] = []
    made = BlobRoom(
        own,
        BlobsSection(**settings),
        base_dir=base_dir,
        peers=MemoryPeers(network, own),
        directory=MemoryDirectory(network),
        clock=clock or ManualClock(START_MS),
        metrics=metrics,
        log=make_logger(log_format="json", log_level="debug", file=log),
        on_change=lambda: changes.append(frozenset(made.capabilities())),
    )

    async def run(*, task_status: TaskStatus[None]) -> None:
        await made.run(task_status=task_status)

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        network.handlers[own] = made.answer
        try:
            yield Room(own, made, made.for_part("test"), base_dir / name, metrics, changes, log)
        finally:
            network.handlers.pop(own, None)
            tasks.cancel_scope.cancel()
