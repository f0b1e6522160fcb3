"""Records: what is signed, how they merge, and what a replica keeps."""

from __future__ import annotations

import hypothesis.strategies as st
import msgspec
import pytest
from fluvial.errors import Refused, ResourceLimit
from fluvial.identity import verify
from fluvial_dht_kademlia.machine.challenges import ChallengeKinds, open_challenge
from fluvial_dht_kademlia.machine.keyspace import key_bytes, peer_key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_store import TOMBSTONES_PER_KEY_MAX, RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, merge_records, sign_record
from hypothesis import given, settings

from tests.plugins.dht_kademlia.peers import (
    NETWORK,
    NOW,
    checks_of,
    keys_of,
    peer_of,
    put_or_reason,
    record_of,
    store_of,
)

CHAT = open_challenge("chat")
OTHER = open_challenge("other")


def test_every_field_is_signed() -> None:
    record = record_of("a", CHAT, value=b"v", addresses=("/ip4/10.0.0.1/tcp/1",), relay="r", service="s")
    checks_of().check(CHAT, record, NOW)
    changes = {
        "sequence": record.fields.sequence + 1,
        "issued_at_ms": record.fields.issued_at_ms - 1,
        "expires_at_ms": record.fields.expires_at_ms + 1,
        "provider": str(peer_of("b")),
        "value": b"w",
        "addresses": (),
        "relay": "q",
        "service": "t",
    }
    unchecked = {"key", "withdrawn", "solution"}  # refused before the signature is looked at; see below
    assert set(changes) | unchecked == set(record.fields.__struct_fields__)
    for field, value in changes.items():
        changed = msgspec.structs.replace(record.fields, **{field: value})
        with pytest.raises(Refused) as refusal:
            checks_of().check(CHAT, ProviderRecord(changed, record.signature), NOW)
        assert refusal.value.reason == "signature", field


def test_a_live_record_cannot_be_made_a_tombstone_nor_moved_to_another_key() -> None:
    plain = record_of("a", CHAT)
    dead = ProviderRecord(msgspec.structs.replace(plain.fields, withdrawn=True), plain.signature)
    moved = ProviderRecord(msgspec.structs.replace(plain.fields, key=key_bytes(OTHER.key)), plain.signature)
    for challenge, record, reason in ((CHAT, dead, "signature"), (OTHER, moved, "signature"), (OTHER, plain, "key")):
        with pytest.raises(Refused) as refusal:
            checks_of().check(challenge, record, NOW)
        assert refusal.value.reason == reason


def test_a_record_of_another_network_does_not_verify() -> None:
    elsewhere = RecordChecks("elsewhere", ChallengeKinds(lambda *_: False), KademliaLimits())
    with pytest.raises(Refused, match="has not signed"):
        elsewhere.check(CHAT, record_of("a", CHAT), NOW)


def test_a_record_that_is_kept_already_is_not_verified_again() -> None:
    verified: list[bytes] = []

    def counting(key: bytes, signature: bytes, message: bytes) -> bool:
        verified.append(signature)
        return verify(key, signature, message)

    checks = RecordChecks(NETWORK, ChallengeKinds(lambda *_, **__: False), KademliaLimits(), counting)
    store = RecordStore(peer_key(peer_of("own")), checks=checks, limits=KademliaLimits(), weigh=lambda _: 0)
    first, second = record_of("a", CHAT, value=b"1"), record_of("a", CHAT, value=b"2", sequence=2**40)
    assert [store.put(CHAT, one, NOW) for one in (first, first, second, second, first)] == [True] * 4 + [False]
    assert len(verified) == 3
    with pytest.raises(Refused, match="expired"):
        store.put(CHAT, second, second.fields.expires_at_ms)


@pytest.mark.parametrize(
    ("at", "lives_ms"), [(NOW + HOUR_MS, HOUR_MS), (NOW - 2 * HOUR_MS, HOUR_MS), (NOW, 49 * HOUR_MS), (NOW, 0)]
)
def test_a_record_out_of_its_time_is_refused(at: int, lives_ms: int) -> None:
    with pytest.raises(Refused) as refusal:
        checks_of().check(CHAT, record_of("a", CHAT, at=at, lives_ms=lives_ms), NOW)
    assert refusal.value.reason == "time"


def test_a_tombstone_replaces_the_record_and_an_old_replica_does_not_bring_it_back() -> None:
    publications = Publications(
        peer_of("a"), sign=lambda fields: sign_record(keys_of("a"), NETWORK, fields), limits=KademliaLimits()
    )
    record = publications.publish(CHAT, NOW, value=b"here")
    tombstone = publications.withdraw(CHAT, NOW)
    assert tombstone is not None
    assert tombstone.fields.expires_at_ms >= record.fields.expires_at_ms
    store = store_of()
    assert store.put(CHAT, record, NOW)
    assert store.put(CHAT, tombstone, NOW + 1)
    assert not store.put(CHAT, record, NOW + 2)
    assert store.read(CHAT.key, NOW + 2, limit=9) == [tombstone]
    assert list(store.due(NOW + HOUR_MS, HOUR_MS - 1)) == [(CHAT, tombstone)]  # it replicates like a record
    again = publications.publish(CHAT, NOW, value=b"back")
    assert again.fields.sequence >= NOW


def test_republication_signs_anew_with_a_greater_sequence() -> None:
    limits = KademliaLimits(own_records_max=1)
    publications = Publications(
        peer_of("a"), sign=lambda fields: sign_record(keys_of("a"), NETWORK, fields), limits=limits
    )
    first = publications.publish(CHAT, NOW, value=b"x")
    assert list(publications.due(NOW + HOUR_MS - 1, HOUR_MS)) == []
    ((challenge, second),) = publications.due(NOW + HOUR_MS, HOUR_MS)
    assert challenge == CHAT
    assert second.fields.sequence > first.fields.sequence
    assert second.fields.value == b"x"
    checks_of().check(CHAT, second, NOW + HOUR_MS)
    with pytest.raises(ResourceLimit):
        publications.publish(OTHER, NOW)


