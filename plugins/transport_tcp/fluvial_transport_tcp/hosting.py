"""All connections of a running transport: how they come to be, and who is told of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import anyio
import structlog
from anyio import CancelScope
from anyio.abc import TaskStatus
from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Trust
from fluvial.seats import PeerWatcher, Receive
from fluvial.throttling import ThrottledLog
from fluvial.timer_wheel import TimerWheel

from fluvial_transport_tcp.accounts import WasteRates, WorkAccount
from fluvial_transport_tcp.boundary import contained
from fluvial_transport_tcp.connection import Connection
from fluvial_transport_tcp.dialing import DIALS_MAX, DIALS_OF_PEER_MAX, DIALS_OF_STRANGERS_MAX, Dial, dial, dialable
from fluvial_transport_tcp.gate import DialGate
from fluvial_transport_tcp.handshake import Hello, Link, prove_key, shake_hands
from fluvial_transport_tcp.intake import Intake
from fluvial_transport_tcp.leftovers import LEFTOVER_BYTES_MAX, Leftovers
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.newest_first import NewestFirst
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.pacing import PrefixRates
from fluvial_transport_tcp.pending import PendingHandshakes
from fluvial_transport_tcp.places import Places
from fluvial_transport_tcp.prefix import Prefix, prefix_of
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.secure import Credentials, HandshakeFailed, Session
from fluvial_transport_tcp.shared import Shared
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.table import ConnectionTable
from fluvial_transport_tcp.wire import Wire
from fluvial_transport_tcp.workers import WorkerPool

STOP_S: Final = 1.0
"""Time for goodbyes when the transport stops."""
DIALS_IN_A_ROW: Final = 3
"""For one message. Other senders may have begun a dial at other addresses; but whoever shakes hands and hangs up would be dialled until the message's time is over."""
PROOFS_MAX: Final = 16
"""Peers whose addresses are proven at the same time; others wait."""


