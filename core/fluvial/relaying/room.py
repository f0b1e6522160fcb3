"""The room of the relays as a part of the node: gives leases to this peer's own relays, and keeps those of its clients.

As a client (a peer without an address): whenever one of its relays connects, and then every ten minutes, it gives the relay a lease; after some seconds
again if the relay does not take it. The answer names other peers that could be relays; when no relay is connected any more, these are tried.

As a relay: it keeps the leases of clients, and declares ``relay:CLIENT`` for each that is connected or was a moment ago; so the client's relays can be
found by its id. What comes for a client that is away waits in a bounded queue, and goes out when the client is there again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Annotated, Final

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup, TaskStatus
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, Refused, RemoteProtocolError
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.hooks import hookimpl
from fluvial.identity import KeyPair, PeerId
from fluvial.ports import Capability
from fluvial.relaying.held import HeldMessage, HeldMessages
from fluvial.relaying.lease import KIND, LEASE_BYTES_MAX, Lease, RelayKind, decode_lease, make_lease
from fluvial.seats import Answer, Contributions, Part

PROTOCOL: Final = "/fluvial/lease/1"
RENEW_S: Final = 600.0
AGAIN_S: Final = 15.0
"""A relay that has too many new clients at the moment does not take a lease; until it has one, it is the way to this client for nobody."""
LOOK_S: Final = 5.0
"""How often a client looks whether it has a relay, and a relay whether leases have ended."""
LEASE_S: Final = 10.0
AWAY_S: Final = 60.0
"""For so long after a client has gone its relay is still named to others."""
CLIENTS_MAX: Final = 512
RENEWED_MS_MIN: Final = 60_000
"""A client that renews its lease more often keeps the one it has: each new lease is told to the replicas of the client's key."""
NEWCOMERS_PER_S: Final = 1.0
NEWCOMERS_AT_ONCE: Final = 64
"""Clients without weight that are taken in quick succession; then one a second."""
OTHERS_MAX: Final = 4
OTHERS_POOL: Final = 64
OTHERS_POOL_S: Final = 5.0
"""Those that are named to clients are some of so many contacts, who are others after a while: a lease costs next to nothing, and may be repeated at once."""
SPARES_MAX: Final = 16
HAND_OVER_S: Final = 15.0
ADDRESS_CHARACTERS_MAX: Final = 256


class LeaseTaken(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A relay's answer: other peers that could be relays, as addresses."""

    others: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)], ...], msgspec.Meta(max_length=OTHERS_MAX)
    ] = ()


