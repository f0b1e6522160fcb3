"""Where a peer can be reached: multiaddrs, and contacts made of them.

Understood forms, in the text notation of multiformats (``multiaddr`` specification):

- ``/ip4/127.0.0.1/tcp/7771``, ``/ip6/::1/tcp/7771``, ``/dns4/relay.example.org/tcp/7771`` (also ``dns``, ``dns6``),
  each optionally followed by ``/p2p/PEER``: a direct address;
- a direct address with ``/p2p/RELAY/p2p-circuit``, optionally followed by ``/p2p/PEER``: reached through a relay that holds a
  connection to the peer.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from fluvial.identity import PeerId

_HOST_KINDS = ("ip4", "ip6", "dns", "dns4", "dns6")
ADDRESS_CHARACTERS_MAX: Final = 512
"""Longest text of an address: a host name of 253 characters and two peer ids fit in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One way to a peer; ``peer`` is None if it is not known which peer answers there.

    ``relay`` names the relay of a circuit address: host and port are then the relay's. ``configured`` says that the owner of this peer
    wrote it down: such an address is dialled wherever it leads (see :mod:`fluvial.address_scope`). It is no part of the address: it does not
    count for equality, and is never sent.
    """

    host_kind: str
    host: str
    port: int
    peer: PeerId | None = None
    relay: PeerId | None = None
    configured: bool = field(default=False, compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that ``text`` spells.

        Raises:
            ValueError: the text is none of the understood forms; the message says what was expected.
        """
        if len(text) > ADDRESS_CHARACTERS_MAX:
            raise ValueError(f"{text[:80]!r}… is no address: it has more than {ADDRESS_CHARACTERS_MAX} characters")
        parts = text.split("/")
        if len(parts) < 5 or parts[0] or parts[1] not in _HOST_KINDS or parts[3] != "tcp":
            raise ValueError(f"{text!r} is no address like /ip4/127.0.0.1/tcp/7771[/p2p/12D3KooW…]")
        kind, host = parts[1], parts[2]
        _check_host(text, kind, host)
        if not parts[4].isascii() or not parts[4].isdigit() or int(parts[4]) > 65535:
            raise ValueError(f"{text!r}: {parts[4]!r} is no TCP port")
        first, relay, rest = None, None, parts[5:]
        if rest[:1] == ["p2p"] and len(rest) >= 2:
            first, rest = PeerId.parse(rest[1]), rest[2:]
        if rest[:1] == ["p2p-circuit"]:
            if first is None:
                raise ValueError(f"{text!r}: /p2p-circuit needs the relay's /p2p/… before it")
            relay, first, rest = first, None, rest[1:]
            if rest[:1] == ["p2p"] and len(rest) == 2:
                first, rest = PeerId.parse(rest[1]), []
        if rest:
            raise ValueError(f"{text!r}: cannot read {'/'.join(rest)!r} at its end")
        return cls(host_kind=kind, host=host, port=int(parts[4]), peer=first, relay=relay)

    def with_peer(self, peer: PeerId) -> Address:
        """The same address with the peer id at its end."""
        return replace(self, peer=peer)

    def __str__(self) -> str:
        """The multiaddr text."""
        circuit = f"/p2p/{self.relay}/p2p-circuit" if self.relay else ""
        end = f"/p2p/{self.peer}" if self.peer else ""
        return f"/{self.host_kind}/{self.host}/tcp/{self.port}{circuit}{end}"


def _check_host(text: str, kind: str, host: str) -> None:
    if kind.startswith("ip"):
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            raise ValueError(f"{text!r}: {host!r} is no IP address") from None
        if version != int(kind[2:]):
            raise ValueError(f"{text!r}: {host!r} is no IPv{kind[2:]} address")
    elif not host or len(host) > 253:
        raise ValueError(f"{text!r}: a host name is missing or too long")


class Contact(msgspec.Struct, frozen=True):
    """A peer and the ways to it, best first. Without addresses it can be reached only over a connection that is open already."""

    peer: PeerId
    addresses: tuple[Address, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Contact:
        """A contact from one address that ends in ``/p2p/PEER``.

        Raises:
            ValueError: the text is no address or does not name the peer.
        """
        address = Address.parse(text)
        if address.peer is None:
            raise ValueError(f"{text!r} does not say who is there: add /p2p/12D3KooW…")
        return cls(address.peer, (address,))

    @classmethod
    def configured(cls, text: str) -> Contact:
        """As :meth:`parse`, of a text that the owner of this peer wrote: never of one that another peer sent."""
        contact = cls.parse(text)
        return cls(contact.peer, tuple(replace(address, configured=True) for address in contact.addresses))