class ConnectionHost:
    """The connections of one run of the transport.

    Args:
        credentials: this peer's half of every handshake.
        options: the limits.
        connections_max: how many connections there may be.
        addresses: where this peer can be dialled, told to others.
        trust: weighs peers.
        kept: whether this node stays connected to a peer on purpose.
        gate: connects to addresses.
        receive: handles messages.
        watcher: told who comes and goes.
        metrics: where things are counted.
        log: for what this node does itself.
        throttled: for what others can cause.
    """

    def __init__(
        self,
        credentials: Credentials,
        options: Options,
        *,
        connections_max: int,
        addresses: Sequence[Address],
        trust: Trust,
        kept: Callable[[PeerId], bool],
        gate: DialGate,
        receive: Receive,
        watcher: PeerWatcher,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._hello = Hello(tuple(map(str, addresses)), options.frame_bytes_max, options.window_bytes)
        self._kept = kept
        self._gate = gate
        self._watcher = watcher
        self._metrics = metrics
        self._log = log
        self._throttled = throttled
        waste = WasteRates()
        self._nobody = waste.account(None, lambda: Rank.STRANGER, 0.0)
        self._shared = Shared(
            options=options,
            receive=receive,
            intake=Intake(options.incoming_bytes_max, frame_bytes_max=options.frame_bytes_max),
            rates=PrefixRates(options.unvouched_bytes_per_s, options.unvouched_prefix_bytes_per_s),
            waste=waste,
            pool=WorkerPool(),
            rounds=WorkRounds(),
            payer=self._payer,
            wheel=TimerWheel(),
            leftovers=Leftovers(LEFTOVER_BYTES_MAX),
            metrics=metrics,
            log=log,
            throttled=throttled,
        )
        self._standing: set[Connection] = set()  # until they are gone
        self._pending = PendingHandshakes(options.handshakes_max)
        self._dials: dict[Dial, None] = {}
        self._proofs = anyio.Semaphore(PROOFS_MAX)
        # What is shown is looked at in three threads: where the configuration says that a peer is, where it has shown its key before, and where others say so.
        self._configured_thread, self._proven_thread, self._told_thread = NewestFirst(), NewestFirst(), NewestFirst()
        self._group = anyio.create_task_group()
        self._stopping = anyio.Event()
        self._table: ConnectionTable[Connection] = ConnectionTable(
            credentials.peer_id,
            places=Places.shared(
                connections_max,
                reserved_percent=options.connections_reserved_percent,
                strangers_percent=options.connections_strangers_percent,
            ),
            prefix_places=self._prefix_places,
            together_s=2 * options.handshake_timeout_s,
            weight=trust.weight,
            kept=kept,
        )
        metrics.connections = self._table.__len__
        metrics.queued_bytes = lambda: self._table.queued_bytes
        metrics.wasted_s = lambda: self._shared.waste.wasted_s
        metrics.intake_bytes = lambda: self._shared.intake.used

    @property
    def peers(self) -> frozenset[PeerId]:
        """The peers that messages can be sent to now."""
        return self._table.peers()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Host connections until :meth:`stop`, and until they have said goodbye; not cancelled by others before that."""
        with CancelScope(shield=True):
            async with self._group:
                self._shared.pool.start(self._group)
                task_status.started()
                await self._stopping.wait()
                self._pending.cancel_all()
                for dialling in self._dials:
                    dialling.scope.cancel()
                await _close_all(tuple(self._table), "stopping", "this peer stops", within_s=STOP_S)
                self._group.cancel_scope.cancel()
            for connection in tuple(self._standing):
                connection.cut("stopping", "this peer stops")
                connection.drop()

    def stop(self) -> None:
        """Begin nothing new, and end."""
        self._stopping.set()

    def accept(self, accepted: socket.socket) -> None:
        """Take over a socket that was accepted."""
        self._group.start_soon(self._accepted, accepted)

    def used(self, peer: PeerId) -> Connection | None:
        """The connection in use with a peer; None if there is none."""
        return self._table.used(peer)

    async def connection(self, contact: Contact) -> Connection:
        """The connection in use with a peer, dialled if there is none.

        Raises:
            Unreachable: there is no way to it, or it ends connections at once.
            LocalProtocolError: it is this peer itself.
        """
        dials = 0
        while (connection := self._table.used(contact.peer)) is None:
            if dials == DIALS_IN_A_ROW:
                raise Unreachable(f"{contact.peer}: {dials} dials in a row led to no connection that stands")
            await self._dialled(contact)
            dials += 1
        return connection

    async def disconnect(self, peer: PeerId, *, within_s: float) -> None:
        """Close the connections with a peer; what is under way is finished first."""
        for dialling in self._dials_of(peer):
            dialling.scope.cancel()
        await _close_all(self._table.all_of(peer), "disconnected", "", within_s=within_s)

    async def prove(self, contact: Contact, *, timeout_s: float) -> Sequence[Address]:
        """Those addresses of a contact at which its peer shows its key now, or did lately; connections that stand play no part."""
        peer, proven = contact.peer, []
        with anyio.move_on_after(timeout_s):
            async with self._proofs:
                for address in dialable(contact):
                    with suppress(Unreachable):
                        if not self._gate.proven(peer, address):
                            await dial(peer, (address,), self._gate, partial(self._key_shown, peer))
                            self._proven(peer, address)
                        proven.append(address.with_peer(peer))
        return proven

    async def _key_shown(self, peer: PeerId, wire: Wire, address: Address) -> None:
        try:
            session, timeout_s = self._credentials.dial(peer), self._options.handshake_timeout_s
            await prove_key(wire, session, timeout_s=timeout_s, thread=self._thread(peer, address))
        finally:
            wire.close()

    def look(self, now: float) -> None:
        """Look after all connections; call it every second or so."""
        idle_s = self._options.idle_s
        for connection in self._table:
            connection.tick(now)
            needless = connection.dialled and connection.usable and not self._kept(connection.peer)
            if needless and connection.idle_s(now) > idle_s:
                connection.retire("idle", f"no messages for {idle_s:g} s")
        self._table.look(now)
        self._shared.intake.look(now)
        self._throttled.look()

    # --- from a stream to a link --------------------------------------------------------------------------------------

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
                if place.scope.cancelled_caught and not self._stopping.is_set():
                    raise HandshakeFailed("another handshake needed its place", outcome="crowded")
            except HandshakeFailed as error:
                self._metrics.handshakes[error.outcome] += 1
                self._throttled.note("connections_refused", error.outcome, error=error.message)
            finally:
                if wire is not None and link is None:
                    wire.close()
        if link is not None:
            self._serve(link)

    async def _dialled(self, contact: Contact) -> None:
        """Wait for a dial of a peer that covers the same addresses, or begin it."""
        peer, addresses = contact.peer, dialable(contact)
        if self._stopping.is_set():
            raise Unreachable("this peer's transport is not running")
        if peer == self._credentials.peer_id:
            raise LocalProtocolError("a peer does not send messages to itself over the transport")
        dials = self._dials_of(peer)
        dialling = next((one for one in dials if one.covers(addresses)), None)
        if dialling is None and len(dials) >= DIALS_OF_PEER_MAX:
            dialling = dials[0]
        if dialling is None:
            if not addresses:
                raise Unreachable(_no_way(contact))
            rank = self._table.standing(peer, anyio.current_time()).rank
            if len(self._dials) >= (DIALS_MAX if rank > Rank.STRANGER else DIALS_OF_STRANGERS_MAX):
                raise Unreachable(f"{peer} is not dialled: {len(self._dials)} other peers are being dialled")
            dialling = Dial(peer, addresses)
            self._dials[dialling] = None
            self._group.start_soon(self._dial, dialling)
        await dialling.over.wait()
        if dialling.error and self._table.used(peer) is None and dialling.covers(addresses):
            raise Unreachable(f"{peer} cannot be reached: {dialling.error}")

    async def _dial(self, dialling: Dial) -> None:
        """A dialled connection from the first attempt to its last byte."""
        peer, found = dialling.peer, None
        try:
            with contained("dialled", self._throttled):
                if refusal := self._table.refusal(peer, None, anyio.current_time()):
                    dialling.error = refusal
                else:
                    found = await dialling.link(
                        self._gate,
                        partial(self._shake_dialled, peer, dialling.heard),
                        timeout_s=self._options.dial_timeout_s,
                    )
        finally:
            del self._dials[dialling]
            if found is None:
                dialling.over.set()
        if found is not None:
            self._proven(peer, found[0])
            self._serve(found[1], dialling.over)

    def dialling(self, peer: PeerId) -> str:
        """How far the dials of a peer have come, for people."""
        return "; ".join(dict.fromkeys(dialling.progress for dialling in self._dials_of(peer)))

    def silent(self, peer: PeerId) -> bool:
        """Whether the connection with a peer has stayed silent since the handshake; without one, whether all dials, and there are some, have led to silence."""
        if (connection := self._table.used(peer)) is not None:
            return connection.silent
        dials = self._dials_of(peer)
        return bool(dials) and all(dialling.silent for dialling in dials)

    def _dials_of(self, peer: PeerId) -> Sequence[Dial]:
        return [one for one in self._dials if one.peer == peer]

    def _proven(self, peer: PeerId, address: Address) -> None:
        with contained("watcher", self._throttled):
            self._watcher.address_proven(peer, address.with_peer(peer))

    def _thread(self, peer: PeerId, address: Address) -> NewestFirst:
        if address.configured:
            return self._configured_thread
        return self._proven_thread if self._gate.proven(peer, address) else self._told_thread

    async def _shake_dialled(self, peer: PeerId, heard: Callable[[], None], wire: Wire, address: Address) -> Link[Wire]:
        """A link over a wire that was dialled; closes the wire if it comes to nothing."""
        link = None
        try:
            session, thread = self._credentials.dial(peer), self._thread(peer, address)
            link = await self._shake(wire, session, _remote_host(wire), None, heard, thread)
        except HandshakeFailed as error:
            self._metrics.handshakes[error.outcome] += 1
            self._log.debug("handshake failed", outcome=error.outcome, error=error.message, dialled=peer)
            raise
        finally:
            if link is None:
                wire.close()
        return link

    async def _shake(
        self,
        wire: Wire,
        session: Session,
        host: str,
        prefix: Prefix | None,
        on_bytes: Callable[[], None],
        thread: NewestFirst | None = None,
    ) -> Link[Wire]:
        link = await shake_hands(
            wire,
            session,
            self._hello,
            host=host,
            prefix=prefix,
            timeout_s=self._options.handshake_timeout_s,
            refuse=lambda peer: self._table.refusal(peer, prefix, anyio.current_time()),
            admit=lambda peer: self._table.make_room(peer, prefix, anyio.current_time()),
            on_bytes=on_bytes,
            thread=thread,
        )
        self._metrics.handshakes["ok"] += 1
        return link

    def _prefix_places(self, prefix: Prefix) -> Places | None:
        options = self._options
        most = options.prefix_connections_max if prefix.public else options.prefix_connections_private_max
        if not most:
            return None
        return Places.shared(most, reserved_percent=0, strangers_percent=options.connections_strangers_percent)

    # --- from a link to its end ---------------------------------------------------------------------------------------

    def _serve(self, link: Link[Wire], over: anyio.Event | None = None) -> None:
        """Let a connection stand; ``over`` is set as soon as it can be used."""
        with contained("connection", self._throttled):
            connection = Connection(
                link,
                self._shared,
                rank=self._rank,
                on_left=self._left,
                on_gone=self._gone,
            )
            self._standing.add(connection)
            try:
                self._welcome(connection)
            finally:
                if over is not None:
                    over.set()
            connection.read()

    def _payer(self, peer: PeerId) -> WorkAccount:
        """What this peer has begun itself, or somebody who has gone, nobody pays for: it was taken in, and is this peer's own work now."""
        connection = self._table.used(peer)
        if connection is not None:
            return connection.account
        self._nobody.tag = 0.0
        return self._nobody

    def _rank(self, connection: Connection) -> Rank:
        return self._table.rank(connection, anyio.current_time())

    def _gone(self, connection: Connection) -> None:
        self._standing.discard(connection)
        self._table.remove(connection, anyio.current_time())

    def _welcome(self, connection: Connection) -> None:
        first = self._table.add(connection)
        for dialling in self._dials_of(connection.peer):
            dialling.over.set()
        if first:
            self._log.debug("connected", remote=connection.peer, dialled=connection.dialled)
            with contained("watcher", self._throttled):
                told = tuple(address for address in connection.addresses if not self._gate.refusal(address))
                self._watcher.peer_connected(Contact(connection.peer, told))
        if self._stopping.is_set():
            connection.cut("stopping", "this peer stops")

    def _left(self, connection: Connection) -> None:
        if self._table.left(connection):
            self._log.debug("disconnected", remote=connection.peer)
            with contained("watcher", self._throttled):
                self._watcher.peer_disconnected(connection.peer)


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