class RelayRoom(Part):
    """See the module's docstring.

    Args:
        keys: the peer's key pair.
        network: its network.
        relays: its own relays.
        transport, routing: the seats.
        weight: how much a client counts.
        on_change: called when the peer is the relay of other clients than before.
        clock, rng, metrics, log: as usual.
    """

    def __init__(
        self,
        keys: KeyPair,
        *,
        network: str,
        relays: Sequence[Contact],
        transport: GuardedTransport,
        routing: GuardedRouting,
        weight: Callable[[PeerId], int],
        on_change: Callable[[], None],
        clock: Clock,
        rng: Random,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._keys = keys
        self._network = network
        self._relays: dict[PeerId, Contact] = {relay.peer: relay for relay in relays}
        self._spares: dict[PeerId, Contact] = {}
        self._transport = transport
        self._routing = routing
        self._weight = weight
        self._on_change = on_change
        self._clock = clock
        self._rng = rng
        self._log = log
        self._tasks: TaskGroup | None = None
        # Of relays that have not taken the lease: when they are given one again.
        self._again_s: dict[PeerId, float] = {}
        self._leases: dict[PeerId, Lease] = {}
        self._seen_s: dict[PeerId, float] = {}
        self._named: frozenset[PeerId] = frozenset()
        self._held = HeldMessages()
        self._handing_over: dict[PeerId, anyio.CancelScope] = {}
        self._pool: Sequence[tuple[PeerId, str]] = ()
        self._pool_until_s = 0.0
        self._newcomers = 0.0
        self._newcomers_s = 0.0
        self._kind = RelayKind(network, clock.now_ms, self._leases.get)
        gauge = Gauge("fluvial_relay_clients", "Clients that have given this peer a lease", registry=metrics)
        gauge.set_function(lambda: len(self._leases))
        gauge = Gauge("fluvial_relay_held", "Messages that wait for clients that are away", registry=metrics)
        gauge.set_function(lambda: len(self._held))
        self._outcomes = Counter(
            "fluvial_relay_messages", "Messages for clients that were away, by outcome", ["outcome"], registry=metrics
        )

    @property
    def relays(self) -> Sequence[Contact]:
        """This peer's relays, those that are connected first."""
        connected = self._transport.connected()
        return sorted(self._relays.values(), key=lambda relay: relay.peer not in connected)

    # --- as a part ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Look after leases until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            try:
                for peer in self._transport.connected():
                    self.fluvial_peer_connected(peer)
                renew_s = anyio.current_time() + RENEW_S
                while True:
                    await anyio.sleep(LOOK_S)
                    self._look()
                    if anyio.current_time() >= renew_s:
                        renew_s = anyio.current_time() + RENEW_S
                        for relay in self._relays:
                            self._give(relay)
            finally:
                self._tasks = None

    def contributions(self) -> Contributions:
        """The protocol of leases, the kind of challenge of a client's relays, and the clients as capabilities."""
        answer = Answer(protocol=PROTOCOL, by=self._answer, bytes_max=LEASE_BYTES_MAX, per_sender=1)
        return Contributions(
            answers=(answer,), watchers=(self,), capabilities=self._capabilities, extensions=(self._kind,)
        )

    @hookimpl
    def fluvial_peer_connected(self, peer: PeerId) -> None:
        """A relay gets a lease; a client gets what waits for it."""
        if peer in self._relays:
            self._give(peer)
        if peer in self._leases and self._tasks is not None:
            self._tasks.start_soon(self._hand_over, peer)

    def _capabilities(self) -> Iterable[Capability]:
        return [Capability(KIND, client) for client in self._named]

    # --- as a client --------------------------------------------------------------------------------------------------

    def _give(self, relay: PeerId) -> None:
        if self._tasks is not None and not self._transport.addresses and relay in self._transport.connected():
            self._tasks.start_soon(self._give_lease, relay)

    async def _give_lease(self, relay: PeerId) -> None:
        self._again_s[relay] = anyio.current_time() + AGAIN_S
        lease = make_lease(self._keys, relay, network=self._network, now_ms=self._clock.now_ms())
        try:
            answer = await self._transport.request(Contact(relay), PROTOCOL, encode(lease), timeout_s=LEASE_S)
            taken = decode(answer, LeaseTaken, what="answer to a lease")
            others = [Contact.parse(text) for text in taken.others]
        except (FluvialError, ValueError) as error:
            self._log.warning("lease_not_taken", relay=relay, error=str(error))
            return
        self._again_s.pop(relay, None)
        self._log.info("lease_taken", relay=relay, others=len(others))
        for other in others:
            if len(self._spares) < SPARES_MAX and other.peer not in (self._keys.peer_id, *self._relays):
                self._spares.setdefault(other.peer, other)

    def _seek(self) -> None:
        """Try another relay if none is connected."""
        if not self._relays or self._transport.addresses or not self._spares:
            return
        if self._relays.keys() & self._transport.connected():
            return
        peer = self._rng.choice(sorted(self._spares))
        self._relays[peer] = spare = self._spares.pop(peer)
        self._log.info("relay_sought", relay=peer)
        self._transport.keep(spare)

    # --- as a relay ---------------------------------------------------------------------------------------------------

    def hold(self, client: PeerId, protocol: str, payload: bytes, *, sender: PeerId, deadline_ms: int) -> bool:
        """Keep a message for a client that is away; whether it is kept."""
        message = HeldMessage(protocol, payload, deadline_ms, sender)
        held = client in self._leases and self._held.put(client, message, self._clock.now_ms())
        self._outcomes.labels(outcome="held" if held else "refused").inc()
        return held

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        lease = decode_lease(payload)
        now_ms = self._clock.now_ms()
        lease.check(network=self._network, client=sender, relay=self._keys.peer_id, now_ms=now_ms)
        known = self._leases.get(sender)
        if known is None:
            self._admit(sender)
        self._seen_s[sender] = anyio.current_time()
        if known is None or lease.issued_at_ms - known.issued_at_ms >= RENEWED_MS_MIN:
            self._leases[sender] = lease
            self._on_change()  # the record of this client at its key shows the new lease
        if sender not in self._named:
            self._look_at_clients()
        if self._tasks is not None and sender not in self._handing_over:
            self._tasks.start_soon(self._hand_over, sender)
        return encode(LeaseTaken(self._others(sender)))

    def _admit(self, newcomer: PeerId) -> None:
        """Take another client.

        Raises:
            Refused: ``busy``, there are too many, or too many have come at once.
        """
        if self._weight(newcomer) <= 0:
            now_s = anyio.current_time()
            self._newcomers = max(0.0, self._newcomers - (now_s - self._newcomers_s) * NEWCOMERS_PER_S)
            self._newcomers_s = now_s
            if self._newcomers + 1 > NEWCOMERS_AT_ONCE:
                raise Refused("too many clients have come at once; try again", reason="busy")
            self._newcomers += 1
        if len(self._leases) >= CLIENTS_MAX:
            self._make_room(newcomer)

    def _make_room(self, newcomer: PeerId) -> None:
        """The lightest client that is away gives way; if none is, a lighter one.

        Raises:
            Refused: ``busy``, nobody gives way.
        """
        connected = self._transport.connected()
        lightest = min(self._leases, key=lambda client: (client in connected, self._weight(client)))
        if lightest in connected and self._weight(lightest) >= self._weight(newcomer):
            raise Refused(f"this peer is the relay of {CLIENTS_MAX} clients already", reason="busy")
        self._forget(lightest)

    def _others(self, client: PeerId) -> tuple[str, ...]:
        """Some peers with addresses of their own."""
        if (now_s := anyio.current_time()) >= self._pool_until_s:
            contacts = self._routing.contacts()
            self._pool = self._fitting(contacts)
            if len(contacts) > OTHERS_POOL:  # to look at few costs little, and there may be more of them a moment later
                self._pool_until_s = now_s + OTHERS_POOL_S
        texts = [text for peer, text in self._pool if peer != client]
        return tuple(self._rng.sample(texts, min(OTHERS_MAX, len(texts))))

    def _fitting(self, contacts: Sequence[Contact]) -> Sequence[tuple[PeerId, str]]:
        """Some of those that have addresses of their own, with what a client is told of them."""
        direct = [one for one in contacts if one.addresses and one.addresses[0].relay is None]
        chosen = self._rng.sample(direct, min(OTHERS_POOL, len(direct)))
        texts = [(one.peer, str(one.addresses[0].with_peer(one.peer))) for one in chosen]
        return [(peer, text) for peer, text in texts if len(text) <= ADDRESS_CHARACTERS_MAX]

    async def _hand_over(self, client: PeerId) -> None:
        """Hand over what waits for a client, one message after the other, as long as it takes them; in place of whoever does so already."""
        if (before := self._handing_over.get(client)) is not None:
            before.cancel()
        with anyio.CancelScope() as scope:
            self._handing_over[client] = scope
            try:
                while (message := self._held.oldest(client, self._clock.now_ms())) is not None:
                    if not await self._handed_over(client, message):
                        return
            finally:
                if self._handing_over.get(client) is scope:
                    del self._handing_over[client]

    async def _handed_over(self, client: PeerId, message: HeldMessage) -> bool:
        """Hand over one message, which is held until then; whether the client is still there."""
        outcome = "handed_over"
        try:
            await self._transport.request(Contact(client), message.protocol, message.payload, timeout_s=HAND_OVER_S)
        except RemoteProtocolError:  # the client's matter; the sender tries again and learns of it
            outcome = "failed"
        except FluvialError:  # away again, or it does not answer
            self._held.put_last(client, message)
            return False
        self._held.drop(client, message)
        self._outcomes.labels(outcome=outcome).inc()
        return True

    # --- from time to time --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        now_ms, now_s = self._clock.now_ms(), anyio.current_time()
        for relay in [relay for relay, again_s in self._again_s.items() if again_s <= now_s]:
            self._give(relay)
        for client in [client for client, lease in self._leases.items() if lease.expires_at_ms <= now_ms]:
            self._forget(client)
        self._held.expire(now_ms)
        self._look_at_clients()
        self._seek()

    def _look_at_clients(self) -> None:
        connected, now_s = self._transport.connected(), anyio.current_time()
        for client in self._leases.keys() & connected:
            self._seen_s[client] = now_s
        named = frozenset(client for client in self._leases if now_s - self._seen_s[client] <= AWAY_S)
        if named != self._named:
            self._named = named
            self._on_change()

    def _forget(self, client: PeerId) -> None:
        del self._leases[client]
        del self._seen_s[client]
        self._held.forget(client)
