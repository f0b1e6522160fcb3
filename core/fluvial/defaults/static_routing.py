"""Routing ``static``: the peers named in the config, and those that announced their addresses.

Fit for networks in which everybody knows the few peers that matter, and for tests. It asks nobody: a peer that is neither configured
nor has announced itself is not found. Providers of capabilities come from the config alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from prometheus_client import Counter, Gauge

from fluvial.addresses import Address, Contact
from fluvial.identity import PeerId
from fluvial.ports import Capability, Context, Provider
from fluvial.seats import Routing

ANNOUNCED_PEERS_MAX: Final = 4096
"""Peers that announced themselves; the least recently announced or asked for goes first. About 2 MB."""
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
            Contact.parse(text)
        for capability, peers in self.providers.items():
            Capability.parse(capability)
            for peer in peers:
                PeerId.parse(peer)


class StaticRouting(Routing):
    """Contacts in memory: configured ones, which nobody can replace, and a bounded number of announced ones."""

    def __init__(self, context: Context, options: StaticOptions) -> None:
        self._me = context.keys.peer_id
        self._configured: dict[PeerId, tuple[Address, ...]] = {}
        for contact in map(Contact.parse, options.peers):
            self._configured[contact.peer] = self._configured.get(contact.peer, ()) + contact.addresses
        self._announced: OrderedDict[PeerId, tuple[Address, ...]] = OrderedDict()
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
        """The configured addresses of a peer, then those it announced; None if it is unknown."""
        if peer in self._announced:
            self._announced.move_to_end(peer)
        addresses = self._addresses(peer)
        return Contact(peer, addresses) if addresses else None

    def learn(self, contact: Contact) -> None:
        """Keep announced addresses before the peer's older ones; those that name another peer at their end are dropped."""
        peer = contact.peer
        new = [address.with_peer(peer) for address in contact.addresses if address.peer in (None, peer)]
        if not new or peer == self._me:
            return
        self._announced[peer] = _first_different([*new, *self._announced.get(peer, ())])
        self._announced.move_to_end(peer)
        if len(self._announced) > ANNOUNCED_PEERS_MAX:
            self._announced.popitem(last=False)
            self._evicted.inc()

    def contacts(self) -> Sequence[Contact]:
        """All known contacts, configured peers first."""
        return [Contact(peer, self._addresses(peer)) for peer in self._peers()]

    async def providers(self, capability: Capability, *, limit: int) -> Sequence[Provider]:
        """The configured ones, in their order."""
        peers = self._providers.get(capability, ())[:limit]
        return [Provider(contact=Contact(peer, self._addresses(peer))) for peer in peers]

    def _peers(self) -> Sequence[PeerId]:
        return list(dict.fromkeys([*self._configured, *self._announced]))

    def _addresses(self, peer: PeerId) -> tuple[Address, ...]:
        configured = self._configured.get(peer, ())
        return (*configured, *(one for one in self._announced.get(peer, ()) if one not in configured))


def _first_different(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(dict.fromkeys(addresses))[:ADDRESSES_PER_PEER_MAX]
