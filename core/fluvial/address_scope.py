"""From where an address can be reached, and which of the addresses that others told a peer may dial; pure.

Whoever tells an address makes others knock at it. So a peer dials addresses that strangers told only where it lives itself: a peer of the public
Internet never looks for hosts inside of its owner's network. Addresses that the owner configured are not judged.

======= ======================================= =============================================
scope   hosts                                   a peer with this scope dials, when told to
======= ======================================= =============================================
public  global unicast                          public hosts
private RFC 1918, RFC 6598, RFC 4193            public and private ones
local   loopback                                public, private and loopback ones
special link-local, multicast, reserved and any none of them; as a setting ``any``: everything
        other
======= ======================================= =============================================

Source: the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890); OWASP "Server-Side Request Forgery Prevention".
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from fluvial.addresses import Address

PORTS_RESERVED: Final = 1024
"""Ports below belong to well-known services; told addresses with them are not dialled."""
PORTS_ALLOWED: Final = frozenset({443})
"""Except those that peers use where firewalls let nothing else pass."""


JUDGED_MAX: Final = 4_096
"""Hosts of which it is remembered what they are."""


class AddressScope(IntEnum):
    """From where a host can be reached; each is narrower than the one before."""

    PUBLIC = 0
    PRIVATE = 1
    LOCAL = 2
    SPECIAL = 3


_PRIVATE: Final = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
_NOT_PUBLIC_4: Final = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/3")))
_PUBLIC_6: Final = ip_network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64: Final = ip_network("64:ff9b::/96")
_PRIVATE_DOMAINS: Final = frozenset({"local", "internal", "lan", "intranet", "corp", "home", "private", "arpa"})


@lru_cache(maxsize=JUDGED_MAX)
def destination(host: str) -> IPv4Address | IPv6Address:
    """Where packets to a numeric host go: one value for all spellings of a host, and for the IPv6 addresses that stand for an IPv4 host.

    Args:
        host: an IPv4 or IPv6 address, perhaps with a zone (``fe80::1%eth0``).

    Raises:
        ValueError: the text is no IP address.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


@lru_cache(maxsize=JUDGED_MAX)
def scope_of_host(host: str) -> AddressScope:
    """The scope of a numeric host; raises as :func:`destination`."""
    address = destination(host)
    if address.is_loopback:
        return AddressScope.LOCAL
    if any(address in network for network in _PRIVATE):
        return AddressScope.PRIVATE
    if isinstance(address, IPv6Address):
        return (
            AddressScope.PUBLIC if address in _PUBLIC_6 and not _among(address, _NOT_PUBLIC_6) else AddressScope.SPECIAL
        )
    return AddressScope.PUBLIC if address.is_global and not _among(address, _NOT_PUBLIC_4) else AddressScope.SPECIAL


def _among(address: IPv4Address | IPv6Address, networks: Iterable[object]) -> bool:
    return any(address in network for network in networks)  # type: ignore[operator]  # networks of either version


def scope_of(address: Address) -> AddressScope:
    """The scope of an address. A name is judged by its form only: judge what it resolves to with :func:`scope_of_host` before it is dialled."""
    if address.host_kind.startswith("ip"):
        return scope_of_host(address.host)
    name = address.host.rstrip(".").lower()
    _, dot, last = name.rpartition(".")
    if last == "localhost":
        return AddressScope.LOCAL
    if not dot or last in _PRIVATE_DOMAINS:
        return AddressScope.PRIVATE
    return scope_of_host(name) if _is_numeric(name) else AddressScope.PUBLIC


def _is_numeric(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _ends_in_a_number(name: str) -> bool:
    """Whether a resolver would take a name for an IPv4 address: ``127.1``, ``0x7f.1``, ``2130706433``.

    Source: WHATWG URL Standard, "ends-in-a-number checker".
    """
    last = name.rstrip(".").rpartition(".")[2].lower()
    return last.isdecimal() or (last.startswith("0x") and not last[2:].strip("0123456789abcdef"))


def widest(addresses: Iterable[Address], *, default: AddressScope) -> AddressScope:
    """The scope of a peer that is reached at these addresses: of the one that most can reach; ``default`` if there are none.

    Addresses of scope ``special`` do not count: resolve 0.0.0.0 and :: to the hosts of this machine first.
    """
    return min((scope for one in addresses if (scope := scope_of(one)) is not AddressScope.SPECIAL), default=default)


def refusal(address: Address, own: AddressScope) -> str:
    """Why a peer must not dial an address that somebody else told it; empty if it may.

    Args:
        address: as it was told. A name must be judged again, host by host, when it was resolved: see :func:`host_refusal`.
        own: the peer's own scope; ``SPECIAL`` for one that dials everything.
    """
    if address.configured or own is AddressScope.SPECIAL:
        return ""
    if not address.host_kind.startswith("ip") and _ends_in_a_number(address.host):
        return f"{address.host} is no name but an IPv4 address in another form"
    if address.port < PORTS_RESERVED and address.port not in PORTS_ALLOWED:
        return f"port {address.port} is one of well-known services"
    return _refused(scope_of(address), own)


def host_refusal(host: str, own: AddressScope) -> str:
    """Why a peer must not connect to a numeric host that somebody else told it; empty if it may."""
    return "" if own is AddressScope.SPECIAL else _refused(scope_of_host(host), own)


def _refused(scope: AddressScope, own: AddressScope) -> str:
    if scope <= own and scope is not AddressScope.SPECIAL:
        return ""
    return f"it is a {scope.name.lower()} address, and this peer dials {_DIALLED[own]} ones when others name them"


_DIALLED: Final = {
    AddressScope.PUBLIC: "only public",
    AddressScope.PRIVATE: "only public and private",
    AddressScope.LOCAL: "no special",
    AddressScope.SPECIAL: "all",
}
