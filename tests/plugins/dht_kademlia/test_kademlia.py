"""The machine of one peer, driven by hand."""

from __future__ import annotations

import pytest
from fluvial.addresses import Contact
from fluvial.errors import Refused, ResourceLimit
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import open_challenge, self_challenge
from fluvial_dht_kademlia.machine.keyspace import peer_key
from fluvial_dht_kademlia.machine.limits import HOUR_MS, KademliaLimits
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect, LookupEnded, ProvideEnded

from tests.plugins.dht_kademlia.peers import NOW, contact_of, machine_of, peer_of, record_of

CHAT = open_challenge("chat")


def asks(effects: list[DhtEffect]) -> list[AskPeer]:
    return [effect for effect in effects if isinstance(effect, AskPeer)]


def test_who_asks_enters_the_table_but_a_client_does_not() -> None:
    machine = machine_of("me")
    machine.receive(contact_of("a"), messages.Ping(), NOW)
    machine.receive(Contact(peer_of("client")), messages.Ping(), NOW)
    answer, _ = machine.receive(contact_of("b"), messages.FindPeers(CHAT.key), NOW)
    assert answer == messages.PeersFound((contact_of("a"),))


def test_a_flood_of_newcomers_makes_it_ping_an_old_member_once_at_a_time() -> None:
    machine = machine_of("me", KademliaLimits(k=2, bucket_reserve=1))
    pinged: list[AskPeer] = []
    for number in range(200):
        pinged += asks(machine.receive(contact_of(f"n{number}"), messages.Ping(), NOW)[1])
    peers = [ask.contact.peer for ask in pinged]
    assert peers
    assert len(peers) == len(set(peers)) < 20


def test_more_own_records_than_one_round_publishes_again_all_get_their_turn() -> None:
    machine = machine_of("me", KademliaLimits(republish_ms=HOUR_MS, replicate_ms=0))
    for number in range(150):
        machine.publications.publish(open_challenge(f"topic {number}"), NOW)
    while machine.wake_at < NOW + 2 * HOUR_MS:
        machine.tick(machine.wake_at)
    assert len(machine.store) == 150  # alone in its network, it is its own replica


def test_records_at_many_keys_expire_some_at_a_time() -> None:
    machine = machine_of("me", KademliaLimits(keys_per_stranger_max=1_200))
    for number in range(1_200):
        challenge = open_challenge(f"topic {number}")
        machine.store.put(challenge, record_of("provider", challenge, lives_ms=1_000), NOW)
    left = {len(machine.store): NOW}
    while len(machine.store):
        moment = machine.wake_at
        machine.tick(moment)
        left.setdefault(len(machine.store), moment)
    assert list(left) == [1_200, 688, 176, 0]
    assert left[0] - left[688] < 1_000


def test_a_lookup_ends_before_a_request_that_nobody_reports_on_fails_by_itself() -> None:
    machine, limits = machine_of("me"), KademliaLimits()
    _, effects = machine.find_peers(CHAT.key, NOW, seeds=[contact_of("a")])
    (ask,) = asks(effects)
    moment = NOW
    ended: list[DhtEffect] = []
    while not ended:
        moment = machine.wake_at
        ended = machine.tick(moment)
    assert NOW + limits.patience_max_ms < moment < NOW + limits.request_timeout_ms
    (end,) = ended
    assert isinstance(end, LookupEnded)
    assert end.nearest == ()
    assert machine.tick(NOW + limits.request_timeout_ms) == []
    assert machine.answered(ask.ticket, messages.PeersFound(()), NOW + limits.request_timeout_ms) == []


def test_a_slow_peer_is_joined_by_another_before_it_fails() -> None:
    machine = machine_of("me", KademliaLimits(alpha=1))
    contacts = sorted((contact_of(name) for name in "abc"), key=lambda one: peer_key(one.peer) ^ CHAT.key)
    _, effects = machine.find_peers(CHAT.key, NOW, seeds=contacts)
    assert [ask.contact for ask in asks(effects)] == contacts[:1]
    assert [ask.contact for ask in asks(machine.tick(NOW + 500))] == contacts[1:2]


