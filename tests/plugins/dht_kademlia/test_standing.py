"""Who names peers that do not answer, or answers with noise, is heard until its credit is used up, and again when time has passed; honest ones all the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import count

from fluvial.addresses import Contact
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.keyspace import peer_key
from fluvial_dht_kademlia.machine.messages import FindPeers, PeersFound, Ping, ProvidersFound
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect, LookupEnded
from fluvial_dht_kademlia.machine.standing import ANSWERING, NAMING, PeerStanding

from tests.plugins.dht_kademlia.peers import NOW, contact_of, machine_of, peer_of

LIARS = [contact_of(f"liar {number}") for number in range(3)]
HONEST = [contact_of(f"honest {number}") for number in range(12)]
NAMED = 60


class Around:
    """A machine among liars, each of which names sixty nobodies in each answer, and honest peers, which name each other."""

    def __init__(self, known: Iterable[Contact]) -> None:
        self.machine: Kademlia = machine_of("own")
        self.now = NOW
        self.names = count()
        for contact in known:
            self.machine.met(contact, self.now)

    def look_up(self) -> tuple[list[PeerId], list[PeerId]]:
        """The nobodies and the honest peers that a lookup asks."""
        _, effects = self.machine.find_peers(peer_key(peer_of(f"target {next(self.names)}")), self.now)
        nobodies: list[PeerId] = []
        honest: list[PeerId] = []
        waiting = [effect for effect in effects if isinstance(effect, AskPeer)]
        while waiting:
            ask = waiting.pop()
            assert isinstance(ask.request, FindPeers)
            further: list[DhtEffect]
            if ask.contact in LIARS:
                named = tuple(contact_of(f"nobody {next(self.names)}") for _ in range(NAMED))
                further = self.machine.answered(ask.ticket, PeersFound(named), self.now)
            elif ask.contact in HONEST:
                honest.append(ask.contact.peer)
                further = self.machine.answered(ask.ticket, PeersFound(tuple(HONEST)), self.now)
            else:
                nobodies.append(ask.contact.peer)
                further = self.machine.failed(ask.ticket, self.now)
            waiting += [effect for effect in further if isinstance(effect, AskPeer)]
        return nobodies, honest


def test_what_liars_can_make_a_peer_ask_is_bounded_over_all_lookups() -> None:
    around = Around(LIARS)
    asked = sum(len(around.look_up()[0]) for _ in range(20))
    assert len(LIARS) * NAMING.full <= asked <= len(LIARS) * (NAMING.full + 3)  # requests under way at that moment
    assert all(around.machine.contacts_taken(liar.peer) == 0 for liar in LIARS)


def test_a_liar_is_heard_again_when_time_has_passed_and_only_for_as_much() -> None:
    around = Around(LIARS[:1])
    for _ in range(20):
        around.look_up()
    around.now += 10 * NAMING.each_ms
    asked = sum(len(around.look_up()[0]) for _ in range(20))
    assert 4 <= asked <= 13
    assert around.look_up()[0] == []


def test_honest_peers_among_liars_find_each_other_in_each_lookup() -> None:
    around = Around((*LIARS, HONEST[0]))
    for _ in range(20):
        _, honest = around.look_up()
        assert set(honest) == {contact.peer for contact in HONEST}


def test_a_peer_of_whose_named_a_third_answers_is_heard_all_the_time() -> None:
    standing = PeerStanding()
    churned = peer_of("churned")
    for _ in range(200):
        standing.named(churned, answers=True)
        for _ in range(NAMING.gain):
            standing.named(churned, answers=False)
        assert standing.may_name(churned)


def test_a_clock_that_is_set_back_gives_no_credit_and_takes_none() -> None:
    standing = PeerStanding()
    standing.advance(NOW)
    for _ in range(3 * NAMING.full):
        standing.named(LIARS[0].peer, answers=False)
    standing.advance(0)
    assert not standing.may_name(LIARS[0].peer)
    assert standing.may_name(LIARS[1].peer)


def look_up(machine: Kademlia, name: str, now: int, noisy: Contact) -> tuple[int, bool]:
    """How often a lookup asks one that answers with noise, while all others answer, and whether these are what it found."""
    _, effects = machine.find_peers(peer_key(peer_of(name)), now)
    asked, waiting = 0, list(effects)
    while waiting:
        effect = waiting.pop()
        if isinstance(effect, LookupEnded):
            return asked, {contact.peer for contact in effect.nearest} == {contact.peer for contact in HONEST}
        assert isinstance(effect, AskPeer)
        if effect.contact == noisy:
            asked += 1
            waiting += machine.failed(effect.ticket, now, noise=True)
            machine.receive(noisy, Ping(), now)  # it is there, and in the table as before
        else:
            waiting += machine.answered(effect.ticket, PeersFound(tuple(HONEST)), now)
    raise AssertionError("the lookup has not ended")


def test_who_answers_with_noise_is_not_asked_any_more_however_often_it_says_that_it_is_there() -> None:
    machine = machine_of("own")
    for contact in (LIARS[0], *HONEST):
        machine.met(contact, NOW)
    ends = [look_up(machine, f"target {number}", NOW, LIARS[0]) for number in range(20)]
    assert sum(asked for asked, _ in ends) == ANSWERING.full
    assert all(found for _, found in ends)
    later = NOW + ANSWERING.each_ms
    assert sum(look_up(machine, f"later {number}", later, LIARS[0])[0] for number in range(20)) == 1


def test_an_answer_to_another_question_is_noise_and_silence_is_none() -> None:
    machine = machine_of("own")
    liar, silent = LIARS[:2]
    asked: Counter[PeerId] = Counter()
    for number in range(20):
        for contact in (liar, silent):
            machine.receive(contact, Ping(), NOW)
        _, waiting = machine.find_peers(peer_key(peer_of(f"target {number}")), NOW)
        while waiting:
            effect = waiting.pop()
            if isinstance(effect, AskPeer):
                asked[effect.contact.peer] += 1
                waiting += (
                    machine.answered(effect.ticket, ProvidersFound((), ()), NOW)
                    if effect.contact == liar
                    else machine.failed(effect.ticket, NOW)
                )
    assert asked == {liar.peer: ANSWERING.full, silent.peer: 20}
