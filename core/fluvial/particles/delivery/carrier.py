"""Hands something to a peer: over an open connection, by dialling it, or through a relay.

The ways are tried in this order:

=============== ==========================================================================================================
``connection``  over an open connection
``known``       at the addresses that the routing knows without asking anybody; to the initiator also those of its particle
``found``       at further addresses that the routing finds
``relay``       through the relays in the peer's circuit addresses, then through this peer's own: they may know a way that this
                peer does not, as a client knows nobody but its relay
=============== ==========================================================================================================

A failure notice is handed over in the same ways, but nobody is looked for: it is of no use any more when that takes long, and a script can cause very many.

A relay hands over directly, never through further relays. One that refuses to do so is a way that failed, and says nothing about the peer: the next
relay is tried. Only if nothing else is left its refusal is the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from fluvial.addresses import Address, Contact
from fluvial.errors import Refused, Unreachable
from fluvial.fairness import SharedPlaces
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import PeerId
from fluvial.particle import Delivery, Header, encode_delivery
from fluvial.particles import notice
from fluvial.particles.delivery.places import SparePlaces
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt
from fluvial.waiting import now_s

Way: TypeAlias = Literal["connection", "known", "found", "relay"]
"""See the module's docstring."""

_Find: TypeAlias = Callable[[PeerId], Awaitable[Contact | None]]


class Led(msgspec.Struct, frozen=True):
    """How a peer was reached.

    Attributes:
        way: which one led to it.
        via: the addresses that were dialled, best first with commas between, or the id of the relay; empty for an open connection.
    """

    way: Way
    via: str = ""


DIRECT_WAYS: Final[Sequence[Way]] = ("connection", "known", "found")
RELAYS_TOLD_MAX: Final = 3
"""Relays of one peer that are tried because somebody named them."""
ANSWER_TIMEOUT_S: Final = 15.0
"""For the receiver to check, store and answer."""
PASSED_ON_MAX: Final = 512
"""Messages that are passed on to connected peers at the same time; they wait for answers of others, and leave room for what is meant for this peer."""
PASSED_ON_TO_ONE_MAX: Final = 128
SPARE_MAX: Final = 128
"""Messages that are passed on besides, one to each receiver, where their sender has its places: it brings what others have begun as well."""
SOUGHT_MAX: Final = 64
"""Messages for which a way is sought before they are passed on."""
SOUGHT_FOR_ONE_MAX: Final = 16


class Hold(Protocol):
    """Keeps a message for a client that is away."""

    def __call__(self, client: PeerId, protocol: str, payload: bytes, *, sender: PeerId, deadline_ms: int) -> bool:
        """Whether it is kept."""
        ...


