"""Scenarios about one peer: who is kept at a key, who stays in a bucket, which registrations a replica takes."""

from __future__ import annotations

from typing import Any, Final

from fluvial.addresses import Address, Contact
from fluvial.errors import Refused
from fluvial.identity import KeyPair, PeerId

from fluvial_dht_kademlia.lab.network import NETWORK, keys_of
from fluvial_dht_kademlia.lab.scenario import BucketScenario, ChallengeScenario, ProvidersScenario
from fluvial_dht_kademlia.lab.trust_paths import PathProver, prove_path
from fluvial_dht_kademlia.lab.trust_weights import weights_at
from fluvial_dht_kademlia.machine.buckets import KBucket
from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds, open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.keyspace import key_bytes, peer_key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, RecordFields, sign_record

_REPLICA: Final = "the replica of the laboratory"


def _record(
    keys: KeyPair, challenge: Challenge, at_ms: int, solution: bytes = b"", lives_ms: int = HOUR_MS
) -> ProviderRecord:
    fields = RecordFields(
        key=key_bytes(challenge.key),
        provider=str(keys.peer_id),
        sequence=at_ms,
        issued_at_ms=at_ms,
        expires_at_ms=at_ms + lives_ms,
        solution=solution,
    )
    return sign_record(keys, NETWORK, fields)


def run_providers(scenario: ProvidersScenario) -> dict[str, Any]:
    """Register the providers at a replica in the order of their times, then ask it who is there; weights are those of the moment."""
    registrations = scenario.registrations()
    names = {keys_of(row.peer).peer_id: row.peer for row in registrations}
    given = {keys_of(row.peer).peer_id: row.weight for row in registrations if row.weight is not None}
    weights: dict[PeerId, int] = {}

    def weigh(peer: PeerId) -> int:
        return weights.get(peer, 0)

    def turn_to(at: int) -> None:
        """The weights of another moment, in seconds."""
        found = weights_at(at, roots=scenario.roots, trusts=scenario.trusts, revocations=scenario.revocations)
        weights.clear()
        weights.update({keys_of(name).peer_id: weight for name, weight in found.items()} | given)

    asked_at = scenario.asked_at() * 1_000
    limits = KademliaLimits(
        providers_max=scenario.limit, providers_reserve=scenario.reserve, record_lifetime_max_ms=asked_at + HOUR_MS
    )
    checks = RecordChecks(NETWORK, ChallengeKinds(lambda *_: False), limits)
    store = RecordStore(peer_key(keys_of(_REPLICA).peer_id), checks=checks, limits=limits, weigh=weigh)
    challenge = open_challenge(scenario.name)
    for row in registrations:
        turn_to(row.registered_at)
        now = row.registered_at * 1_000
        try:
            record = _record(keys_of(row.peer), challenge, now, lives_ms=asked_at + HOUR_MS - now)
            store.put(challenge, record, now)
        except Refused as refusal:
            if refusal.reason != "full":
                raise
    turn_to(scenario.asked_at())
    kept = [record.provider for record in store.read(challenge.key, asked_at, limit=scenario.limit)]
    return {
        "name": scenario.name,
        "order": [names[peer] for peer in kept if weigh(peer) > 0],
        "weightless": [names[peer] for peer in kept if weigh(peer) <= 0],
    }


def run_bucket(scenario: BucketScenario) -> dict[str, Any]:
    """Let peers arrive at a bucket; those that it wants to ping answer, or do not, as the scenario says."""
    arrivals = scenario.peers()
    at = scenario.asked_at()
    found = weights_at(at, roots=scenario.roots, trusts=scenario.trusts, revocations=scenario.revocations)
    names = {keys_of(one.peer).peer_id: one.peer for one in arrivals}
    weights = {
        keys_of(one.peer).peer_id: found.get(one.peer, 0) if one.weight is None else one.weight for one in arrivals
    }
    bucket = KBucket(scenario.k, scenario.reserve)
    address = Address.parse("/ip4/10.0.0.1/tcp/7771")
    for one in arrivals:
        peer = keys_of(one.peer).peer_id
        ping = bucket.seen(Contact(peer, (address,)), peer_key(peer), weights.__getitem__)
        if ping is not None and scenario.all_answer_pings:
            bucket.seen(ping, peer_key(ping.peer), weights.__getitem__)
        elif ping is not None:
            bucket.failed(ping.peer, weights.__getitem__)
    return {"name": scenario.name, "present": [names[member.contact.peer] for member in bucket]}


def run_challenge(scenario: ChallengeScenario) -> dict[str, Any]:
    """Let each case register at a replica of its own."""
    owner = keys_of(scenario.owner).peer_id
    challenge = owned_challenge(owner, scenario.max_trust_path_length)
    accepted = {}
    for case in scenario.cases:
        prover = PathProver(scenario.revocations, now=case.at)
        limits = KademliaLimits()
        checks = RecordChecks(NETWORK, ChallengeKinds(prover.proves), limits)
        own = peer_key(keys_of(_REPLICA).peer_id)
        store = RecordStore(own, checks=checks, limits=limits, weigh=lambda _: 0)
        proof = prove_path(case.path, scenario.trusts, forger=case.provider)
        now = case.at * 1_000
        try:
            accepted[case.case] = store.put(challenge, _record(keys_of(case.provider), challenge, now, proof), now)
        except Refused:
            accepted[case.case] = False
    return {"name": scenario.name, "accepted": accepted}
