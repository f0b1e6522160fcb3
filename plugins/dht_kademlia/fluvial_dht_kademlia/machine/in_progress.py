"""What a machine has in progress: requests on their way, and lookups with what they are for."""

from __future__ import annotations

import msgspec
from fluvial.addresses import Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.lookup import Lookup
from fluvial_dht_kademlia.machine.provider_search import ProviderSearch
from fluvial_dht_kademlia.machine.records import ProviderRecord


class OutstandingRequest(msgspec.Struct):
    """A request on its way; ``operation`` is the lookup or the offer it belongs to, None for a ping."""

    contact: Contact
    operation: int | None
    sent_at: int


class LookupRun(msgspec.Struct):
    """A lookup in progress: of peers, of one peer (``wanted``), of providers (``search``) or of replicas for a record (``offer``).

    Upkeep is not ``reported``.
    """

    lookup: Lookup
    started_at: int
    reported: bool = True
    wanted: PeerId | None = None
    search: ProviderSearch | None = None
    offer: tuple[Challenge, ProviderRecord] | None = None
