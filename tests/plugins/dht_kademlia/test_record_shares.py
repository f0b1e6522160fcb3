"""The memory for records is shared among those who bring them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Mapping

import hypothesis.strategies as st
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge
from fluvial_dht_kademlia.machine.keyspace import peer_key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.record_shares import record_bytes
from fluvial_dht_kademlia.machine.record_store import KeptRecord, RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord
from hypothesis import given, settings

from tests.plugins.dht_kademlia.peers import NOW, peer_of, put_or_reason, record_of, store_of

CHAT = open_challenge("k 777")
WIDE = "x" * 255 + "\N{GRINNING FACE}"
"""Four bytes for each of its characters."""


def room_for(records: int, *, weights: Mapping[PeerId, int] | None = None, **more: int) -> RecordStore:
    """A store with the memory for so many small records."""
    size = record_bytes(open_challenge("k 000"), record_of("a", open_challenge("k 000")))
    limits = KademliaLimits(records_bytes_max=size * records + size // 2, **more)  # type: ignore[arg-type]
    return store_of(limits, weights)


def bring(store: RecordStore, sender: str, numbers: Iterable[int], *, provider: str = "") -> int:
    """A sender brings records, each of another provider, or of this one; how many are taken."""
    taken = 0
    for number in numbers:
        challenge = open_challenge(f"k {number:03}")
        record = record_of(provider or f"{sender} {number}", challenge)
        taken += put_or_reason(store, challenge, record, NOW, sender=peer_of(sender)) == ""
    return taken


def kept_of(store: RecordStore, name: str) -> int:
    """How many records are kept of providers whose names begin so."""
    providers = {peer_of(f"{name} {number}") for number in range(100)} | {peer_of(name)}
    return sum(
        record.provider in providers for key in sorted(store.keys()) for record in store.read(key, NOW, limit=99)
    )


def test_whoever_brought_most_gives_way_whatever_the_names_of_providers_are() -> None:
    store = room_for(20)
    assert bring(store, "greedy", range(30)) >= 20
    assert len(store) == 20
    assert bring(store, "modest", range(50, 55)) == 5
    assert bring(store, "greedy", range(60, 80)) <= 20
    assert kept_of(store, "modest") == 5
    assert len(store) == 20


def test_senders_end_with_equal_parts_and_one_with_weight_has_more() -> None:
    store = room_for(20, weights={peer_of("friend"): 2})  # counts as three strangers
    for number in range(30):
        for at, sender in enumerate(("one", "friend", "two")):
            bring(store, sender, [30 * at + number])
    assert [kept_of(store, sender) for sender in ("one", "friend", "two")] == [4, 12, 4]


def test_large_records_count_for_what_they_are() -> None:
    store = room_for(6)
    challenge = open_challenge("k 000")
    large = record_of("large", challenge, addresses=(WIDE,) * 7, value=bytes(1_000))
    assert record_bytes(challenge, large) > 4 * len(encode(large))
    assert store.put(challenge, large, NOW, peer_of("greedy"))
    assert bring(store, "modest", range(10, 14)) == 4
    assert kept_of(store, "large") == 0
    assert put_or_reason(store, challenge, large, NOW, sender=peer_of("greedy")) == "full"


def test_a_record_that_grows_needs_room_and_the_old_one_stays_if_there_is_none() -> None:
    store = room_for(2)
    first = record_of("a", CHAT)
    store.put(CHAT, first, NOW, peer_of("a"))
    assert bring(store, "modest", [1]) == 1
    large = record_of(
        "a", CHAT, sequence=NOW + 1, service="s" * 256, solution=b"", addresses=("x" * 256,) * 8, value=bytes(1_000)
    )
    before = store.bytes
    assert put_or_reason(store, CHAT, large, NOW, sender=peer_of("a")) == "full"
    assert store.read(CHAT.key, NOW, limit=9) == [first]
    assert store.bytes == before


def test_nobody_takes_over_what_others_have_brought() -> None:
    store = room_for(20)
    bring(store, "modest", range(5))
    for number in range(5):  # the attacker brings them once more
        challenge = open_challenge(f"k {number:03}")
        assert store.put(challenge, record_of(f"modest {number}", challenge), NOW, peer_of("greedy"))
    record = record_of("provider", CHAT)
    assert store.put(CHAT, record, NOW, peer_of("greedy"))
    assert store.put(CHAT, record, NOW, peer_of("provider"))
    bring(store, "greedy", range(10, 90))
    assert kept_of(store, "modest") == 5
    assert kept_of(store, "provider") == 1, "its provider has brought it itself"


def test_records_of_providers_with_weight_give_way_to_none_of_strangers() -> None:
    weights = {peer_of("heavy"): 1}
    store = room_for(20, weights=weights)
    assert bring(store, "neighbour", range(20), provider="heavy") == 20
    assert bring(store, "greedy", range(30, 60)) == 0
    weights.clear()
    store.expire(NOW)  # as upkeep does
    assert bring(store, "greedy", range(30, 60)) >= 10
    assert len(store) == 20


def test_a_provider_that_has_weight_meanwhile_does_not_give_way() -> None:
    weights: dict[PeerId, int] = {}
    store = room_for(20, weights=weights)
    bring(store, "neighbour", range(20), provider="heavy")
    weights[peer_of("heavy")] = 1
    assert bring(store, "greedy", range(30, 60)) == 0
    assert kept_of(store, "heavy") == 20


def test_records_that_are_read_from_the_disk_have_room_or_are_gone() -> None:
    store = room_for(10)
    store.watch()
    for number in range(15):
        challenge = open_challenge(f"k {number:03}")
        store.restore(challenge, KeptRecord(record_of(f"{number}", challenge), NOW, NOW))
    assert len(store) == 10
    assert len(store.take_changes()) == 5
    assert bring(store, "new", range(20, 25)) == 5, "whoever is not known has one part"
    assert len(store) == 10


def test_a_record_that_is_refused_is_not_written() -> None:
    store = room_for(5)
    bring(store, "one", range(30))
    store.watch()
    own = peer_key(peer_of("replica"))
    farthest = max(key ^ own for key in sorted(store.keys()))
    farther = [number for number in range(40, 60) if open_challenge(f"k {number:03}").key ^ own > farthest]
    assert farther
    assert bring(store, "one", farther) == 0
    assert store.take_changes() == set()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 5), st.integers(1, 3), st.integers(0, 400)
        ),
        max_size=40,
    )
)
@settings(max_examples=15)
def test_what_is_counted_is_what_is_kept(steps: list[tuple[str, str, int, int, int]]) -> None:
    weights = {peer_of("x"): 1}
    store = room_for(6, weights=weights, keys_max=4)
    for sender, provider, number, sequence, size in steps:
        challenge = open_challenge(f"k {number:03}")
        record = record_of(provider, challenge, sequence=sequence, value=bytes(size))
        put_or_reason(store, challenge, record, NOW, sender=peer_of(sender))
        weights[peer_of("z")] = sequence - 1
        kept = [(store.challenge(key), one) for key in sorted(store.keys()) for one in store.read(key, NOW, limit=99)]
        assert store.bytes == sum(record_bytes(at, one) for at, one in kept if at is not None)
        assert len(store) <= 4
    store.expire(NOW + HOUR_MS)
    assert store.bytes == 0


def test_the_estimate_covers_what_a_record_takes() -> None:
    for shape in ({}, {"addresses": (WIDE,) * 8, "service": WIDE, "value": bytes(1_000), "solution": b""}):
        requests = []
        for number in range(64):
            challenge = open_challenge(f"k {number:03}")
            record = record_of(f"p {number}", challenge, **shape)
            requests.append(encode([challenge, record]))
        senders = [peer_of(f"s {number}") for number in range(64)]
        # Tables of the whole process may happen to grow meanwhile, but not twice.
        taken, estimate = min(put_and_weighed(senders, requests) for _ in range(2))
        assert estimate / 1.5 < taken < estimate


def put_and_weighed(senders: list[PeerId], requests: list[bytes]) -> tuple[int, int]:
    """The bytes that records take which come in these requests, and what is counted for them."""
    store = store_of()
    tracemalloc.start()
    try:
        for sender, request in zip(senders, requests, strict=True):
            challenge, record = decode(request, tuple[Challenge, ProviderRecord], what="pair")
            store.put(challenge, record, NOW, sender)
        del challenge, record
        return tracemalloc.get_traced_memory()[0], store.bytes
    finally:
        tracemalloc.stop()
