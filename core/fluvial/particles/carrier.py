"""Hands something to a peer: over an open connection, by dialling it, or through a relay that is connected to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.addresses import Address, Contact
from fluvial.errors import Unreachable
from fluvial.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import PeerId
from fluvial.particle import Delivery, Header, encode_delivery
from fluvial.particles import notice
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt

ANSWER_TIMEOUT_S: Final = 15.0
"""For the receiver to check, store and answer."""


class Carrier:
    """See the module's docstring."""

    def __init__(self, me: PeerId, transport: GuardedTransport, routing: GuardedRouting) -> None:
        self._me = me
        self._transport = transport
        self._routing = routing

    async def carry(self, delivery: Delivery) -> Receipt:
        """Deliver to ``delivery.to``.

        Raises:
            Unreachable: no way led to the peer. RemoteProtocolError: what answered there does not keep to the protocol.
            LocalProtocolError: the delivery is larger than the transport's frames.
        """
        return await self._hand(
            PeerId.from_public_key(delivery.to), delivery.header, PROTOCOL, encode_delivery(delivery)
        )

    async def tell(self, header: Header, payload: bytes) -> Receipt:
        """Hand an encoded failure notice to the initiator of the particle with this header; raises as :meth:`carry`."""
        return await self._hand(PeerId.from_public_key(header.initiator), header, notice.PROTOCOL, payload)

    async def _hand(self, peer: PeerId, header: Header, protocol: str, payload: bytes) -> Receipt:
        ways = await self._ways(peer, header)
        direct = tuple(address for address in ways if address.relay is None)
        circuits = [address for address in ways if address.relay not in (None, self._me)]
        failure = Unreachable(
            f"no way to {peer} is known", hint="is it running, and has it announced an address or a relay?"
        )
        if direct or peer in self._transport.connected():
            try:
                return await self._ask(Contact(peer, direct), protocol, payload)
            except Unreachable as error:
                failure = error
        for circuit in circuits:
            assert circuit.relay is not None
            way = Address(host_kind=circuit.host_kind, host=circuit.host, port=circuit.port, peer=circuit.relay)
            try:
                receipt = await self._ask(Contact(circuit.relay, (way,)), protocol, payload)
            except Unreachable as error:
                failure = error
                continue
            if receipt.reason != "unreachable":
                return receipt
            failure = Unreachable(receipt.explanation)
        raise failure

    async def _ways(self, peer: PeerId, header: Header) -> Sequence[Address]:
        """The addresses that the routing knows; to the initiator also those that came with the particle."""
        contact = await self._routing.find(peer)
        known = contact.addresses if contact is not None else ()
        if header.initiator != peer.public_key:
            return known
        told = (Address.parse(text).with_peer(peer) for text in header.reply_to)
        return tuple(dict.fromkeys((*known, *told)))

    async def pass_on(self, peer: PeerId, protocol: str, payload: bytes) -> Receipt:
        """As a relay: hand encoded bytes to a peer that is connected now; raises as :meth:`carry`."""
        return await self._ask(Contact(peer), protocol, payload)

    async def _ask(self, contact: Contact, protocol: str, payload: bytes) -> Receipt:
        return decode_receipt(await self._transport.request(contact, protocol, payload, timeout_s=ANSWER_TIMEOUT_S))
