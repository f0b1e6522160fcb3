"""The transport that takes the seat: listens, dials, keeps, and hands messages to the right connection."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio import CancelScope
from anyio.abc import SocketStream, TaskGroup, TaskStatus
from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Context
from fluvial.seats import PeerWatcher, Receive, Transport

from fluvial_transport_tcp.connection import Connection, NotSent
from fluvial_transport_tcp.dialing import dial, dialable
from fluvial_transport_tcp.framing import LABEL_BYTES_MAX, frame_bytes
from fluvial_transport_tcp.handshake import Hello, Link, shake_hands
from fluvial_transport_tcp.keeping import Keeper, pause_s
from fluvial_transport_tcp.listening import Listener, Waiting, close_listeners, open_listeners
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.secure import Credentials, HandshakeFailed
from fluvial_transport_tcp.table import Table

STOP_S: Final = 1.0
"""Time for goodbyes when the transport stops."""
DISCONNECT_S: Final = 2.0
"""Time for goodbyes when one peer is disconnected."""
TICK_S: Final = 1.0
"""How often connections are looked after, at least."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """What there is only while the transport runs; when it stops, nothing new is begun."""

    work: TaskGroup  # listeners, handshakes, dials and keepers: cancelled at once
    wires: TaskGroup  # connections: cancelled after their goodbyes
    receive: Receive
    watcher: PeerWatcher
    stopping: bool = False


class _Dial:
    """A dial in progress, on which any number of senders may wait."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.addresses = frozenset(addresses)
        self.scope = CancelScope()
        self.over = anyio.Event()
        self.error = "the dial was given up"


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
        self._listen = options.listen_addresses()
        self._announce = options.announce_addresses()
        self._credentials = Credentials(context.keys, context.network)
        self._metrics = Metrics(context.metrics)
        self._rng = context.rng
        self._table = Table(
            self._own,
            connections_max=options.connections_max,
            together_s=2 * options.handshake_timeout_s,
            metrics=self._metrics,
        )
        self._waiting = Waiting(options.handshakes_max)
        self._keepers: dict[PeerId, Keeper] = {}
        self._dials: dict[PeerId, _Dial] = {}
        self._addresses: tuple[Address, ...] = ()
        self._running: _Running | None = None

    # --- the seat's protocol ------------------------------------------------------------------------------------------

    @property
    def addresses(self) -> Sequence[Address]:
        """Where this peer can be dialled now: ``announce``, or else what it listens on; empty for a client that only dials."""
        return self._addresses

    async def run(self, receive: Receive, watcher: PeerWatcher, *, task_status: TaskStatus[None]) -> None:
        """Listen and serve until cancelled.

        Raises:
            ConfigError: an address to listen on is not available.
        """
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
        if (keeper := self._keepers.get(contact.peer)) is not None:
            keeper.contact = contact
            return
        keeper = self._keepers[contact.peer] = Keeper(
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
            self._running.work.start_soon(keeper.run)

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        return self._table.peers()

    async def disconnect(self, peer: PeerId) -> None:
        """Stop keeping a peer and close its connection; what is under way is finished first, within two seconds."""
        if (keeper := self._keepers.pop(peer, None)) is not None:
            keeper.stop()
        if (dialling := self._dials.get(peer)) is not None:
            dialling.scope.cancel()
        async with anyio.create_task_group() as group:
            for connection in self._table:
                if connection.peer == peer:
                    group.start_soon(partial(connection.close, "disconnected", "", within_s=DISCONNECT_S))

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _start_work(self, work: TaskGroup, listeners: Sequence[Listener]) -> None:
        self._addresses = tuple(
            address.with_peer(self._own) for address in self._announce or [listener.address for listener in listeners]
        )
        for listener in listeners:
            self._log.info("listening", address=str(listener.address))
            work.start_soon(listener.serve, work, self._accepted, self._log)
        for keeper in self._keepers.values():
            work.start_soon(keeper.run)
        work.start_soon(self._look_after)

    async def _host_connections(self, stop: anyio.Event, *, task_status: TaskStatus[TaskGroup]) -> None:
        """The task group of all connections, shielded so that they can say goodbye after ``run`` was cancelled."""
        with CancelScope(shield=True):
            async with anyio.create_task_group() as wires:
                task_status.started(wires)
                await stop.wait()
                async with anyio.create_task_group() as group:
                    for connection in self._table:
                        group.start_soon(partial(connection.close, "stopping", "this peer stops", within_s=STOP_S))
                wires.cancel_scope.cancel()

    async def _look_after(self) -> None:
        options = self._options
        period_s = min(TICK_S, options.keepalive_s / 4, options.idle_s / 4, options.handling_timeout_s / 4)
        while True:
            await anyio.sleep(period_s)
            now = anyio.current_time()
            for connection in self._table:
                connection.tick(now)
                needless = connection.dialled and connection.usable and connection.peer not in self._keepers
                if needless and connection.idle_s(now) > options.idle_s:
                    connection.retire("idle", f"no messages for {options.idle_s:g} s")

    async def _accepted(self, stream: SocketStream) -> None:
        with self._waiting.place() as scope, suppress(HandshakeFailed):
            link = await self._shake(stream, peer=None)
            self._admit(link)
        if scope.cancelled_caught:
            self._metrics.handshakes["crowded"] += 1

    async def _dial(self, peer: PeerId, addresses: Sequence[Address], dialling: _Dial) -> None:
        timeout_s = self._options.dial_timeout_s
        try:
            with dialling.scope, anyio.fail_after(timeout_s):
                if refusal := self._table.refusal(peer):
                    raise Unreachable(refusal)
                self._admit(await dial(addresses, partial(self._shake, peer=peer)))
                dialling.error = ""
        except Unreachable as error:
            dialling.error = error.message
        except TimeoutError:
            dialling.error = f"no connection within {timeout_s:g} s over {', '.join(map(str, addresses))}"
        finally:
            del self._dials[peer]
            dialling.over.set()

    async def _shake(self, stream: SocketStream, *, peer: PeerId | None) -> Link:
        """A link over a fresh stream, dialled if ``peer`` is given; closes the stream if it comes to nothing."""
        link = None
        try:
            link = await shake_hands(
                stream,
                self._credentials.accept() if peer is None else self._credentials.dial(peer),
                Hello(tuple(map(str, self._addresses)), self._options.frame_bytes_max, self._options.window_bytes),
                dialled=peer is not None,
                timeout_s=self._options.handshake_timeout_s,
                refuse=self._table.refusal,
            )
        except HandshakeFailed as error:
            self._metrics.handshakes[error.outcome] += 1
            self._log.debug("handshake failed", outcome=error.outcome, error=error.message, dialled=peer)
            raise
        finally:
            if link is None:
                with anyio.CancelScope(shield=True):
                    await stream.aclose()
        self._metrics.handshakes["ok"] += 1
        return link

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
            dialling = self._dials[peer] = _Dial(addresses)
            running.work.start_soon(self._dial, peer, addresses, dialling)
        await dialling.over.wait()
        if dialling.error and self._table.used(peer) is None and dialling.addresses.issuperset(addresses):
            raise Unreachable(f"{peer} cannot be reached: {dialling.error}")

    def _in_operation(self) -> _Running:
        if self._running is None or self._running.stopping:
            raise Unreachable("this peer's transport is not running")
        return self._running

    def _admit(self, link: Link) -> None:
        running = self._in_operation()
        connection = Connection(
            link,
            options=self._options,
            metrics=self._metrics,
            log=self._log,
            receive=running.receive,
            on_left=self._left,
        )
        running.wires.start_soon(self._serve, connection)
        if (dialling := self._dials.get(connection.peer)) is not None:
            dialling.over.set()
        if self._table.add(connection):
            self._log.info("connected", remote=connection.peer, dialled=connection.dialled)
            running.watcher.peer_connected(Contact(connection.peer, connection.addresses))

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._table.remove(connection)

    def _left(self, connection: Connection) -> None:
        if self._table.left(connection) and self._running is not None:
            self._log.info("disconnected", remote=connection.peer)
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


def _no_way(contact: Contact) -> str:
    if contact.addresses:
        return f"{contact.peer}: none of its {len(contact.addresses)} addresses can be dialled directly and no connection stands"
    return f"{contact.peer}: no address of it is known and no connection with it stands"
