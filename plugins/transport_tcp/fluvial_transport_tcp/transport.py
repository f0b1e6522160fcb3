"""The transport that takes the seat: listens, stays connected, and hands messages to the right connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus
from fluvial.address_scope import AddressScope, refusal
from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Context
from fluvial.seats import PeerWatcher, Receive, Transport
from fluvial.throttling import ThrottledLog
from fluvial.waiting import now_s

from fluvial_transport_tcp.admission import NotSent
from fluvial_transport_tcp.boundary import contained
from fluvial_transport_tcp.connection import Connection
from fluvial_transport_tcp.descriptors import connections_allowed
from fluvial_transport_tcp.dialing import ATTEMPTS_AT_ONCE, DIALS_MAX
from fluvial_transport_tcp.framing import LABEL_BYTES_MAX, frame_bytes
from fluvial_transport_tcp.gate import DialGate
from fluvial_transport_tcp.hosting import PROOFS_MAX, ConnectionHost
from fluvial_transport_tcp.listening import Listener, close_listeners, open_listeners
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.own_scope import own_scope
from fluvial_transport_tcp.reconnecting import Reconnector, pause_s
from fluvial_transport_tcp.secure import Credentials
from fluvial_transport_tcp.table import EVICTED_MAX

DISCONNECT_S: Final = 2.0
"""Time for goodbyes when one peer is disconnected."""
TICK_S: Final = 1.0
"""How often connections are looked after, at least."""


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
        self._metrics = Metrics(context.metrics)
        self._gate = DialGate(self._scope, self._metrics)
        self._reconnectors: dict[PeerId, Reconnector] = {}
        self._addresses: tuple[Address, ...] = ()
        self._host: ConnectionHost | None = None  # while it runs, as the next
        self._work: TaskGroup | None = None

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
        besides = options.handshakes_max + DIALS_MAX * ATTEMPTS_AT_ONCE + PROOFS_MAX + EVICTED_MAX + len(self._listen)
        connections_max = connections_allowed(options.connections_max, besides=besides, log=self._log)
        listeners = await open_listeners(self._listen)
        self._addresses = tuple(
            address.with_peer(self._own) for address in self._announce or [listener.address for listener in listeners]
        )
        host = ConnectionHost(
            self._credentials,
            options,
            connections_max=connections_max,
            addresses=self._addresses,
            trust=self._trust,
            kept=self._reconnectors.__contains__,
            gate=self._gate,
            receive=receive,
            watcher=watcher,
            metrics=self._metrics,
            log=self._log,
            throttled=self._throttled,
        )
        try:
            async with anyio.create_task_group() as outer:
                await outer.start(host.run)
                self._host = host
                try:
                    async with anyio.create_task_group() as self._work:
                        self._start_work(self._work, host, listeners)
                        task_status.started()
                finally:
                    self._work = None
                    host.stop()
        finally:
            self._host = None
            self._addresses = ()
            await close_listeners(listeners)

    async def request(self, contact: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """Send and wait for the answer; see :class:`fluvial.seats.Transport`."""
        size, until = self._checked_size(protocol, payload), now_s() + timeout_s
        try:
            while True:
                connection = self._used(contact.peer)
                if connection is None:
                    with anyio.fail_after(until - now_s()):
                        connection = await self._connection(contact)
                self._check_fits(connection, size)
                with suppress(NotSent):
                    return await connection.request(protocol, payload, size=size, until=until)
        except TimeoutError as error:
            raise Unreachable(f"{contact.peer}: no answer to {protocol} within {timeout_s:g} s") from error

    def ask(
        self,
        peer: PeerId,
        protocol: str,
        payload: bytes,
        tell: Callable[[bytes | Exception], object],
        *,
        timeout_s: float,
    ) -> Callable[[], None] | None:
        """Send at once or not at all, and tell the answer; see :class:`fluvial.seats.Transport`."""
        connection = self._used(peer)
        if connection is None or not 1 <= len(protocol.encode()) <= LABEL_BYTES_MAX:
            return None

        def heard(found: bytes | Exception) -> None:
            late = isinstance(found, TimeoutError)
            tell(Unreachable(f"{peer}: no answer to {protocol} within {timeout_s:g} s") if late else found)

        size = frame_bytes(protocol, payload)
        return connection.ask(protocol, payload, size=size, until=now_s() + timeout_s, tell=heard)

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

    def post(self, peer: PeerId, protocol: str, payload: bytes) -> bool:
        """Send at once or not at all; see :class:`fluvial.seats.Transport`."""
        connection = self._used(peer)
        if connection is None or not 1 <= len(protocol.encode()) <= LABEL_BYTES_MAX:
            return False
        return connection.post(protocol, payload, size=frame_bytes(protocol, payload))

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
        if self._work is not None:
            self._work.start_soon(reconnector.run)

    def dialable(self, address: Address) -> bool:
        """Whether this peer would dial an address; see :class:`fluvial.seats.Transport`."""
        return not refusal(address, self._scope())

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        """Dial the addresses of a peer to see whether it is there; see :class:`fluvial.seats.Transport`."""
        return () if self._host is None else await self._host.prove(contact, timeout_s=timeout_s)

    def connected(self) -> frozenset[PeerId]:
        """The peers with which a connection stands now."""
        return frozenset() if self._host is None else self._host.peers

    def dialling(self, peer: PeerId) -> str:
        """How far a dial of a peer has come; see :class:`fluvial.seats.Transport`."""
        return "" if self._host is None else self._host.dialling(peer)

    def silent(self, peer: PeerId) -> bool:
        """Whether nothing has come so far over what leads to a peer; see :class:`fluvial.seats.Transport`."""
        return self._host is not None and self._host.silent(peer)

    async def disconnect(self, peer: PeerId) -> None:
        """Stop keeping a peer and close its connection; what is under way is finished first, within two seconds."""
        if (reconnector := self._reconnectors.pop(peer, None)) is not None:
            reconnector.stop()
        if self._host is not None:
            await self._host.disconnect(peer, within_s=DISCONNECT_S)

    def _scope(self) -> AddressScope:
        kept = (address for one in self._reconnectors.values() for address in one.contact.addresses)
        return own_scope(
            self._options.dial_scope,
            announced=self._announce,
            listening=self._listen,
            kept=kept,
            reached=self._gate.configured,
        )

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _start_work(self, work: TaskGroup, host: ConnectionHost, listeners: Sequence[Listener]) -> None:
        for listener in listeners:
            self._log.info("listening", address=str(listener.address))
            work.start_soon(listener.serve, host.accept, self._throttled)
        for reconnector in self._reconnectors.values():
            work.start_soon(reconnector.run)
        work.start_soon(self._look_after, host)

    async def _look_after(self, host: ConnectionHost) -> None:
        options = self._options
        period_s = min(TICK_S, options.keepalive_s / 4, options.idle_s / 4, options.handling_timeout_s / 4)
        while True:
            await anyio.sleep(period_s)
            with contained("upkeep", self._throttled):
                host.look(anyio.current_time())

    def _used(self, peer: PeerId) -> Connection | None:
        return None if self._host is None else self._host.used(peer)

    async def _connection(self, contact: Contact) -> Connection:
        if self._host is None:
            raise Unreachable("this peer's transport is not running")
        return await self._host.connection(contact)

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
