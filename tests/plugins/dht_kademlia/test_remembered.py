"""What is remembered of strangers is bounded in bytes, however they choose their names and addresses."""

from __future__ import annotations

import gc
import hashlib
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fluvial.addresses import Address, Contact
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ports import Trust
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.shell import weights
from fluvial_dht_kademlia.shell.address_book import AddressBook
from fluvial_dht_kademlia.shell.weights import WeightCache

from tests.plugins.dht_kademlia.peers import peer_of

PEERS = [PeerId.from_public_key(hashlib.sha256(str(number).encode()).digest()) for number in range(200)]
WIDE = "\N{GRINNING FACE}" + "x" * 200


def names(number: int) -> tuple[str, ...]:
    """Addresses that take as much memory as they can."""
    return tuple(f"/dns4/{WIDE}{number}-{at}/tcp/1" for at in range(8))


def memory_of(work: Callable[[], None]) -> int:
    """What is in memory afterwards that was not there before."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_contacts_with_long_addresses_are_not_remembered() -> None:
    forms = [wire.ContactForm(str(peer), names(number)) for number, peer in enumerate(PEERS)]
    answers = [encode(wire.PeersFoundForm(tuple(forms[at : at + 8]))) for at in range(0, len(forms), 8)]

    def read() -> None:
        for answer in answers:
            wire.decode_answer(answer)

    assert memory_of(read) < 2_000 * len(PEERS)


def test_usual_contacts_are_remembered() -> None:
    form = wire.ContactForm(
        str(PEERS[0]), tuple(f"/ip4/10.0.0.{at}/tcp/7771/p2p/{PEERS[1]}/p2p-circuit" for at in range(8))
    )
    first, second = (wire.decode_answer(encode(wire.PeersFoundForm((form,)))) for _ in range(2))
    assert cast(Any, first).contacts[0] is cast(Any, second).contacts[0]


def test_the_address_book_keeps_as_many_addresses_of_a_peer_as_have_room() -> None:
    book = AddressBook(peer_of("own"), len(PEERS), lambda _: 0)

    def learn() -> None:
        for number, peer in enumerate(PEERS):
            told = tuple(map(Address.parse, names(number)))
            book.learn(Contact(peer, told), 1)
            for address in told:
                book.prove(peer, address, 1)

    assert memory_of(learn) < 2 * 4_000 * len(PEERS)
    assert len(book.contact(PEERS[0]).addresses) == 4
    short = tuple(Address.parse(f"/ip4/100.100.100.10{at}/tcp/7771/p2p/{PEERS[1]}") for at in range(8))
    assert book.learn(Contact(PEERS[1], short), 1)
    assert book.contact(PEERS[1]).addresses[-8:] == short


def test_weights_are_bounded_within_one_step_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "REMEMBERED_MAX", 16)
    asked: list[PeerId] = []

    def weight(peer: PeerId) -> int:
        asked.append(peer)
        return 1

    cache = WeightCache(cast(Trust, SimpleNamespace(version=1, weight=weight)))
    assert [cache.weigh(peer) for peer in PEERS[:17]] == [1] * 17
    assert cache.weigh(PEERS[16]) == 1
    assert len(asked) == 17
    cache.weigh(PEERS[0])
    assert len(asked) == 18