class Carrier:
    """See the module's docstring.

    Args:
        me: this peer.
        transport, routing: the seats.
        relays: this peer's own relays now, best first.
        hold: as a relay, keeps a message for a client that is away; whether it is kept.
    """

    def __init__(
        self,
        me: PeerId,
        transport: GuardedTransport,
        routing: GuardedRouting,
        *,
        relays: Callable[[], Sequence[Contact]],
        hold: Hold,
    ) -> None:
        self._me = me
        self._transport = transport
        self._routing = routing
        self._relays = relays
        self._hold = hold
        self._passed_on: Final = SharedPlaces[PeerId](PASSED_ON_MAX, PASSED_ON_TO_ONE_MAX)  # by receiver
        self._passed_on_of: Final = SharedPlaces[PeerId](PASSED_ON_MAX, PASSED_ON_MAX)  # the same by sender
        self._spare: Final = SparePlaces(SPARE_MAX)
        self._sought: Final = SharedPlaces[PeerId](SOUGHT_MAX, SOUGHT_FOR_ONE_MAX)
        self._looking_for: Final = Counter[PeerId]()

    async def carry(self, delivery: Delivery) -> tuple[Receipt, Led]:
        """Deliver to ``delivery.to``; returns what it said, and by which way it was reached.

        Raises:
            Unreachable: no way led to the peer. RemoteProtocolError: what answered there does not keep to the protocol.
            LocalProtocolError: the delivery is larger than the transport's frames.
        """
        peer = PeerId.from_public_key(delivery.to)
        find = partial(self._find, to=peer)
        return await self._hand(peer, delivery.header, PROTOCOL, encode_delivery(delivery), find)

    async def tell(self, header: Header, payload: bytes) -> Receipt:
        """Hand an encoded failure notice to the initiator of the particle with this header; raises as :meth:`carry`."""
        initiator = PeerId.from_public_key(header.initiator)
        receipt, _ = await self._hand(initiator, header, notice.PROTOCOL, payload, self._known)
        return receipt

    async def _hand(
        self, peer: PeerId, header: Header, protocol: str, payload: bytes, find: _Find
    ) -> tuple[Receipt, Led]:
        failures: list[tuple[str, Unreachable]] = []
        refusals: list[tuple[Receipt, Led]] = []
        ways: list[Address] = []
        for way in DIRECT_WAYS:
            found = [address for address in await self._addresses(way, peer, header, find) if address not in ways]
            ways += found
            direct = tuple(address for address in found if address.relay is None)
            connected = peer in self._transport.connected()
            if connected is not (way == "connection") or not (connected or direct):
                continue  # a connection that stands was tried first, and no other way is tried while it does
            try:
                receipt = await self._ask(Contact(peer, direct), protocol, payload)
                return receipt, Led(way, "" if connected else ",".join(map(_where, direct)))
            except Unreachable as error:
                failures.append(("", error.with_traceback(None)))
                if direct:
                    self._routing.failed(Contact(peer, direct))
        for relay in await self._relays_to(peer, ways, find):
            try:
                receipt = await self._ask(relay, protocol, payload)
            except Unreachable as error:
                failures.append((f"relay {relay.peer}: ", error.with_traceback(None)))
                self._routing.failed(relay)
                continue
            led = Led("relay", str(relay.peer))
            if receipt.reason != "unreachable" and not receipt.at_relay:
                return receipt, led
            if receipt.reason != "unreachable":
                refusals.append((receipt, led))
            failures.append((f"relay {relay.peer}: ", Unreachable(receipt.explanation)))
        if any(way.relay is not None for way in ways):
            self._routing.failed(Contact(peer, tuple(ways)))  # perhaps it has other relays by now
        if refusals and len(refusals) == len(failures):
            return next((one for one in refusals if one[0].temporary), refusals[0])
        if not failures:
            raise _no_way(peer)
        try:
            if len(failures) == 1:
                raise failures[0][1]
            raise Unreachable("; ".join(dict.fromkeys(by + failure.message for by, failure in failures)))
        finally:
            # In a circle with this frame they would keep all that is being sent, until garbage is collected.
            del failures

    async def _find(self, peer: PeerId, *, to: PeerId) -> Contact | None:
        """Look for a peer, on the way to this one."""
        self._looking_for[to] += 1
        try:
            return await self._routing.find(peer)
        finally:
            self._looking_for[to] -= 1
            if not self._looking_for[to]:
                del self._looking_for[to]

    async def _known(self, peer: PeerId) -> Contact | None:
        return self._routing.known(peer)

    async def _addresses(self, way: Way, peer: PeerId, header: Header, find: _Find) -> Sequence[Address]:
        """The addresses for a way; to the initiator also those that came with the particle."""
        if way == "connection":
            return ()
        contact = self._routing.known(peer) if way == "known" else await find(peer)
        known = contact.addresses if contact is not None else ()
        if way == "found" or header.initiator != peer.public_key:
            return known
        told = (Address.parse(text).with_peer(peer) for text in header.reply_to)
        return tuple(dict.fromkeys((*known, *told)))

    def is_connected(self, peer: PeerId) -> bool:
        """Whether a connection with a peer stands."""
        return peer in self._transport.connected()

    def is_looking_for(self, peer: PeerId) -> bool:
        """Whether a way to a peer is looked for, or to a relay on the way; a routing has a bounded number of places for that."""
        return peer in self._looking_for

    async def check_way(self, peer: PeerId) -> None:
        """Raise Unreachable if no way to a peer is known that it could be tried on."""
        if self._relays() or peer in self._transport.connected():
            return
        contact = await self._find(peer, to=peer)
        if contact is None or not contact.addresses:
            raise _no_way(peer)

    async def _relays_to(self, peer: PeerId, ways: Sequence[Address], find: _Find) -> Sequence[Contact]:
        """Through whom it can be tried, each relay once: where this peer knows it to be, then where it is said to be."""
        told: dict[PeerId, tuple[Address, ...]] = {}
        for way in ways:
            if way.relay not in (None, self._me, peer):
                told[way.relay] = (*told.get(way.relay, ()), replace(way, peer=way.relay, relay=None))
        own = {relay.peer: relay for relay in self._relays() if relay.peer not in (self._me, peer)}
        relays: list[Contact] = []
        for relay in [relay for relay in told if relay not in own][:RELAYS_TOLD_MAX]:
            found = await find(relay)
            known = [way for way in found.addresses if way.relay is None] if found is not None else []
            relays.append(Contact(relay, (*known, *told[relay])))
        return [*[own[relay] for relay in told if relay in own], *relays, *[own[one] for one in own if one not in told]]

    async def pass_on(
        self, peer: PeerId, protocol: str, payload: bytes, *, sender: PeerId, deadline_ms: int
    ) -> Receipt:
        """As a relay: hand encoded bytes to a peer directly; raises as :meth:`carry`, and Refused, ``busy``.

        Places for this are shared by the receivers, of which some never answer, and by the senders, of which some send to hundreds of such. One of these may
        do so for others: so what goes to a receiver that may answer soon has a place besides.

        If the peer is a client of this relay that is away, they wait for it until the deadline. That is a help and no promise: the sender is told that the
        peer could not be reached, and tries again.
        """
        began_s, connected = now_s(), self.is_connected(peer)
        is_spare = not self._passed_on_of.take(sender)
        if is_spare and not (connected and self._spare.take(peer, began_s)):
            raise _busy(self._passed_on_of.has(sender), f"of {sender}")
        try:
            if self._passed_on.take(peer):
                try:
                    answer: Awaitable[bytes] | None
                    answer = self._transport.ask(peer, protocol, payload, timeout_s=ANSWER_TIMEOUT_S)
                    if answer is None and self.is_connected(peer):  # there is no room for it now
                        answer = self._transport.request(Contact(peer), protocol, payload, timeout_s=ANSWER_TIMEOUT_S)
                    if answer is not None:
                        return decode_receipt(await answer)
                finally:
                    self._passed_on.give(peer)
            elif self.is_connected(peer):
                raise _busy(self._passed_on.has(peer), f"for {peer}")
            return decode_receipt(await self._ask_anew(peer, protocol, payload, sender))
        except Unreachable as error:
            if self._hold(peer, protocol, payload, sender=sender, deadline_ms=deadline_ms):
                raise Unreachable(f"{error.message}; it waits at the relay until {peer} is there") from error
            raise
        finally:
            if is_spare:
                self._spare.give(peer)
            else:
                self._passed_on_of.give(sender)
            if connected:
                self._spare.took(peer, now_s() - began_s, now_s())

    async def _ask_anew(self, peer: PeerId, protocol: str, payload: bytes, sender: PeerId) -> bytes:
        """The answer to what is passed on over a connection for which a way is sought."""
        if not self._sought.take(sender):
            raise _busy(self._sought.has(sender), f"of {sender} for peers that are not connected")
        try:
            found = await self._routing.find(peer)
            direct = tuple(way for way in found.addresses if way.relay is None) if found is not None else ()
            if not direct:
                raise _no_way(peer)
            return await self._transport.request(Contact(peer, direct), protocol, payload, timeout_s=ANSWER_TIMEOUT_S)
        finally:
            self._sought.give(sender)

    async def _ask(self, contact: Contact, protocol: str, payload: bytes) -> Receipt:
        return decode_receipt(await self._transport.request(contact, protocol, payload, timeout_s=ANSWER_TIMEOUT_S))


def _where(address: Address) -> str:
    """An address without the peer, which everybody knows who reads it."""
    return str(replace(address, peer=None))


def _busy(number: int, which: str) -> Refused:
    return Refused(f"{number} messages {which} are being passed on, try again", reason="busy")


def _no_way(peer: PeerId) -> Unreachable:
    return Unreachable(f"no way to {peer} is known", hint="is it running, and has it announced an address or a relay?")
