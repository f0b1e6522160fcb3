"""Routing ``static``: the peers named in the config, and those that announced their addresses.

Fit for networks in which everybody knows the few peers that matter, and for tests. It asks nobody: a peer that is neither configured
nor has announced itself is not found. Providers of capabilities come from the config alone.

What a peer announces is tried, but others are shown only where a peer has answered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Annotated, Final

import msgspec
from prometheus_client import Counter, Gauge

from fluvial.addresses import Address, Contact
from fluvial.identity import PeerId
from fluvial.ports import Capability, Context, Provider, Trust
from fluvial.seats import Routing

ANNOUNCED_PEERS_MAX: Final = 4096
"""Peers that announced themselves, and as many that have answered. About 2 MB each. Of the :data:`LOOKED_AT` that were seen or asked for longest
ago, the lightest goes first."""
LOOKED_AT: Final = 32
ADDRESSES_PER_PEER_MAX: Final = 8
"""As many as a particle may carry as reply addresses."""


class StaticOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of routing ``static``."""

    peers: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="peers known from the start: multiaddrs that end in /p2p/12D3KooW…"),
    ] = ()
    providers: Annotated[
        dict[str, tuple[str, ...]],
        msgspec.Meta(description='who has what, best first: {"service:weather" = ["12D3KooW…"]}'),
    ] = {}

    def __post_init__(self) -> None:
        """Refuse values that are no contact, no capability or no peer id."""
        for text in self.peers:
            Contact.configured(text)
        for capability, peers in self.providers.items():
            Capability.parse(capability)
            for peer in peers:
                PeerId.parse(peer)


class StaticRouting(Routing):
    """Contacts in memory: configured ones, which nobody can replace, and a bounded number of proven and of announced ones."""

    def __init__(self, context: Context, options: StaticOptions) -> None:
        self._me = context.keys.peer_id
        self._configured: dict[PeerId, tuple[Address, ...]] = {}
        for contact in map(Contact.configured, options.peers):
            self._configured[contact.peer] = self._configured.get(contact.peer, ()) + contact.addresses
        self._proven = _AddressTable(context.trust)
        self._announced = _AddressTable(context.trust)
        self._providers = {
            Capability.parse(text): tuple(map(PeerId.parse, peers)) for text, peers in options.providers.items()
        }
        gauge = Gauge("fluvial_routing_contacts", "Peers with a known contact", registry=context.metrics)
        gauge.set_function(lambda: len(self._peers()))
        self._evicted = Counter(
            "fluvial_routing_contacts_evicted",
            "Announced contacts forgotten because there were too many",
            registry=context.metrics,
        )

    async def find(self, peer: PeerId) -> Contact | None:
        """The configured addresses of a peer, then those at which it answered, then those it announced; None if it is unknown."""
        return self.known(peer)

    def known(self, peer: PeerId) -> Contact | None:
        """As :meth:`find`: it asks nobody."""
        addresses = _different((*self._shown(peer), *self._announced.asked(peer)))
        return Contact(peer, addresses) if addresses else None

    def learn(self, contact: Contact) -> None:
        """Keep announced addresses before the peer's older ones; those that name another peer at their end are dropped."""
        self._keep(self._announced, contact)

    def proven(self, peer: PeerId, address: Address) -> None:
        """Keep an address at which a peer answered before its older ones."""
        self._keep(self._proven, Contact(peer, (address,)))

    def contacts(self) -> Sequence[Contact]:
        """All contacts that others may be told of, configured peers first."""
        return [Contact(peer, self._shown(peer)) for peer in self._peers()]

    async def providers(self, capability: Capability, *, limit: int) -> Sequence[Provider]:
        """The configured ones, in their order."""
        peers = self._providers.get(capability, ())[:limit]
        return [Provider(contact=Contact(peer, self._shown(peer))) for peer in peers]

    def _keep(self, table: _AddressTable, contact: Contact) -> None:
        peer = contact.peer
        new = [address.with_peer(peer) for address in contact.addresses if address.peer in (None, peer)]
        if new and peer != self._me and table.put(peer, new):
            self._evicted.inc()

    def _peers(self) -> Sequence[PeerId]:
        return list(dict.fromkeys([*self._configured, *self._proven.peers()]))

    def _shown(self, peer: PeerId) -> tuple[Address, ...]:
        return _different((*self._configured.get(peer, ()), *self._proven.asked(peer)))


class _AddressTable:
    """Addresses of a bounded number of peers, and a bounded number for each; peers with weight stay before strangers."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._of: OrderedDict[PeerId, tuple[Address, ...]] = OrderedDict()

    def peers(self) -> Iterable[PeerId]:
        return self._of

    def asked(self, peer: PeerId) -> tuple[Address, ...]:
        """The addresses of a peer, newest first; it is not the next to be forgotten."""
        if peer in self._of:
            self._of.move_to_end(peer)
        return self._of.get(peer, ())

    def put(self, peer: PeerId, new: Iterable[Address]) -> bool:
        """Put addresses before the peer's older ones; whether another peer was forgotten for it."""
        self._of[peer] = _different((*new, *self._of.get(peer, ())))[:ADDRESSES_PER_PEER_MAX]
        self._of.move_to_end(peer)
        if len(self._of) <= ANNOUNCED_PEERS_MAX:
            return False
        del self._of[min(islice(self._of, LOOKED_AT), key=self._trust.weight)]
        return True


def _different(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(dict.fromkeys(addresses))