VERSIONS = [
    record_of(name, CHAT, sequence=sequence, withdrawn=withdrawn, value=b"" if withdrawn else value)
    for name in "abc"
    for sequence in (1, 2)
    for withdrawn, value in ((False, b"x"), (False, b"y"), (True, b""))
]
SETS = st.lists(st.sampled_from(VERSIONS), max_size=8)


@given(SETS, SETS, SETS)
def test_merging_is_commutative_associative_and_idempotent(
    a: list[ProviderRecord], b: list[ProviderRecord], c: list[ProviderRecord]
) -> None:
    assert merge_records(a, b) == merge_records(b, a)
    assert merge_records(merge_records(a, b).values(), c) == merge_records(a, merge_records(b, c).values())
    assert merge_records(a, a) == merge_records(a)


@given(st.permutations(VERSIONS[:9]))
@settings(max_examples=30)
def test_replicas_that_have_seen_the_same_records_agree_whatever_the_order(order: list[ProviderRecord]) -> None:
    store = store_of()
    for record in order:
        store.put(CHAT, record, NOW)
    assert {record.provider: record for record in store.read(CHAT.key, NOW, limit=9)} == merge_records(VERSIONS[:9])


def test_a_lost_trust_shows_at_the_next_read() -> None:
    weights = {peer_of("a"): 9, peer_of("b"): 5}
    store = store_of(weights=weights)
    for number, name in enumerate("cab"):
        store.put(CHAT, record_of(name, CHAT, at=NOW + number), NOW + number)

    def order() -> list[str]:
        return [record.provider for record in store.read(CHAT.key, NOW + 9, limit=9)]

    assert order() == [peer_of("a"), peer_of("b"), peer_of("c")]
    weights[peer_of("a")] = 0
    assert order() == [peer_of("b"), peer_of("c"), peer_of("a")]


def test_a_flood_of_strangers_at_one_key_neither_grows_nor_pushes_out_the_old() -> None:
    limits = KademliaLimits(providers_max=6, providers_reserve=2)
    weights = {peer_of(f"w{n}"): n + 1 for n in range(8)}
    store = store_of(limits, weights)
    store.put(CHAT, record_of("old", CHAT), NOW)
    refused = 0
    for number in range(100):
        record = record_of(f"flood {number}", CHAT, at=NOW - 1_000)
        refused += put_or_reason(store, CHAT, record, NOW + 1 + number) == "full"
    assert refused == 95
    for name in (f"w{n}" for n in range(8)):
        assert put_or_reason(store, CHAT, record_of(name, CHAT), NOW + 200) in ("", "full")
    kept = [record.provider for record in store.read(CHAT.key, NOW + 200, limit=99)]
    assert kept[:4] == [peer_of(f"w{n}") for n in (7, 6, 5, 4)]
    assert len(kept) == 6
    assert kept[4] == peer_of("old")


def test_a_flood_of_tombstones_stays_within_its_limit() -> None:
    store = store_of()
    for number in range(TOMBSTONES_PER_KEY_MAX + 20):
        tombstone = record_of(f"t{number}", CHAT, withdrawn=True, lives_ms=HOUR_MS + number)
        assert put_or_reason(store, CHAT, tombstone, NOW) in ("", "full")
    assert len(store.read(CHAT.key, NOW, limit=9)) == TOMBSTONES_PER_KEY_MAX


def test_tombstones_that_come_back_to_life_do_not_get_around_the_limit() -> None:
    store = store_of(KademliaLimits(providers_max=4, providers_reserve=1))
    for number in range(10):
        store.put(CHAT, record_of(f"t{number}", CHAT, withdrawn=True), NOW + number)
    for number in range(10):
        store.put(CHAT, record_of(f"t{number}", CHAT, sequence=NOW + 1), NOW + 20)
    assert [record.provider for record in store.read(CHAT.key, NOW + 20, limit=99)] == [
        peer_of(f"t{n}") for n in range(4)
    ]


def test_a_flood_of_keys_stays_within_limits_and_does_not_touch_keys_of_weighted_providers() -> None:
    limits = KademliaLimits(keys_max=20, keys_per_stranger_max=5)
    weights = {peer_of("heavy"): 1}
    store = store_of(limits, weights)
    own = peer_key(peer_of("replica"))
    precious = sorted((open_challenge(f"p{n}") for n in range(50)), key=lambda one: one.key ^ own)[-5:]
    for challenge in precious:  # far from the replica's own place
        store.put(challenge, record_of("heavy", challenge), NOW)
    taken = 0
    for number in range(300):
        challenge = open_challenge(f"flood {number}")
        outcome = put_or_reason(store, challenge, record_of(f"flood {number // 10}", challenge), NOW)
        assert outcome in ("", "full")
        taken += outcome == ""
        assert len(store) <= 20
    assert taken < 300
    for challenge in precious:
        assert len(store.read(challenge.key, NOW, limit=9)) == 1
    late = open_challenge("late")
    assert store.put(late, record_of("heavy", late), NOW)


def test_what_has_expired_is_gone_and_leaves_room() -> None:
    store = store_of(KademliaLimits(keys_max=1))
    store.put(CHAT, record_of("a", CHAT), NOW)
    store.expire(NOW + HOUR_MS)
    assert len(store) == 0
    assert store.put(OTHER, record_of("a", OTHER, at=NOW + HOUR_MS), NOW + HOUR_MS)
