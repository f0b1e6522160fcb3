"""Who gets a place: neither strangers nor the known shut out the other, and who was here first is not displaced by a crowd."""

from __future__ import annotations

import random

import pytest
from fluvial.identity import KeyPair
from fluvial_transport_tcp.places import Occupant, Places, decide
from fluvial_transport_tcp.prefix import Prefix, prefix_of
from fluvial_transport_tcp.standing import STRANGER, Acquaintances, Rank, Standing

PLACES = Places.shared(100, reserved_percent=25, strangers_percent=10)


def known(seniority_s: float) -> Standing:
    return Standing(Rank.KNOWN, 0, seniority_s)


def trusted(weight: int) -> Standing:
    return Standing(Rank.TRUSTED, weight, 0.0)


def there(count: int, standing: Standing = STRANGER, *, idle_s: float = 0.0, age_s: float = 0.0) -> list[Occupant]:
    return [Occupant(standing, idle_s, age_s)] * count


def test_strangers_leave_the_reserved_places_free() -> None:
    assert decide(PLACES, there(74), STRANGER).admitted
    assert not decide(PLACES, there(75), STRANGER).admitted
    assert decide(PLACES, there(75), known(1)) == (True, None)
    assert decide(PLACES, [*there(75), *there(24, known(5))], known(1)) == (True, None)


def test_who_is_known_displaces_the_idlest_stranger() -> None:
    occupants = [*there(50), Occupant(STRANGER, 3.0, 9.0), *there(49, known(5))]
    assert decide(PLACES, occupants, known(1)) == (True, 50)


def test_strangers_keep_their_places_against_any_number_of_known_peers() -> None:
    occupants = [*there(10), *there(90, known(100))]
    assert not decide(PLACES, occupants, known(1)).admitted
    placement = decide(PLACES, [*there(10, age_s=2.0), *there(90, known(100))], STRANGER)
    assert placement.admitted
    assert placement.displaced in range(10)


def test_the_heavier_and_the_senior_displace_the_least() -> None:
    occupants = [*there(10), *there(80, known(100)), Occupant(known(7), 0.0, 0.0), *there(9, trusted(3))]
    assert decide(PLACES, occupants, known(8)) == (True, 90)
    assert not decide(PLACES, occupants, known(6)).admitted
    assert decide(PLACES, occupants, trusted(1)) == (True, 90)
    assert decide(PLACES, [*there(10), *there(90, trusted(3))], trusted(4)).displaced in range(10, 100)
    assert not decide(PLACES, [*there(10), *there(90, trusted(3))], trusted(2)).admitted


def test_an_idle_stranger_goes_before_one_that_has_had_its_turn() -> None:
    occupants = [*there(73, age_s=0.5), Occupant(STRANGER, 0.0, 60.0), Occupant(STRANGER, 11.0, 12.0)]
    assert decide(PLACES, occupants, STRANGER) == (True, 74)
    assert decide(PLACES, [*occupants[:74], *there(1)], STRANGER) == (True, 73)
    assert not decide(PLACES, there(75, age_s=0.9), STRANGER).admitted


def test_a_crowd_of_fresh_keys_displaces_nobody_who_was_there() -> None:
    """Each of them becomes known by an exchange, and comes again; an old acquaintance gets in at any time."""
    rng, now = random.Random(5), 0.0
    since: dict[int, float] = {peer: -1000.0 + peer for peer in range(60)}
    inside: dict[int, float] = dict.fromkeys(range(60), now)  # who, since when
    fresh = 1000
    for _ in range(3000):
        now += 0.01
        newcomer = rng.choice([fresh, rng.randrange(1000, fresh + 1), rng.randrange(60)])
        fresh += newcomer == fresh
        if newcomer in inside:
            if newcomer < 60 and rng.random() < 0.3:
                del inside[newcomer]  # its connection breaks
            continue

        def standing(peer: int, at: float = now) -> Standing:
            return known(at - since[peer]) if peer in since else STRANGER

        who = list(inside)
        occupants = [Occupant(standing(peer), rng.uniform(0, 2), now - inside[peer]) for peer in who]
        placement = decide(PLACES, occupants, standing(newcomer))
        if newcomer < 60:
            assert placement.admitted
        if placement.displaced is not None:
            assert who[placement.displaced] >= 60
            del inside[who[placement.displaced]]
        if placement.admitted:
            inside[newcomer] = now
            since.setdefault(newcomer, now)
        assert len(inside) <= PLACES.total


@pytest.mark.parametrize("total", [1, 2, 3, 10])
def test_few_places_are_for_everybody(total: int) -> None:
    places = Places.shared(total, reserved_percent=25, strangers_percent=10)
    assert places.for_strangers >= 1
    assert decide(places, [], STRANGER).admitted
    assert decide(places, there(total - 1), known(1)).admitted


# --- acquaintances ----------------------------------------------------------------------------------------------------


def test_the_first_exchange_counts_and_a_crowd_does_not_wash_it_away() -> None:
    acquaintances = Acquaintances(3)
    peers = [KeyPair.from_secret(bytes([n]) * 32).peer_id for n in range(5)]
    for now, peer in enumerate(peers):
        acquaintances.note(peer, float(now))
    acquaintances.note(peers[0], 50.0)
    assert [acquaintances.seniority_s(peer, 100.0) for peer in peers] == [100.0, 99.0, 98.0, None, None]


def test_who_is_not_seen_for_a_day_makes_room() -> None:
    acquaintances = Acquaintances(2)
    one, other, third = (KeyPair.from_secret(bytes([n]) * 32).peer_id for n in range(3))
    acquaintances.note(one, 0.0)
    acquaintances.note(other, 0.0)
    acquaintances.note(other, 80_000.0)
    acquaintances.note(third, 86_500.0)
    assert acquaintances.seniority_s(one, 86_500.0) is None
    assert acquaintances.seniority_s(other, 86_500.0) == 86_500.0
    assert acquaintances.seniority_s(third, 86_500.0) == 0.0


# --- prefixes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "prefix"),
    [
        ("8.8.8.8", Prefix("8.8.8.0/24", True)),
        ("::ffff:8.8.8.8", Prefix("8.8.8.0/24", True)),
        ("2a00:1450:4001:82b::200e", Prefix("2a00:1450:4001::/48", True)),
        ("127.0.0.1", Prefix("127.0.0.0/24", False)),
        ("::1", Prefix("::/48", False)),
        ("192.168.7.9", Prefix("192.168.7.0/24", False)),
        ("100.64.1.1", Prefix("100.64.1.0/24", False)),
        ("fe80::1%eth0", Prefix("fe80::/48", False)),
        ("fd00::1", Prefix("fd00::/48", False)),
    ],
)
def test_addresses_are_counted_by_their_network(host: str, prefix: Prefix) -> None:
    assert prefix_of(host, ipv4_bits=24, ipv6_bits=48) == prefix
