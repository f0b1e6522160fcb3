"""What peers of the DHT ask each other, and the answers, as values. Their wire form belongs to the shell that sends them."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from fluvial.addresses import Contact

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.records import ProviderRecord


class Ping(msgspec.Struct, frozen=True):
    """Are you there?"""


class FindPeers(msgspec.Struct, frozen=True):
    """Who is nearest to a key?"""

    target: Key


class FindProviders(msgspec.Struct, frozen=True):
    """Which records are at a key, and who is nearest to it?"""

    key: Key
    limit: int


class AddProvider(msgspec.Struct, frozen=True):
    """Keep this record."""

    challenge: Challenge
    record: ProviderRecord


class Pong(msgspec.Struct, frozen=True):
    """I am here."""


class PeersFound(msgspec.Struct, frozen=True):
    """The nearest contacts, then the nearest with weight."""

    contacts: tuple[Contact, ...]


class ProvidersFound(msgspec.Struct, frozen=True):
    """The records at a key, in the replica's order; and contacts as in :class:`PeersFound`."""

    records: tuple[ProviderRecord, ...]
    contacts: tuple[Contact, ...]


class RecordStored(msgspec.Struct, frozen=True):
    """Whether the replica has the record now; if not, the reason of the refusal, or ``older``."""

    accepted: bool
    reason: str = ""


DhtRequest: TypeAlias = Ping | FindPeers | FindProviders | AddProvider
DhtAnswer: TypeAlias = Pong | PeersFound | ProvidersFound | RecordStored
