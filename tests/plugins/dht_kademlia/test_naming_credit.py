"""Whom a peer names that names others which do not answer: asked until its credit is used up, and again when time has passed; honest ones are heard all the time."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from fluvial.addresses import Contact
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.keyspace import peer_key
from fluvial_dht_kademlia.machine.messages import FindPeers, PeersFound
from fluvial_dht_kademlia.machine.naming_credit import ANSWERED, EACH_MS, FULL, NamingCredit
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect

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
    assert len(LIARS) * FULL <= asked <= len(LIARS) * (FULL + 3)  # requests under way at that moment
    assert all(around.machine.contacts_taken(liar.peer) == 0 for liar in LIARS)


def test_a_liar_is_heard_again_when_time_has_passed_and_only_for_as_much() -> None:
    around = Around(LIARS[:1])
    for _ in range(20):
        around.look_up()
    around.now += 10 * EACH_MS
    asked = sum(len(around.look_up()[0]) for _ in range(20))
    assert 4 <= asked <= 13
    assert around.look_up()[0] == []


def test_honest_peers_among_liars_find_each_other_in_each_lookup() -> None:
    around = Around((*LIARS, HONEST[0]))
    for _ in range(20):
        _, honest = around.look_up()
        assert set(honest) == {contact.peer for contact in HONEST}


def test_a_peer_of_whose_named_a_third_answers_keeps_its_credit() -> None:
    credit = NamingCredit()
    churned = peer_of("churned")
    for _ in range(200):
        credit.answered([churned])
        for _ in range(ANSWERED):
            credit.failed([churned])
        assert credit.good(churned)


def test_a_clock_that_is_set_back_gives_no_credit_and_takes_none() -> None:
    credit = NamingCredit()
    credit.advance(NOW)
    for _ in range(3 * FULL):
        credit.failed([LIARS[0].peer])
    credit.advance(0)
    assert not credit.good(LIARS[0].peer)
    assert credit.good(LIARS[1].peer)
