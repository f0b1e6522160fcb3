"""What others see of a peer: believed when several networks say it, never because one does."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import cast

from fluvial.addresses import Address, Contact
from fluvial.encoding import encode
from fluvial.errors import Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Peers
from fluvial_dht_kademlia.shell.observed import VOTERS_MAX, ObservedAddresses
from fluvial_dht_kademlia.shell.reachability import Reachability
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.dht_kademlia.peers import peer_of

SEEN = Address.parse("/ip4/8.8.4.4/tcp/7771")
LIE = Address.parse("/ip4/9.9.9.9/tcp/7771")
EVERYWHERE = Address.parse("/ip4/0.0.0.0/tcp/7771")
FIXED = Address.parse("/dns/peer.example/tcp/7771")


def voter(name: str, host: str) -> Contact:
    return Contact(peer_of(name), (Address.parse(f"/ip4/{host}/tcp/7771"),))


class Neighbours:
    """The port: each neighbour says where it has dialled the asker."""

    def __init__(self, announced: Sequence[Address], said: dict[PeerId, Sequence[str]]) -> None:
        self._announced = announced
        self._said = said

    def addresses(self) -> Sequence[Address]:
        return self._announced

    async def request(self, to: PeerId | Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        assert isinstance(to, Contact)
        if to.peer not in self._said:
            raise Unreachable("it does not answer")
        return encode(list(self._said[to.peer]))


async def asked(announced: Sequence[Address], said: dict[Contact, Sequence[str]]) -> Reachability:
    port = Neighbours(announced, {contact.peer: texts for contact, texts in said.items()})
    reachability = Reachability(cast(Peers, port), told=Contact, neighbours=lambda: list(said), rng=Random(7))
    await reachability.ask()
    return reachability


async def test_what_two_networks_see_is_told_in_place_of_all_interfaces() -> None:
    good = [str(SEEN.with_peer(peer_of("me")))]
    one, two, three = voter("a", "8.1.0.1"), voter("b", "9.1.0.1"), voter("c", "8.1.77.1")
    found = await asked([EVERYWHERE, FIXED], {one: good, two: good, three: good})
    assert list(found.own_addresses()) == [SEEN, FIXED]
    assert [finding.level for finding in found.findings()] == ["ok", "warn"]


async def test_one_network_is_not_believed_however_many_peers_it_has() -> None:
    lie = [str(LIE)]
    found = await asked([EVERYWHERE], {voter(name, f"8.1.{name}.1"): lie for name in ("1", "2", "3")})
    assert list(found.own_addresses()) == []
    (finding,) = found.findings()
    assert finding.level == "warn"


async def test_what_is_no_address_and_who_does_not_answer_count_for_nothing() -> None:
    found = await asked([EVERYWHERE], {voter("a", "8.1.0.1"): ["rubbish"], voter("b", "9.1.0.1"): [str(SEEN)]})
    assert list(found.own_addresses()) == []


async def test_another_port_is_not_ours() -> None:
    other = [str(Address.parse("/ip4/8.8.4.4/tcp/9"))]
    found = await asked([EVERYWHERE], {voter("a", "8.1.0.1"): other, voter("b", "9.1.0.1"): other})
    assert list(found.own_addresses()) == []


def test_in_a_private_network_peers_count_each() -> None:
    observed = ObservedAddresses()
    home = Address.parse("/ip4/192.168.1.7/tcp/7771")
    for name in ("a", "b"):
        observed.heard(voter(name, "192.168.1.2"), [home])
    assert observed.believed() == [home]


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_only_what_more_than_half_of_the_networks_say_counts(said: list[tuple[int, bool]]) -> None:
    observed = ObservedAddresses()
    last: dict[int, bool] = {}
    for network, honest in said:
        observed.heard(voter(f"{network}", f"{11 + network}.1.0.1"), [SEEN if honest else LIE])
        last.pop(network, None)
        last[network] = honest
    heard = list(last.values())[-VOTERS_MAX:]
    assert len(observed) == len(heard)
    for address, votes in ((SEEN, sum(heard)), (LIE, len(heard) - sum(heard))):
        assert (address in observed.believed()) == (votes >= 2 and 2 * votes > len(heard))