def test_a_replica_that_makes_records_up_is_not_believed_but_the_others_are() -> None:
    machine = machine_of("me", KademliaLimits(quorum=1))
    good = record_of("provider", CHAT, value=b"yes")
    forged = record_of("provider", CHAT, at=NOW + 1, value=b"no", signer="liar")
    operation, effects = machine.find_providers(CHAT, NOW)
    assert [type(effect) for effect in effects] == [LookupEnded]  # nobody is known yet
    for name in ("liar", "honest"):
        machine.receive(contact_of(name), messages.Ping(), NOW)
    operation, effects = machine.find_providers(CHAT, NOW)
    by_peer = {ask.contact.peer: ask for ask in asks(effects)}
    poison = messages.ProvidersFound((forged,), (contact_of("accomplice"),))
    assert asks(machine.answered(by_peer[peer_of("liar")].ticket, poison, NOW)) == []
    (end,) = machine.answered(by_peer[peer_of("honest")].ticket, messages.ProvidersFound((good,), ()), NOW)
    assert isinstance(end, LookupEnded)
    assert end.operation == operation
    assert end.records == (good,)


def test_a_foreign_record_is_refused_before_it_is_sent_and_by_every_replica() -> None:
    challenge = self_challenge(peer_of("victim"))
    record = record_of("stranger", challenge)
    machine = machine_of("stranger")
    with pytest.raises(Refused):
        machine.add_provider(challenge, record, NOW)
    answer, _ = machine_of("replica").receive(contact_of("stranger"), messages.AddProvider(challenge, record), NOW)
    assert answer == messages.RecordStored(False, "solution")


def test_a_record_goes_to_the_nearest_and_to_the_nearest_with_weight() -> None:
    contacts = sorted((contact_of(f"n{n}") for n in range(12)), key=lambda one: peer_key(one.peer) ^ CHAT.key)
    heavy = contacts[-2:]
    machine = machine_of("me", KademliaLimits(k=8, replicas=4), {contact.peer: 3 for contact in heavy})
    for contact in contacts:
        machine.receive(contact, messages.Ping(), NOW)
    _, effects = machine.add_provider(CHAT, record_of("me", CHAT), NOW)
    stored: set[Contact] = set()
    pending, ends = effects, []
    while pending:
        effect = pending.pop(0)
        if not isinstance(effect, AskPeer):
            ends.append(effect)
        elif isinstance(effect.request, messages.AddProvider):
            stored.add(effect.contact)
            pending += machine.answered(effect.ticket, messages.RecordStored(True), NOW)
        else:
            pending += machine.answered(effect.ticket, messages.PeersFound(()), NOW)
    (end,) = ends
    assert isinstance(end, ProvideEnded)
    assert stored == {*contacts[:2], *heavy}
    assert end.stored >= 4


def test_lookups_are_bounded() -> None:
    machine = machine_of("me", KademliaLimits(lookups_max=2))
    for _ in range(2):
        machine.find_peers(CHAT.key, NOW, seeds=[contact_of("a")])
    with pytest.raises(ResourceLimit):
        machine.find_peers(CHAT.key, NOW, seeds=[contact_of("a")])


def test_records_are_republished_and_handed_on_by_themselves() -> None:
    limits = KademliaLimits(republish_ms=HOUR_MS, replicate_ms=HOUR_MS)
    machine = machine_of("me", limits)
    machine.receive(contact_of("a"), messages.Ping(), NOW)
    foreign = record_of("a", CHAT, lives_ms=3 * HOUR_MS)
    assert machine.receive(contact_of("a"), messages.AddProvider(CHAT, foreign), NOW)[0] == messages.RecordStored(True)
    mine = open_challenge("mine")
    machine.publications.publish(mine, NOW)
    offered: dict[int, int] = {}
    while machine.wake_at < NOW + 2 * HOUR_MS:
        now = machine.wake_at
        pending = machine.tick(now)
        while pending:
            effect = pending.pop(0)
            assert isinstance(effect, AskPeer)
            if isinstance(effect.request, messages.AddProvider):
                record = effect.request.record
                offered.setdefault(effect.request.challenge.key, record.fields.issued_at_ms)
                pending += machine.answered(effect.ticket, messages.RecordStored(True), now)
            elif isinstance(effect.request, messages.FindPeers):
                pending += machine.answered(effect.ticket, messages.PeersFound(()), now)
    assert set(offered) == {mine.key, CHAT.key}
    assert offered[mine.key] >= NOW + HOUR_MS  # signed anew
    assert offered[CHAT.key] == NOW  # as the provider signed it
