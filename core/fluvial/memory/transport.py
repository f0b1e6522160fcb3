"""Takes the seat ``transport`` as ``memory``: dials, keeps, and hands messages to the right connection of a :class:`Memory`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup, TaskStatus

from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.hooks import hookimpl
from fluvial.identity import PeerId
from fluvial.memory.connection import HEADER_BYTES, ConnectionEnd, EndClosed
from fluvial.memory.network import Memory
from fluvial.memory.options import MemoryOptions
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import PeerWatcher, Receive, Transport

GROWTH_MAX: Final = 16
"""Doublings after which a pause grows no more."""


class MemoryPlugin:
    """Offers the transport ``memory`` over one network: all peers that are built with this plugin can reach each other.

    Args:
        network: theirs.
    """

    def __init__(self, network: Memory) -> None:
        self.network: Final = network

    @hookimpl
    def fluvial_register(self, registry: Registry) -> None:
        """Offer ``memory``."""
        registry.transport("memory", self.build, options=MemoryOptions)

    def build(self, context: Context, options: MemoryOptions) -> MemoryTransport:
        """A transport of the network."""
        return MemoryTransport(self.network, context, options)


@dataclass(slots=True, kw_only=True)
class _RunningTransport:
    """What there is only while the transport runs."""

    work: TaskGroup
    receive: Receive
    watcher: PeerWatcher


@dataclass(slots=True)
class _Kept:
    """A peer to stay connected to."""

    contact: Contact
    scope: CancelScope = field(default_factory=CancelScope)


class MemoryTransport(Transport):
    """One peer's place in a network in memory.

    Args:
        network: the network.
        context: the node it sits in.
        options: its section of the config.
    """

    def __init__(self, network: Memory, context: Context, options: MemoryOptions) -> None:
        self.peer: Final = context.keys.peer_id
        self.network_name: Final = context.network
        self._network = network
        self._options = options
        self._rng = context.rng
        self._log = context.log
        self._addresses: tuple[Address, ...] = ()
        self._ends: dict[PeerId, ConnectionEnd] = {}
        self._kept: dict[PeerId, _Kept] = {}
        self._serving: _RunningTransport | None = None

    # --- the seat's protocol

    @property
    def addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled now; empty for a client that only dials."""
        return self._addresses

    async def run(self, receive: Receive, watcher: PeerWatcher, *, task_status: TaskStatus[None]) -> None:
        """Serve until cancelled; what was sent before the end still arrives.

        Raises:
            ConfigError: the port to listen on is taken.
        """
        if self._options.listen:
            self._addresses = (self._network.listen(self, self._options.port),)
        async with anyio.create_task_group() as work:
            self._serving = _RunningTransport(work=work, receive=receive, watcher=watcher)
            try:
                for kept in self._kept.values():
                    work.start_soon(self._stay_connected, kept)
                task_status.started()
                await anyio.sleep_forever()
            finally:
                self._network.unlisten(self)
                self._serving = None
                for end in list(self._ends.values()):
                    end.close("stopping")
                self._addresses = ()

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for the answer; see :class:`fluvial.seats.Transport`."""
        size = HEADER_BYTES + len(protocol.encode()) + len(payload)
        _check_size(protocol, size, self._options.frame_bytes_max)
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    end = await self._connection(contact)
                    _check_size(protocol, size, end.frame_bytes_max)
                    with suppress(EndClosed):
                        return await end.request(protocol, payload, size=size)
        except TimeoutError as error:
            raise Unreachable(f"{contact.peer}: no answer to {protocol} within {timeout_s:g} s") from error

    async def send(self, contact: Contact, protocol: str, payload: bytes) -> None:
        """Send without waiting for an answer; see :class:`fluvial.seats.Transport`."""
        size = HEADER_BYTES + len(protocol.encode()) + len(payload)
        _check_size(protocol, size, self._options.frame_bytes_max)
        timeout_s = self._options.send_timeout_s
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    end = await self._connection(contact)
                    _check_size(protocol, size, end.frame_bytes_max)
                    with suppress(EndClosed):
                        return await end.send(protocol, payload, size=size)
        except TimeoutError as error:
            raise Unreachable(f"{contact.peer}: {protocol} could not be sent within {timeout_s:g} s") from error

    def keep(self, contact: Contact) -> None:
        """Stay connected to this peer; again for the same one replaces its addresses."""
        if (kept := self._kept.get(contact.peer)) is not None:
            kept.contact = contact
            return
        kept = self._kept[contact.peer] = _Kept(contact)
        if self._serving is not None:
            self._serving.work.start_soon(self._stay_connected, kept)

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        """Those addresses at which the peer listens; see :class:`fluvial.seats.Transport`."""
        peer = contact.peer
        with anyio.move_on_after(timeout_s):
            if self._network.apart(self.peer, peer):
                await anyio.sleep_forever()
            await anyio.sleep(self._network.delay_s(self.peer, peer) + self._network.delay_s(peer, self.peer))
            if self._serving is None:
                return ()
            proven = [way.with_peer(peer) for way in contact.addresses if self._is_at(peer, way)]
            for way in proven:
                self._serving.watcher.address_proven(peer, way)
            return proven
        return ()

    def _is_at(self, peer: PeerId, way: Address) -> bool:
        hosts = self._network.hosts([way] if way.relay is None else [], MemoryTransport)
        return any(host.peer == peer and host.network_name == self.network_name for host in hosts)

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        return frozenset(self._ends)

    async def disconnect(self, peer: PeerId) -> None:
        """Stop keeping a peer and close its connection; what was sent to it still arrives."""
        if (kept := self._kept.pop(peer, None)) is not None:
            kept.scope.cancel()
        if (end := self._ends.get(peer)) is not None:
            end.close("disconnected")

    # --- connections

    async def _connection(self, contact: Contact) -> ConnectionEnd:
        """The connection in use with a peer, dialled if there is none.

        Raises:
            Unreachable: there is no way to it.
            LocalProtocolError: it is this peer itself.
        """
        while (end := self._ends.get(contact.peer)) is None:
            await self._dial(contact)
        return end

    async def _dial(self, contact: Contact) -> None:
        """Make a connection, unless somebody else has made one when it stands."""
        peer = contact.peer
        if peer == self.peer:
            raise LocalProtocolError("a peer does not send messages to itself over the transport")
        self._in_service()
        ways = [address for address in contact.addresses if address.relay is None]
        if not ways:
            raise Unreachable(f"{peer}: no address is known and no connection is open")
        if self._network.apart(self.peer, peer):
            await anyio.sleep(self._options.dial_timeout_s)
            raise Unreachable(f"{peer}: no connection within {self._options.dial_timeout_s:g} s")
        await anyio.sleep(self._network.delay_s(self.peer, peer) + self._network.delay_s(peer, self.peer))
        if peer in self._ends:
            return
        for way in ways:
            if not self._is_at(peer, way):
                continue
            (host,) = self._network.hosts([way], MemoryTransport)
            self._join(host)
            self._in_service().watcher.address_proven(peer, way.with_peer(peer))
            return
        raise Unreachable(f"{peer} does not listen at {', '.join(map(str, ways))}")

    def _join(self, host: MemoryTransport) -> None:
        ours, theirs = self._in_service(), host._in_service()
        for one in (self, host):
            if len(one._ends) >= one._options.connections_max:
                raise Unreachable(f"{one.peer} has all {one._options.connections_max} connections that it takes")
        near, far = self._end(ours, host), host._end(theirs, self)
        near.join(far)
        self._admit(near, ours)
        host._admit(far, theirs)

    def _end(self, serving: _RunningTransport, other: MemoryTransport) -> ConnectionEnd:
        return ConnectionEnd(
            self._network,
            own=self.peer,
            peer=other.peer,
            addresses=other._addresses,
            options=self._options,
            frame_bytes_max=min(self._options.frame_bytes_max, other._options.frame_bytes_max),
            window_bytes=other._options.window_bytes,
            receive=serving.receive,
            on_closed=partial(self._closed, other.peer, serving.watcher),
        )

    def _admit(self, end: ConnectionEnd, serving: _RunningTransport) -> None:
        self._ends[end.peer] = end
        self._network.add(end)
        serving.work.start_soon(end.run)
        self._log.info("connected", remote=end.peer)
        serving.watcher.peer_connected(Contact(end.peer, end.addresses))

    def _closed(self, peer: PeerId, watcher: PeerWatcher, reason: str) -> None:
        del self._ends[peer]
        self._log.info("disconnected", remote=peer, reason=reason)
        watcher.peer_disconnected(peer)

    async def _stay_connected(self, kept: _Kept) -> None:
        failures = 0
        with kept.scope:
            while True:
                try:
                    end = await self._connection(kept.contact)
                    failures = 0
                    await end.closed.wait()
                except (Unreachable, LocalProtocolError) as error:
                    failures += 1
                    self._log.info("kept_peer_unreachable", remote=kept.contact.peer, error=error.message)
                await anyio.sleep(self._pause_s(failures))

    def _pause_s(self, failures: int) -> float:
        """Twice as long after each failure, and up to half of it shorter, so that peers do not come back all at once."""
        grown_s = self._options.reconnect_min_s * 2 ** min(failures, GROWTH_MAX)
        return float(min(grown_s, self._options.reconnect_max_s) * self._rng.uniform(0.5, 1))

    def _in_service(self) -> _RunningTransport:
        if self._serving is None:
            raise Unreachable(f"{self.peer}: its transport is not running")
        return self._serving


def _check_size(protocol: str, size: int, size_max: int) -> None:
    if size > size_max:
        raise LocalProtocolError(
            f"{protocol}: a message of {size} bytes is larger than a frame may be ({size_max} bytes)"
        )
