"""Implements the port ``peers``: parts send messages to other peers, over the transport, to the contacts that the routing finds."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Unreachable
from fluvial.guard.guarded import SEND_S, GuardedRouting, GuardedTransport
from fluvial.identity import PeerId


class DirectPeers:
    """See :class:`fluvial.ports.Peers`.

    Args:
        transport, routing: the seats.
    """

    def __init__(self, transport: GuardedTransport, routing: GuardedRouting) -> None:
        self._transport = transport
        self._routing = routing
        self._ready = anyio.Event()

    def open(self) -> None:
        """The transport has started."""
        self._ready.set()

    async def request(self, to: PeerId | Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        """As :meth:`Peers.request`."""
        deadline = anyio.current_time() + timeout_s
        contact = await self._contact(to, timeout_s)
        left_s = max(0.0, deadline - anyio.current_time())
        return await self._transport.request(contact, protocol, payload, timeout_s=left_s)

    async def send(self, to: PeerId | Contact, protocol: str, payload: bytes) -> None:
        """As :meth:`Peers.send`."""
        await self._transport.send(await self._contact(to, SEND_S), protocol, payload)

    def post(self, to: PeerId, protocol: str, payload: bytes) -> bool:
        """As :meth:`Peers.post`."""
        return self._ready.is_set() and self._transport.post(to, protocol, payload)

    def connected(self) -> frozenset[PeerId]:
        """As :meth:`Peers.connected`."""
        return self._transport.connected() if self._ready.is_set() else frozenset()

    def addresses(self) -> Sequence[Address]:
        """As :meth:`Peers.addresses`."""
        return self._transport.addresses if self._ready.is_set() else ()

    def dialable(self, address: Address) -> bool:
        """As :meth:`Peers.dialable`."""
        return self._transport.dialable(address)

    async def prove(self, contact: Contact, *, timeout_s: float) -> Contact:
        """As :meth:`Peers.prove`."""
        with anyio.move_on_after(timeout_s):
            await self._ready.wait()
            return Contact(contact.peer, tuple(await self._transport.prove(contact, timeout_s=timeout_s)))
        return Contact(contact.peer)

    async def _contact(self, to: PeerId | Contact, within_s: float) -> Contact:
        peer = to.peer if isinstance(to, Contact) else to
        with anyio.move_on_after(within_s):
            await self._ready.wait()
            if isinstance(to, Contact):
                return to
            if to in self._transport.connected():
                return Contact(to)
            if (found := await self._find(to)) is not None:
                return found
            raise Unreachable(f"no way to {to} is known", hint="is it running, and has it announced an address?")
        raise Unreachable(f"{peer}: no way was found within {within_s:g} s")

    async def _find(self, peer: PeerId) -> Contact | None:
        return await self._routing.find(peer)


class ContactPeers(DirectPeers):
    """The port for the routing, which gives contacts only: a lookup would ask the routing itself."""

    async def _find(self, peer: PeerId) -> Contact | None:
        raise LocalProtocolError(f"the routing asks contacts, and {peer} is only an id and not connected")
