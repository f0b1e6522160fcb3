"""Network prefixes: who shares one is counted together, since keys are free and addresses are not."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple


class Prefix(NamedTuple):
    """The network that an address is counted under.

    Attributes:
        name: such as ``203.0.113.0/24``; equal for equal networks.
        public: whether the address is reachable from everywhere; loopback, private and link-local ones are not.
    """

    name: str
    public: bool


@lru_cache(maxsize=1024)
def prefix_of(host: str, *, ipv4_bits: int, ipv6_bits: int) -> Prefix:
    """The prefix of a numeric host.

    Args:
        host: an IPv4 or IPv6 address, perhaps with a zone (``fe80::1%eth0``).
        ipv4_bits: length of the prefix for IPv4, 8 to 32.
        ipv6_bits: length of the prefix for IPv6, 16 to 128.

    Raises:
        ValueError: the text is no address.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # an IPv4 client of a socket that listens on both
    bits = ipv4_bits if address.version == 4 else ipv6_bits
    return Prefix(str(ip_network(f"{address}/{bits}", strict=False)), address.is_global)
