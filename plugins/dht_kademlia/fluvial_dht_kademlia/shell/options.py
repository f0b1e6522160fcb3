"""The options of routing ``kademlia``."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import msgspec
from fluvial.addresses import Contact
from fluvial.ports import Capability
from msgspec import Meta

from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits


class KademliaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[routing]`` with ``kind = "kademlia"``."""

    peers: Annotated[
        tuple[str, ...],
        Meta(description="peers to begin with: multiaddrs that end in /p2p/12D3KooW…; one that runs will do"),
    ] = ()
    announce: Annotated[
        tuple[str, ...],
        Meta(description="what others may look this peer up by, as patterns of kind:name; [] for nothing"),
    ] = ("service:*", "effector:*", "blob:*", "relay:*", "topic:*")
    k: Annotated[int, Meta(ge=2, le=64, description="contacts in a bucket, and peers that a lookup ends with")] = 20
    alpha: Annotated[int, Meta(ge=1, le=16, description="requests of one lookup at the same time")] = 3
    replicas: Annotated[int, Meta(ge=1, le=32, description="peers that keep a record")] = 20
    disjoint_paths: Annotated[int, Meta(ge=1, le=8, description="paths of a lookup that share no peer")] = 1
    request_timeout_ms: Annotated[int, Meta(ge=100, le=60_000, description="after this a request has failed")] = 3_000
    record_hours: Annotated[float, Meta(gt=0, le=48, description="how long a record of this peer lives")] = 24.0
    republish_hours: Annotated[float, Meta(gt=0, le=48, description="how often it is published again")] = 6.0
    contacts_max: Annotated[int, Meta(ge=16, le=1_000_000, description="peers in the address book")] = 4_096
    providers_max: Annotated[int, Meta(ge=1, le=256, description="providers that are kept for one key")] = 32
    providers_reserve: Annotated[
        int, Meta(ge=0, le=255, description="of these, places for providers without weight")
    ] = 8
    keys_max: Annotated[int, Meta(ge=1, le=1_000_000, description="keys for which records are kept")] = 10_000
    records_bytes_max: Annotated[
        int, Meta(ge=2**20, description="memory of all records that are kept, shared among those who bring them")
    ] = 64 * 2**20
    local_discovery: Annotated[
        bool,
        Meta(description="find peers of this network on the local network by mDNS; needs fluvial-dht-kademlia[local]"),
    ] = False
    local_interfaces: Annotated[
        tuple[str, ...], Meta(description="addresses of the network interfaces for local discovery; [] for all")
    ] = ()

    def __post_init__(self) -> None:
        """Refuse values that are no contacts, and numbers that do not go together."""
        for text in self.peers:
            Contact.configured(text)
        if self.providers_reserve >= self.providers_max:
            raise ValueError("providers_reserve must be below providers_max")

    def seeds(self) -> tuple[Contact, ...]:
        """The peers to begin with."""
        return tuple(map(Contact.configured, self.peers))

    def announces(self, capability: Capability) -> bool:
        """Whether others may look this peer up by a capability."""
        return any(fnmatchcase(str(capability), pattern) for pattern in self.announce)

    def limits(self) -> KademliaLimits:
        """The numbers of the machine."""
        lifetime = int(self.record_hours * HOUR_MS)
        return KademliaLimits(
            k=self.k,
            bucket_reserve=self.k // 4,
            alpha=self.alpha,
            replicas=self.replicas,
            disjoint_paths=self.disjoint_paths,
            request_timeout_ms=self.request_timeout_ms,
            republish_ms=int(self.republish_hours * HOUR_MS),
            record_lifetime_ms=lifetime,
            providers_max=self.providers_max,
            providers_reserve=self.providers_reserve,
            keys_max=self.keys_max,
            records_bytes_max=self.records_bytes_max,
        )
