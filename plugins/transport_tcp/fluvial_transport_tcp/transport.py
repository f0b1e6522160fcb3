"""The transport that takes the seat: listens, dials, stays connected, and hands messages to the right connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup, TaskStatus
from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Context
from fluvial.seats import PeerWatcher, Receive, Transport

from fluvial_transport_tcp.boundary import contained
from fluvial_transport_tcp.connection import Connection, NotSent
from fluvial_transport_tcp.descriptors import connections_allowed
from fluvial_transport_tcp.dialing import DIALS_MAX, Dial, dialable
from fluvial_transport_tcp.framing import LABEL_BYTES_MAX, frame_bytes
from fluvial_transport_tcp.handshake import Hello, Link, shake_hands
from fluvial_transport_tcp.intake import Intake
from fluvial_transport_tcp.listening import Listener, close_listeners, open_listeners
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.pending import PendingHandshakes
from fluvial_transport_tcp.places import Places
from fluvial_transport_tcp.prefix import Prefix, prefix_of
from fluvial_transport_tcp.reconnecting import Reconnector, pause_s
from fluvial_transport_tcp.secure import Credentials, HandshakeFailed, Session
from fluvial_transport_tcp.table import EVICTED_MAX, ConnectionTable
from fluvial_transport_tcp.throttling import ThrottledLog
from fluvial_transport_tcp.wire import Wire

STOP_S: Final = 1.0
"""Time for goodbyes when the transport stops."""
DISCONNECT_S: Final = 2.0
"""Time for goodbyes when one peer is disconnected."""
TICK_S: Final = 1.0
"""How often connections are looked after, at least."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """What there is only while the transport runs; when it stops, nothing new is begun."""

    work: TaskGroup  # listeners and reconnectors: cancelled at once
    wires: TaskGroup  # handshakes, dials and connections: those are cancelled at once, these after their goodbyes
    receive: Receive
    watcher: PeerWatcher
    stopping: bool = False


class TcpTransport(Transport):
    """Takes the seat ``transport`` as ``tcp``.

    Args:
        context: of the node it sits in.
        options: its section of the config.

    Raises:
        ConfigError: the network's name cannot be used.
    """

    def __init__(self, context: Context, options: Options) -> None:
        self._own = context.keys.peer_id
        self._options = options
        self._log = context.log.bind(seat="transport")
        self._throttled = ThrottledLog(self._log, clock=anyio.current_time)
        self._listen = options.listen_addresses()
        self._announce = options.announce_addresses()
        self._credentials = Credentials(context.keys, context.network)
        self._rng = context.rng
        self._trust = context.trust
        self._intake = Intake(options.incoming_bytes_max, frame_bytes_max=options.frame_bytes_max)
        self._reconnectors: dict[PeerId, Reconnector] = {}
        self._table = self._new_table(options.connections_max)
        self._pending = PendingHandshakes(options.handshakes_max)
        self._dials: dict[PeerId, Dial] = {}
        self._addresses: tuple[Address, ...] = ()
        self._hello = self._new_hello()
        self._running: _Running | None = None
        self._metrics = Metrics(context.metrics)
        self._metrics.connections = lambda: len(self._table)
        self._metrics.queued_bytes = lambda: self._table.queued_bytes
        self._metrics.intake_bytes = lambda: self._intake.used

    def _new_table(self, connections_max: int) -> ConnectionTable[Connection]:
        options = self._options
        places = Places.shared(
            connections_max,
            reserved_percent=options.connections_reserved_percent,
            strangers_percent=options.connections_strangers_percent,
        )
        return ConnectionTable(
            self._own,
            places=places,
            prefix_places=self._prefix_places,
            together_s=2 * options.handshake_timeout_s,
            weight=lambda peer: self._trust.weight(peer),
            kept=self._reconnectors.__contains__,
        )

    def _new_hello(self) -> Hello:
        return Hello(tuple(map(str, self._addresses)), self._options.frame_bytes_max, self._options.window_bytes)

    def _prefix_places(self, prefix: Prefix) -> Places | None:
        options = self._options
        most = options.prefix_connections_max if prefix.public else options.prefix_connections_private_max
        if not most:
            return None
        return Places.shared(most, reserved_percent=0, strangers_percent=options.connections_strangers_percent)

    # --- the seat's protocol ------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled now: ``announce``, or else what it listens on; empty for a client that only dials."""
        return self._addresses

    async def run(self, receive: Receive, watcher: PeerWatcher, *, task_status: TaskStatus[None]) -> None:
        """Listen and serve until cancelled.

        Raises:
            ConfigError: an address to listen on is not available, or the process may open next to no files.
        """
        options = self._options
        besides = options.handshakes_max + DIALS_MAX + EVICTED_MAX + len(self._listen)
        self._table = self._new_table(connections_allowed(options.connections_max, besides=besides, log=self._log))
        listeners = await open_listeners(self._listen)
        try:
            async with anyio.create_task_group() as outer:
                stop = anyio.Event()
                wires = await outer.start(self._host_connections, stop)
                try:
                    async with anyio.create_task_group() as work:
                        self._running = _Running(work=work, wires=wires, receive=receive, watcher=watcher)
                        self._start_work(work, listeners)
                        task_status.started()
                finally:
                    if self._running is not None:
                        self._running.stopping = True
                    stop.set()
        finally:
            self._running = None
            self._addresses = ()
            await close_listeners(listeners)

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for the answer; see :class:`fluvial.seats.Transport`."""
        size = self._checked_size(protocol, payload)
        try:
            with anyio.fail_after(timeout_s):
                while True:
                    connection = await self._connection(contact)
                    self._check_fits(connection, size)
                    with suppress(NotSent):
                        return await connection.request(protocol, payload, size=size)
        except TimeoutError as error:
            raise Unreachable(f"{contact.peer}: no answer to {protocol} within {timeout_s:g} s") from error

    async def send(self, contact: Contact, protocol: str, payload: bytes) -> None:
        """Send without waiting for an answer; see :class:`fluvial.seats.Transport`."""
        size = self._checked_size(protocol, payload)
        try:
            with anyio.fail_after(self._options.send_timeout_s):
                while True:
                    connection = await self._connection(contact)
                    self._check_fits(connection, size)
                    with suppress(NotSent):
                        return await connection.send(protocol, payload, size=size)
        except TimeoutError as error:
            raise Unreachable(
                f"{contact.peer}: {protocol} could not be sent within {self._options.send_timeout_s:g} s"
            ) from error

    def keep(self, contact: Contact) -> None:
        """Stay connected to this peer; again for the same one replaces its addresses."""
        if (reconnector := self._reconnectors.get(contact.peer)) is not None:
            reconnector.contact = contact
            return
        reconnector = self._reconnectors[contact.peer] = Reconnector(
            contact,
            connect=self._connection,
            pause_s=partial(
                pause_s,
                shortest_s=self._options.reconnect_min_s,
                longest_s=self._options.reconnect_max_s,
                rng=self._rng,
            ),
            log=self._log,
        )
        if self._running is not None and not self._running.stopping:
            self._running.work.start_soon(reconnector.run)

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        return self._table.peers()

    async def disconnect(self, peer: PeerId) -> None:
        """Stop keeping a peer and close its connection; what is under way is finished first, within two seconds."""
        if (reconnector := self._reconnectors.pop(peer, None)) is not None:
            reconnector.stop()
        if (dialling := self._dials.get(peer)) is not None:
            dialling.scope.cancel()
        await _close_all(self._table.all_of(peer), "disconnected", "", within_s=DISCONNECT_S)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _start_work(self, work: TaskGroup, listeners: Sequence[Listener]) -> None:
        self._addresses = tuple(
            address.with_peer(self._own) for address in self._announce or [listener.address for listener in listeners]
        )
        self._hello = self._new_hello()
        wires = self._in_operation().wires
        for listener in listeners:
            self._log.info("listening", address=str(listener.address))
            work.start_soon(listener.serve, wires, self._accepted, self._throttled)
        for reconnector in self._reconnectors.values():
            work.start_soon(reconnector.run)
        work.start_soon(self._look_after)

    async def _host_connections(self, stop: anyio.Event, *, task_status: TaskStatus[TaskGroup]) -> None:
        """The task group of all connections, shielded so that they can say goodbye after ``run`` was cancelled."""
        with CancelScope(shield=True):
            async with anyio.create_task_group() as wires:
                task_status.started(wires)
                await stop.wait()
                self._pending.cancel_all()
                for dialling in self._dials.values():
                    dialling.scope.cancel()
                await _close_all(tuple(self._table), "stopping", "this peer stops", within_s=STOP_S)
                wires.cancel_scope.cancel()

    async def _look_after(self) -> None:
        options = self._options
        period_s = min(TICK_S, options.keepalive_s / 4, options.idle_s / 4, options.handling_timeout_s / 4)
        while True:
            await anyio.sleep(period_s)
            with contained("upkeep", self._throttled):
                self._look(anyio.current_time())

    def _look(self, now: float) -> None:
        idle_s = self._options.idle_s
        for connection in self._table:
            connection.tick(now)
            needless = connection.dialled and connection.usable and connection.peer not in self._reconnectors
            if needless and connection.idle_s(now) > idle_s:
                connection.retire("idle", f"no messages for {idle_s:g} s")
        self._table.look(now)
        self._intake.look(now)
        self._throttled.look()

    # --- from a stream to a connection --------------------------------------------------------------------------------

    async def _accepted(self, accepted: socket.socket) -> None:
        """An accepted connection from its first byte to its last."""
        link = wire = None
        with contained("accepted", self._throttled):
            try:
                wire = await Wire.accepted(accepted)
                host = _remote_host(wire)
                prefix = prefix_of(
                    host, ipv4_bits=self._options.prefix_ipv4_bits, ipv6_bits=self._options.prefix_ipv6_bits
                )
                with self._pending.place(prefix) as place:
                    link = await self._shake(wire, self._credentials.accept(), host, prefix, place.heard)
                if place.scope.cancelled_caught and self._running is not None and not self._running.stopping:
                    raise HandshakeFailed("another handshake needed its place", outcome="crowded")
            except HandshakeFailed as error:
                self._metrics.handshakes[error.outcome] += 1
                self._throttled.note("connections_refused", error.outcome, error=error.message)
            finally:
                if wire is not None and link is None:
                    wire.close()
        if link is not None:
            await self._serve(link)

    async def _dial(self, peer: PeerId, dialling: Dial) -> None:
        """A dialled connection from the first attempt to its last byte."""
        link = None
        try:
            with contained("dialled", self._throttled):
                if refusal := self._table.refusal(peer, None, anyio.current_time()):
                    dialling.error = refusal
                else:
                    link = await dialling.link(
                        partial(self._shake_dialled, peer), timeout_s=self._options.dial_timeout_s
                    )
        finally:
            del self._dials[peer]
            if link is None:
                dialling.over.set()
        if link is not None:
            await self._serve(link, dialling.over)

    async def _shake_dialled(self, peer: PeerId, wire: Wire) -> Link:
        """A link over a wire that was dialled; closes the wire if it comes to nothing."""
        link = None
        try:
            link = await self._shake(wire, self._credentials.dial(peer), _remote_host(wire), None, lambda: None)
        except HandshakeFailed as error:
            self._metrics.handshakes[error.outcome] += 1
            self._log.debug("handshake failed", outcome=error.outcome, error=error.message, dialled=peer)
            raise
        finally:
            if link is None:
                wire.close()
        return link

    async def _shake(
        self, wire: Wire, session: Session, host: str, prefix: Prefix | None, on_bytes: Callable[[], None]
    ) -> Link:
        options = self._options
        link = await shake_hands(
            wire,
            session,
            self._hello,
            host=host,
            prefix=prefix,
            timeout_s=options.handshake_timeout_s,
            refuse=lambda peer: self._table.refusal(peer, prefix, anyio.current_time()),
            admit=lambda peer: self._table.make_room(peer, prefix, anyio.current_time()),
            on_bytes=on_bytes,
        )
        self._metrics.handshakes["ok"] += 1
        return link

    async def _serve(self, link: Link, over: anyio.Event | None = None) -> None:
        """A connection until it has ended; ``over`` is set as soon as it can be used."""
        with contained("connection", self._throttled):
            connection = self._new_connection(link)
            try:
                self._welcome(connection)
                if over is not None:
                    over.set()
                await connection.run()
            finally:
                self._table.remove(connection, anyio.current_time())

    def _new_connection(self, link: Link) -> Connection:
        assert self._running is not None, "connections end before the transport does"
        return Connection(
            link,
            options=self._options,
            intake=self._intake,
            metrics=self._metrics,
            log=self._log,
            throttled=self._throttled,
            receive=self._running.receive,
            rank=lambda connection: self._table.rank(connection, anyio.current_time()),
            on_left=self._left,
        )

    # --- connections --------------------------------------------------------------------------------------------------

    async def _connection(self, contact: Contact) -> Connection:
        """The connection in use with a peer, dialled if there is none.

        Raises:
            Unreachable: there is no way to it.
            LocalProtocolError: it is this peer itself.
        """
        while (connection := self._table.used(contact.peer)) is None:
            await self._dialled(contact)
        return connection

    async def _dialled(self, contact: Contact) -> None:
        """Wait for the dial of a peer, or begin it; a dial that others began counts if it covers the same addresses."""
        running, peer = self._in_operation(), contact.peer
        if peer == self._own:
            raise LocalProtocolError("a peer does not send messages to itself over the transport")
        addresses = dialable(contact)
        dialling = self._dials.get(peer)
        if dialling is None:
            if not addresses:
                raise Unreachable(_no_way(contact))
            if len(self._dials) >= DIALS_MAX:
                raise Unreachable(f"{peer} is not dialled: {DIALS_MAX} other peers are being dialled")
            dialling = self._dials[peer] = Dial(addresses)
            running.wires.start_soon(self._dial, peer, dialling)
        await dialling.over.wait()
        if dialling.error and self._table.used(peer) is None and set(dialling.addresses).issuperset(addresses):
            raise Unreachable(f"{peer} cannot be reached: {dialling.error}")

    def _in_operation(self) -> _Running:
        if self._running is None or self._running.stopping:
            raise Unreachable("this peer's transport is not running")
        return self._running

    def _welcome(self, connection: Connection) -> None:
        assert self._running is not None, "connections end before the transport does"
        first = self._table.add(connection)
        if (dialling := self._dials.get(connection.peer)) is not None:
            dialling.over.set()
        if first:
            self._log.debug("connected", remote=connection.peer, dialled=connection.dialled)
            with contained("watcher", self._throttled):
                self._running.watcher.peer_connected(Contact(connection.peer, connection.addresses))
        if self._running.stopping:
            connection.cut("stopping", "this peer stops")

    def _left(self, connection: Connection) -> None:
        last = self._table.left(connection)
        if last and self._running is not None:
            self._log.debug("disconnected", remote=connection.peer)
            with contained("watcher", self._throttled):
                self._running.watcher.peer_disconnected(connection.peer)

    def _checked_size(self, protocol: str, payload: bytes) -> int:
        label_bytes = len(protocol.encode())
        if not 1 <= label_bytes <= LABEL_BYTES_MAX:
            raise LocalProtocolError(f"a protocol's name has 1 to {LABEL_BYTES_MAX} bytes, not {label_bytes}")
        size = frame_bytes(protocol, payload)
        if size > self._options.frame_bytes_max:
            raise LocalProtocolError(
                f"a message of {size} bytes is larger than frame_bytes_max = {self._options.frame_bytes_max}",
                hint="raise frame_bytes_max of the transport on both sides, or send less at once",
            )
        return size

    @staticmethod
    def _check_fits(connection: Connection, size: int) -> None:
        if size > connection.frame_bytes_max:
            raise LocalProtocolError(
                f"a message of {size} bytes is larger than the {connection.frame_bytes_max} that {connection.peer} takes",
                hint="raise frame_bytes_max of the transport over there, or send less at once",
            )


async def _close_all(connections: Sequence[Connection], reason: str, text: str, *, within_s: float) -> None:
    if len(connections) == 1:  # by far the most frequent case
        await connections[0].close(reason, text, within_s=within_s)
        return
    async with anyio.create_task_group() as group:
        for connection in connections:
            group.start_soon(partial(connection.close, reason, text, within_s=within_s))


def _remote_host(wire: Wire) -> str:
    if wire.remote_host is None:
        raise HandshakeFailed("the other side closed the connection before the handshake", outcome="closed")
    return wire.remote_host


def _no_way(contact: Contact) -> str:
    if contact.addresses:
        return f"{contact.peer}: none of its {len(contact.addresses)} addresses can be dialled directly and no connection stands"
    return f"{contact.peer}: no address of it is known and no connection with it stands"
