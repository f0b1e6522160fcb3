"""What a machine has in progress: requests on their way, and lookups with what they are for."""

from __future__ import annotations

from dataclasses import dataclass

from fluvial.addresses import Contact

from fluvial_dht_kademlia.challenges import Challenge
from fluvial_dht_kademlia.lookup import Lookup
from fluvial_dht_kademlia.provider_search import ProviderSearch
from fluvial_dht_kademlia.records import ProviderRecord


@dataclass(slots=True)
class OutstandingRequest:
    """A request on its way; ``operation`` is the lookup or the offer it belongs to, None for a ping."""

    contact: Contact
    operation: int | None
    sent_at: int


@dataclass(slots=True)
class LookupRun:
    """A lookup in progress: of peers, of providers (``search``) or of replicas for a record (``offer``); upkeep is not ``reported``."""

    lookup: Lookup
    started_at: int
    reported: bool = True
    search: ProviderSearch | None = None
    offer: tuple[Challenge, ProviderRecord] | None = None
