"""What the tests of the DHT share: named peers, records, a machine with its surroundings."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from fluvial.addresses import Address, Contact
from fluvial.errors import Refused
from fluvial.identity import PeerId
from fluvial_dht_kademlia.lab.network import keys_of
from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds, ProvesPath
from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.keyspace import key_bytes, peer_key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, RecordFields, sign_record

NETWORK = "test"
NOW = 1_000_000_000
ADDRESS = Address.parse("/ip4/10.0.0.1/tcp/7771")


def peer_of(name: str) -> PeerId:
    return keys_of(name).peer_id


def contact_of(name: str) -> Contact:
    return Contact(peer_of(name), (ADDRESS,))


def nobody_proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
    return False


def checks_of(limits: KademliaLimits | None = None, proves: ProvesPath = nobody_proves) -> RecordChecks:
    return RecordChecks(NETWORK, ChallengeKinds(proves), limits or KademliaLimits())


def store_of(
    limits: KademliaLimits | None = None,
    weights: Mapping[PeerId, int] | None = None,
    proves: ProvesPath = nobody_proves,
) -> RecordStore:
    limits = limits or KademliaLimits()
    table = weights if weights is not None else {}
    return RecordStore(
        peer_key(peer_of("replica")),
        checks=checks_of(limits, proves),
        limits=limits,
        weigh=lambda peer: table.get(peer, 0),
    )


def put_or_reason(
    store: RecordStore, challenge: Challenge, record: ProviderRecord, now: int, sender: PeerId | None = None
) -> str:
    """Put a record; the reason if it was refused, empty if not."""
    try:
        store.put(challenge, record, now, sender)
    except Refused as refusal:
        return refusal.reason
    return ""


def fields_of(
    name: str, challenge: Challenge, *, at: int = NOW, lives_ms: int = HOUR_MS, **more: object
) -> RecordFields:
    values: dict[str, object] = {
        "key": key_bytes(challenge.key),
        "provider": str(peer_of(name)),
        "sequence": at,
        "issued_at_ms": at,
        "expires_at_ms": at + lives_ms,
    }
    return RecordFields(**(values | more))  # type: ignore[arg-type]


def record_of(
    name: str, challenge: Challenge, *, at: int = NOW, lives_ms: int = HOUR_MS, signer: str = "", **more: object
) -> ProviderRecord:
    return sign_record(keys_of(signer or name), NETWORK, fields_of(name, challenge, at=at, lives_ms=lives_ms, **more))


def machine_of(
    name: str, limits: KademliaLimits | None = None, weights: Mapping[PeerId, int] | None = None
) -> Kademlia:
    limits = limits or KademliaLimits()
    keys = keys_of(name)
    table = weights if weights is not None else {}
    return Kademlia(
        contact_of(name),
        limits=limits,
        checks=checks_of(limits),
        publications=Publications(keys.peer_id, sign=lambda fields: sign_record(keys, NETWORK, fields), limits=limits),
        weigh=lambda peer: table.get(peer, 0),
        rng=Random(1),
        now=NOW,
    )
