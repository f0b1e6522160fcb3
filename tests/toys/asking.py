"""Routing ``asking``: asks the contacts it knows where a peer is. It begins with those of its options and with whoever connects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fluvial import hookimpl
from fluvial.addresses import Address, Contact
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Answer, Contributions, Routing

PROTOCOL = "/asking/1"
KNOWN_MAX = 256
ADDRESSES_MAX = 8
ASKED_MAX = 3
ASK_S = 1.0


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peers: Annotated[tuple[str, ...], msgspec.Meta(description="peers known from the start")] = ()

    def __post_init__(self) -> None:
        for text in self.peers:
            Contact.configured(text)


class Asking(Routing):
    def __init__(self, context: Context, options: Options) -> None:
        self._context = context
        self._me = context.keys.peer_id
        self._known: OrderedDict[PeerId, tuple[Address, ...]] = OrderedDict()
        self._proven: OrderedDict[PeerId, tuple[Address, ...]] = OrderedDict()
        for contact in map(Contact.configured, options.peers):
            self._keep(self._known, contact)
            self._keep(self._proven, contact)

    def contributions(self) -> Contributions:
        return Contributions(answers=(Answer(protocol=PROTOCOL, by=self._answer, bytes_max=64),))

    async def find(self, peer: PeerId) -> Contact | None:
        if peer not in self._known:
            for contact in self.contacts()[:ASKED_MAX]:
                await self._ask(contact, peer)
                if peer in self._known:
                    break
        addresses = self._known.get(peer)
        return Contact(peer, addresses) if addresses else None

    def learn(self, contact: Contact) -> None:
        addresses = tuple(one for one in contact.addresses if one.peer in (None, contact.peer))[:ADDRESSES_MAX]
        if addresses and contact.peer != self._me:
            self._keep(self._known, Contact(contact.peer, addresses))

    def proven(self, peer: PeerId, address: Address) -> None:
        others = [one for one in self._proven.get(peer, ()) if one != address]
        self._keep(self._proven, Contact(peer, (address, *others[: ADDRESSES_MAX - 1])))

    def contacts(self) -> Sequence[Contact]:
        return [Contact(peer, addresses) for peer, addresses in self._proven.items()]

    def _keep(self, table: OrderedDict[PeerId, tuple[Address, ...]], contact: Contact) -> None:
        table[contact.peer] = contact.addresses
        if len(table) > KNOWN_MAX:
            table.popitem(last=False)

    async def _ask(self, contact: Contact, peer: PeerId) -> None:
        try:
            answer = await self._context.peers.request(contact, PROTOCOL, peer.encode(), timeout_s=ASK_S)
            self.learn(Contact(peer, tuple(map(Address.parse, answer.decode().split()))))
        except (FluvialError, ValueError) as error:
            self._context.log.debug("asked_in_vain", other=contact.peer, error=str(error))

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        try:
            peer = PeerId.parse(payload.decode())
        except ValueError as error:
            raise RemoteProtocolError("this is no peer id") from error
        return " ".join(map(str, self._proven.get(peer, ()))).encode()


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.routing("asking", Asking, options=Options)
