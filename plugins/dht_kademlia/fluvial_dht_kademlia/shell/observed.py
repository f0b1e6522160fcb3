"""Where others see this peer: it listens on all interfaces, or behind a router, and cannot know its own address. Pure.

Those who were asked name the addresses at which they dialled this peer and were shown its key. One of them may lie. So an address counts only if
several say it who do not live together, and if those are more than half of all that were heard. Voters with public addresses live together if these
share 16 bits (IPv6: 32); others are told apart by their ids, since they are in the network of the owner.

Source: for votes by networks rather than peers, Heilman et al.: "Eclipse Attacks on Bitcoin's Peer-to-Peer Network", section 8.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Final

import msgspec
from fluvial.address_scope import AddressScope, destination, scope_of
from fluvial.addresses import Address, Contact

VOTERS_MAX: Final = 16
"""Networks whose last word is remembered."""
VOTES_MIN: Final = 2
PREFIX_BITS: Final = {4: 16, 6: 32}


def is_everywhere(address: Address) -> bool:
    """Whether an address stands for all interfaces, so that others cannot dial it as it is."""
    return address.host_kind.startswith("ip") and ip_address(address.host).is_unspecified


class ObservedAddresses(msgspec.Struct):
    """See the module's docstring."""

    _votes: OrderedDict[str, frozenset[Address]] = msgspec.field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """How many networks have been heard."""
        return len(self._votes)

    def heard(self, voter: Contact, seen: Iterable[Address]) -> None:
        """What a peer has said, in place of what its network said before."""
        network = _network_of(voter)
        self._votes[network] = frozenset(seen)
        self._votes.move_to_end(network)
        if len(self._votes) > VOTERS_MAX:
            self._votes.popitem(last=False)

    def votes(self, address: Address) -> int:
        """How many networks have said an address."""
        return sum(address in said for said in self._votes.values())

    def believed(self) -> list[Address]:
        """The addresses that count, those with the most votes first."""
        said = {address for one in self._votes.values() for address in one}
        votes = {address: self.votes(address) for address in said}
        good = [one for one, count in votes.items() if count >= VOTES_MIN and 2 * count > len(self._votes)]
        return sorted(good, key=lambda one: (-votes[one], str(one)))

    def in_place_of(self, announced: Sequence[Address]) -> list[Address]:
        """What to tell others: for an address that stands for all interfaces those of its kind and port that count; the others as they are."""
        told: list[Address] = []
        for address in announced:
            if is_everywhere(address):
                told += [
                    one for one in self.believed() if (one.host_kind, one.port) == (address.host_kind, address.port)
                ]
            else:
                told.append(address)
        return list(dict.fromkeys(told))


def _network_of(voter: Contact) -> str:
    for address in voter.addresses:
        if address.host_kind.startswith("ip") and scope_of(address) is AddressScope.PUBLIC:
            host = destination(address.host)
            bits = PREFIX_BITS[host.version]
            return f"{host.version}/{int(host) >> (host.max_prefixlen - bits):x}"
    return str(voter.peer)
