"""What peers of the DHT ask each other, and the answers, as values. Their wire form belongs to the shell that sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fluvial.addresses import Contact

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.records import ProviderRecord


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class FindPeers:
    """Who is nearest to a key?"""

    target: Key


@dataclass(frozen=True, slots=True)
class FindProviders:
    """Which records are at a key, and who is nearest to it?"""

    key: Key
    limit: int


@dataclass(frozen=True, slots=True)
class AddProvider:
    """Keep this record."""

    challenge: Challenge
    record: ProviderRecord


@dataclass(frozen=True, slots=True)
class Pong:
    """I am here."""


@dataclass(frozen=True, slots=True)
class PeersFound:
    """The nearest contacts, then the nearest with weight."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class ProvidersFound:
    """The records at a key, in the replica's order; and contacts as in :class:`PeersFound`."""

    records: tuple[ProviderRecord, ...]
    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class RecordStored:
    """Whether the replica has the record now; if not, the reason of the refusal, or ``older``."""

    accepted: bool
    reason: str = ""


DhtRequest: TypeAlias = Ping | FindPeers | FindProviders | AddProvider
DhtAnswer: TypeAlias = Pong | PeersFound | ProvidersFound | RecordStored
