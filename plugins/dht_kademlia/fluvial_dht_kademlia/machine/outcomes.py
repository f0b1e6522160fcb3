"""What the machine asks of its shell, and how its operations end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from fluvial.addresses import Contact

from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.messages import DhtRequest
from fluvial_dht_kademlia.machine.records import ProviderRecord


class AskPeer(msgspec.Struct, frozen=True):
    """Send a request; report the answer or the failure under the same ticket."""

    ticket: int
    contact: Contact
    request: DhtRequest


class LookupEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A lookup has ended.

    Attributes:
        operation: its number.
        target: the key.
        nearest: the peers nearest to it that answered, nearest first.
        nearest_weighted: of those with weight, likewise.
        records: the providers found, heaviest first, as checked here; empty for a lookup of peers.
        requests: requests sent.
        hops: peers on the way to the first that had a record, itself included; 0 if this peer had it.
        took_ms: how long it took.
    """

    operation: int
    target: Key
    nearest: tuple[Contact, ...]
    nearest_weighted: tuple[Contact, ...]
    records: tuple[ProviderRecord, ...] = ()
    requests: int
    hops: int = 0
    took_ms: int


class ProvideEnded(msgspec.Struct, frozen=True, kw_only=True):
    """A record was offered to its replicas.

    Attributes:
        operation: its number.
        key: where.
        stored: replicas that have it now.
        refused: how many others did not take it, by reason; ``failed``: did not answer.
    """

    operation: int
    key: Key
    stored: int
    refused: Mapping[str, int]


DhtEffect: TypeAlias = AskPeer | LookupEnded | ProvideEnded
