"""Who stays in a full bucket."""

from __future__ import annotations

import hypothesis.strategies as st
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.buckets import KBucket
from fluvial_dht_kademlia.machine.contact_table import ContactTable
from fluvial_dht_kademlia.machine.keyspace import bucket_index, peer_key
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.plugins.dht_kademlia.peers import contact_of, peer_of


def nobody_counts(peer: PeerId) -> int:
    return 0


def arrive(bucket: KBucket, name: str, weights: dict[PeerId, int] | None = None) -> PeerId | None:
    table = weights or {}
    ping = bucket.seen(contact_of(name), peer_key(peer_of(name)), lambda peer: table.get(peer, 0))
    return ping.peer if ping is not None else None


def members(bucket: KBucket) -> list[PeerId]:
    return [member.contact.peer for member in bucket]


def test_a_full_bucket_pings_the_member_not_seen_for_longest() -> None:
    bucket = KBucket(3, 1)
    for name in "abc":
        assert arrive(bucket, name) is None
    arrive(bucket, "a")
    assert arrive(bucket, "d") == peer_of("b")
    assert peer_of("d") not in bucket
    assert bucket.waiting == (peer_of("d"),)


def test_a_member_that_does_not_answer_is_replaced_by_the_newcomer() -> None:
    bucket = KBucket(2, 1)
    for name in "abc":
        arrive(bucket, name)
    bucket.failed(peer_of("a"), nobody_counts)
    assert members(bucket) == [peer_of("b"), peer_of("c")]


def test_without_a_replacement_a_silent_member_stays_but_is_not_named_and_gives_way_first() -> None:
    bucket = KBucket(2, 1)
    arrive(bucket, "a")
    arrive(bucket, "b")
    bucket.failed(peer_of("b"), nobody_counts)
    assert peer_of("b") in bucket
    assert [member.contact.peer for member in bucket.alive()] == [peer_of("a")]
    assert arrive(bucket, "c") is None
    assert members(bucket) == [peer_of("a"), peer_of("c")]


def test_a_stranger_gets_a_place_of_the_reserve_back_from_the_lightest() -> None:
    weights = {peer_of(name): weight for name, weight in (("x", 1), ("y", 2), ("z", 3))}
    bucket = KBucket(3, 1)
    for name in "yxz":
        arrive(bucket, name, weights)
    arrive(bucket, "stranger", weights)
    assert set(members(bucket)) == {peer_of("y"), peer_of("z"), peer_of("stranger")}


def test_a_lost_trust_counts_at_the_next_decision() -> None:
    weights = {peer_of("x"): 9, peer_of("y"): 5, peer_of("z"): 4}
    bucket = KBucket(2, 0)
    arrive(bucket, "x", weights)
    arrive(bucket, "y", weights)
    weights[peer_of("x")] = 0
    arrive(bucket, "z", weights)
    assert set(members(bucket)) == {peer_of("y"), peer_of("z")}


def test_the_table_names_the_nearest_in_order() -> None:
    own = peer_key(peer_of("own"))
    table = ContactTable(own, k=8, reserve=2, place=peer_key, weigh=nobody_counts)
    names = [f"peer {n}" for n in range(300)]
    for name in names:
        table.seen(contact_of(name))
    held = [member.contact.peer for member in table]
    for target in (own, peer_key(peer_of("somebody")), peer_key(peer_of("else"))):
        best = sorted(held, key=lambda peer: peer_key(peer) ^ target)[:8]
        assert [contact.peer for contact in table.nearest(target, 8)] == best
    assert all(bucket_index(own, peer_key(peer)) >= 0 for peer in held)


class BucketMachine(RuleBasedStateMachine):
    """Peers arrive, answer and fall silent, and weights change, in any order."""

    @initialize(size=st.integers(1, 5), data=st.data())
    def begin(self, size: int, data: st.DataObject) -> None:
        self.bucket = KBucket(size, data.draw(st.integers(0, size - 1)))
        self.weights: dict[PeerId, int] = {}
        self.silent: set[PeerId] = set()

    def weigh(self, peer: PeerId) -> int:
        return self.weights.get(peer, 0)

    def strangers(self) -> int:
        return sum(self.weigh(peer) == 0 for peer in members(self.bucket))

    @rule(name=st.sampled_from("abcdefghij"))
    def arrives(self, name: str) -> None:
        peer, before = peer_of(name), members(self.bucket)
        self.silent.discard(peer)
        ping = self.bucket.seen(contact_of(name), peer_key(peer), self.weigh)
        gone = [one for one in before if one not in self.bucket]
        assert len(gone) <= 1
        if self.weigh(peer) == 0 and gone and not self.silent & set(gone):
            assert self.weigh(gone[0]) > 0, "a stranger takes no place of a stranger that answers"
        for one in gone:
            self.silent.discard(one)
        if ping is not None:
            assert ping.peer in self.bucket
            assert peer not in self.bucket

    @rule(name=st.sampled_from("abcdefghij"))
    def does_not_answer(self, name: str) -> None:
        waited = bool([one for one in self.bucket.waiting if one != peer_of(name)])
        was = peer_of(name) in self.bucket
        self.bucket.failed(peer_of(name), self.weigh)
        assert (peer_of(name) in self.bucket) == (was and not waited)
        if was and not waited:
            self.silent.add(peer_of(name))

    @rule(name=st.sampled_from("abcdefghij"), weight=st.integers(0, 3))
    def is_weighed_anew(self, name: str, weight: int) -> None:
        self.weights[peer_of(name)] = weight

    @rule()
    def strangers_always_find_room(self) -> None:
        for name in ("new 1", "new 2", "new 3", "new 4"):
            self.bucket.seen(contact_of(name), peer_key(peer_of(name)), self.weigh)
        assert self.strangers() >= min(self.bucket.reserve, 4)

    @invariant()
    def is_bounded(self) -> None:
        if hasattr(self, "bucket"):
            assert len(self.bucket) <= self.bucket.size
            assert len(self.bucket.waiting) <= self.bucket.size
            assert not set(self.bucket.waiting) & set(members(self.bucket))


TestBuckets = BucketMachine.TestCase
TestBuckets.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
