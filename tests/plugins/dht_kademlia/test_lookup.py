"""One lookup: whom it asks, and what does not hold it up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fluvial.addresses import Contact
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.keyspace import Key, peer_key
from fluvial_dht_kademlia.machine.lookup import Lookup, LookupShape

from tests.plugins.dht_kademlia.peers import contact_of, peer_of

TARGET = Key(0)
NEAREST_FIRST = sorted((contact_of(f"n{n}") for n in range(60)), key=lambda contact: peer_key(contact.peer))


def lookup_of(
    seeds: Iterable[Contact],
    *,
    weights: Mapping[PeerId, int] | None = None,
    k: int = 4,
    paths: int = 1,
    requests: int = 99,
) -> Lookup:
    table = weights or {}
    shape = LookupShape(k=k, alpha=3, paths=paths, requests_max=requests)
    lookup = Lookup(TARGET, peer_of("own"), shape, peer_key, lambda peer: table.get(peer, 0))
    lookup.start(seeds)
    return lookup


def test_alpha_requests_are_in_flight_to_the_nearest() -> None:
    lookup = lookup_of(reversed(NEAREST_FIRST[:10]))
    assert lookup.next() == NEAREST_FIRST[:3]
    assert lookup.next() == []
    lookup.answered(NEAREST_FIRST[1].peer)
    assert lookup.next() == [NEAREST_FIRST[3]]


def test_it_ends_when_the_k_nearest_have_answered() -> None:
    lookup = lookup_of(NEAREST_FIRST[20:24])
    while not lookup.done:
        for contact in lookup.next():
            lookup.answered(contact.peer, NEAREST_FIRST[:12])
    assert lookup.nearest(4) == NEAREST_FIRST[:4]
    assert lookup.requests < 12
    assert lookup.hops(NEAREST_FIRST[0].peer) == 2


def test_a_slow_peer_does_not_hold_it_up_and_its_answer_still_counts() -> None:
    lookup = lookup_of(NEAREST_FIRST[30:36])
    slow, *others = lookup.next()
    lookup.slow(slow.peer, 0)
    assert lookup.next() == [NEAREST_FIRST[33]]
    lookup.answered(slow.peer, NEAREST_FIRST[:1])
    for contact in others:
        lookup.answered(contact.peer)
    assert NEAREST_FIRST[0] in lookup.next()


def test_slow_peers_that_name_each_other_hold_it_up_for_a_bounded_time() -> None:
    lookup = lookup_of(NEAREST_FIRST[30:33])
    until = 0
    for round_, contact in enumerate(lookup.next()):
        until = lookup.slow(contact.peer, 500 * round_)
    assert until == lookup.shape.slow_ms, "from the first one on"
    assert not lookup.done
    for contact in NEAREST_FIRST[30:33]:
        lookup.lose_patience(contact.peer)
        lookup.answered(contact.peer, NEAREST_FIRST[:3])
    assert lookup.done, "what comes later does not count"
    assert lookup.slow(NEAREST_FIRST[0].peer, 5_000) == 5_000


def test_many_slow_peers_among_the_nearest_do_not_hold_it_up_either() -> None:
    lookup = lookup_of(NEAREST_FIRST[:20])
    asked = []
    while contacts := lookup.next():
        for contact in contacts:
            asked.append(contact)
            if contact in NEAREST_FIRST[:12]:
                lookup.slow(contact.peer, 0)
            else:
                lookup.answered(contact.peer)
    assert asked == NEAREST_FIRST[:16]


def test_silent_peers_are_left_out_of_the_result() -> None:
    lookup = lookup_of(NEAREST_FIRST[:10])
    dead = {contact.peer for contact in NEAREST_FIRST[:2]}
    while not lookup.done:
        for contact in lookup.next():
            if contact.peer in dead:
                lookup.failed(contact.peer)
            else:
                lookup.answered(contact.peer)
    assert lookup.nearest(4) == NEAREST_FIRST[2:6]


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    lookup = lookup_of(NEAREST_FIRST[5:8])
    lookup.answered(peer_of("impostor"), NEAREST_FIRST[:5])
    lookup.answered(NEAREST_FIRST[6].peer, NEAREST_FIRST[:5])
    assert set(lookup.next()) == set(NEAREST_FIRST[5:8])


def test_disjoint_paths_share_no_peer_and_a_liar_spoils_only_its_own() -> None:
    liars = [contact_of(f"liar {n}") for n in range(500)]
    nearest_liars = sorted(liars, key=lambda contact: peer_key(contact.peer))
    lookup = lookup_of(NEAREST_FIRST[20:24], paths=2)
    asked: list[PeerId] = []
    while not lookup.done:
        for contact in lookup.next():
            asked.append(contact.peer)
            honest = contact in NEAREST_FIRST[21::2]
            lookup.answered(contact.peer, NEAREST_FIRST[:8] if honest else nearest_liars[:8])
    assert len(asked) == len(set(asked))
    assert NEAREST_FIRST[0].peer in asked


def test_liars_that_answer_first_do_not_keep_it_from_the_peers_it_knew_itself() -> None:
    seeds = NEAREST_FIRST[20:24]
    lookup = lookup_of(seeds)
    first, *others = lookup.next()
    lookup.answered(first.peer, NEAREST_FIRST[:4])  # all of them accomplices
    for contact in others:
        lookup.slow(contact.peer, 0)
    asked: list[Contact] = [first, *others]
    while contacts := lookup.next():
        asked += contacts
        for contact in contacts:
            lookup.answered(contact.peer)
    assert set(seeds[:2]) <= set(asked)
    assert not lookup.done  # the slow ones of its own may still know better
    for contact in others:
        lookup.answered(contact.peer)
    assert lookup.done


def test_peers_with_weight_are_asked_although_others_are_nearer() -> None:
    heavy = NEAREST_FIRST[50]
    lookup = lookup_of([*NEAREST_FIRST[:20], heavy], weights={heavy.peer: 5})
    assert heavy in lookup.next()
    while not lookup.done:
        for contact in [*lookup.next()]:
            lookup.answered(contact.peer, NEAREST_FIRST[:8])
        for contact in NEAREST_FIRST:
            lookup.answered(contact.peer)
    assert lookup.nearest(4, weighted=True) == [heavy]


def test_an_endless_stream_of_ever_nearer_contacts_ends() -> None:
    invented = sorted(
        (contact_of(f"made up {n}") for n in range(300)), key=lambda one: peer_key(one.peer), reverse=True
    )
    lookup = lookup_of(invented[:3], requests=40)
    number = 3
    while not lookup.done:
        for contact in lookup.next():
            lookup.answered(contact.peer, invented[number : number + 3])
            number += 3
    assert lookup.requests == 40
