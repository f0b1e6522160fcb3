"""How often a peer knocks at addresses that others told."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from fluvial.identity import PeerId
from fluvial_transport_tcp.attempts import (
    CLAIM_PAUSE_S,
    CLAIM_PAUSE_S_MAX,
    ENDPOINTS_MAX,
    OF_HOST,
    OF_NETWORK,
    OF_PEER,
    OWNER_FAILURES_MAX,
    OWNER_PAUSE_S_MAX,
    DialAttempts,
    Paused,
)
from hypothesis import given, settings
from hypothesis import strategies as st

VICTIM, PORT = "8.8.8.8", 7771


def peer(number: int) -> PeerId:
    return PeerId.from_public_key(number.to_bytes(32, "big"))


def knocks(attempts: DialAttempts, who: PeerId, host: str, port: int, now: float) -> bool:
    """Try an endpoint where nobody answers; whether that was allowed."""
    try:
        attempts.begin(who, host, port, now)
    except Paused:
        return False
    attempts.failed(who, host, port, now)
    return True


def test_claims_of_one_endpoint_share_its_pauses() -> None:
    """Whoever is said to be there: a minute of claims, a thousand a second, is four knocks."""
    attempts = DialAttempts()
    times = [n / 1000 for n in range(0, 120_000, 50) if knocks(attempts, peer(n), VICTIM, PORT, n / 1000)]
    assert [round(time) for time in times] == [0, 5, 25, 105]


def test_a_pause_says_what_happened_the_last_time() -> None:
    """To whoever asks for the same peer, in the same words all the time; others do not hear it."""
    attempts = DialAttempts()
    attempts.begin(peer(1), VICTIM, PORT, 0.0)
    assert "it did not answer" in attempts.pause(peer(1), VICTIM, PORT, 0.1)
    attempts.failed(peer(1), VICTIM, PORT, 0.2, "Connection refused")
    attempts.failed(peer(1), VICTIM, PORT, 0.3)
    assert {attempts.pause(peer(1), VICTIM, PORT, now) for now in (0.5, 4.0)} == {"Connection refused"}
    assert "it did not answer" in attempts.pause(peer(2), VICTIM, PORT, 0.5)
    assert attempts.pause(peer(1), VICTIM, PORT, 6.0) == ""


def test_a_host_is_not_flooded_port_by_port() -> None:
    attempts = DialAttempts()
    count = sum(knocks(attempts, peer(port), VICTIM, port, 60 * port / 60_000) for port in range(1024, 60_000, 19))
    assert count <= OF_HOST.burst + 60 / OF_HOST.each_s


def test_a_network_is_not_flooded_host_by_host() -> None:
    attempts = DialAttempts()
    count = sum(knocks(attempts, peer(n), f"8.8.8.{n % 256}", n, 60 * n / 10_000) for n in range(1, 10_000, 3))
    assert count <= OF_NETWORK.burst + 60 / OF_NETWORK.each_s + 1


@pytest.mark.parametrize("spelling", ["2001:4860:0:0::{:x}", "2001:4860::0:{:x}", "2001:4860:0:0:{:x}::1"])
def test_a_host_has_a_whole_ipv6_network(spelling: str) -> None:
    attempts = DialAttempts()
    count = sum(knocks(attempts, peer(n), spelling.format(n), PORT, n / 1000) for n in range(1, 5_000, 3))
    assert count <= OF_HOST.burst + 5 / OF_HOST.each_s + 1


def test_a_peer_claims_few_addresses() -> None:
    rng, attempts = random.Random(1), DialAttempts()
    count = sum(
        knocks(attempts, peer(1), f"9.{rng.randrange(256)}.{n % 256}.{rng.randrange(256)}", PORT, n / 20)
        for n in range(1_200)
    )
    assert count <= OF_PEER.burst + 60 / OF_PEER.each_s


def test_spellings_of_a_host_are_one_host() -> None:
    attempts = DialAttempts()
    assert knocks(attempts, peer(1), VICTIM, PORT, 0)
    assert not knocks(attempts, peer(2), f"::ffff:{VICTIM}", PORT, 1)
    assert not knocks(attempts, peer(2), f"64:ff9b::{VICTIM}", PORT, 1)
    attempts.answered(peer(3), VICTIM, PORT, 2)
    assert attempts.proven(peer(3), f"::ffff:{VICTIM}", PORT, 3, within_s=60)


def test_liars_cannot_keep_an_honest_peer_from_its_own_address() -> None:
    """Somebody claimed the address of a peer; the dial found who is there, and from then on that peer is dialled at once."""
    attempts, honest = DialAttempts(), peer(0)
    attempts.begin(peer(1), VICTIM, PORT, 0)
    attempts.answered(honest, VICTIM, PORT, 0.1)
    attempts.failed(peer(1), VICTIM, PORT, 0.1)
    for n in range(2, 500):
        knocks(attempts, peer(n), VICTIM, PORT, n / 10)
        attempts.begin(honest, VICTIM, PORT, n / 10)


def test_an_owner_that_is_away_is_tried_again_soon() -> None:
    attempts, owner = DialAttempts(), peer(0)
    attempts.answered(owner, VICTIM, PORT, 0)
    times = [now for now in range(300) if knocks(attempts, owner, VICTIM, PORT, now)]
    assert len(times) >= OWNER_FAILURES_MAX
    assert max(after - before for before, after in pairwise(times[:6])) <= OWNER_PAUSE_S_MAX


def test_a_proof_ends() -> None:
    """Who gave an address up does not get it dialled for ever by the rules for owners."""
    attempts, owner = DialAttempts(), peer(0)
    attempts.answered(owner, VICTIM, PORT, 0)
    assert attempts.proven(owner, VICTIM, PORT, 60, within_s=60)
    assert not attempts.proven(owner, VICTIM, PORT, 61, within_s=60)
    now = 0.0
    for _ in range(OWNER_FAILURES_MAX):
        attempts.failed(owner, VICTIM, PORT, now)
    assert not attempts.proven(owner, VICTIM, PORT, 1, within_s=60)
    times = [now for now in range(60, 660) if knocks(attempts, owner, VICTIM, PORT, now)]
    assert len(times) <= 2 + 600 / CLAIM_PAUSE_S_MAX + 2
    assert times[1] - times[0] >= CLAIM_PAUSE_S


def test_what_is_remembered_is_bounded() -> None:
    attempts, owner = DialAttempts(), peer(0)
    for n in range(ENDPOINTS_MAX + 100):
        attempts.answered(owner, f"10.0.0.{n >> 16}", n & 0xFFFF, 0)
    assert not attempts.proven(owner, "10.0.0.0", 0, 0, within_s=1)
    assert attempts.proven(owner, f"10.0.0.{ENDPOINTS_MAX >> 16}", ENDPOINTS_MAX & 0xFFFF, 0, within_s=1)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 30)), max_size=200))
def test_no_endpoint_is_knocked_at_twice_within_a_pause(claims: list[tuple[int, int, int]]) -> None:
    attempts, now, last = DialAttempts(), 0.0, dict[int, float]()
    for who, port, later in claims:
        now += later / 10
        pause = attempts.pause(peer(who), VICTIM, 2000 + port, now)
        knocked = knocks(attempts, peer(who), VICTIM, 2000 + port, now)
        assert not (pause and knocked), "what is known beforehand is true"
        if knocked:
            assert now >= last.get(port, float("-inf")) + CLAIM_PAUSE_S
            last[port] = now


def test_that_a_name_is_not_looked_up_is_known_beforehand() -> None:
    attempts, looked_up = DialAttempts(), 0
    for n in range(60):
        if attempts.name_pause(peer(n), "a.example.org", 0):
            with pytest.raises(Paused):
                attempts.look_up(peer(n), "b.example.org", 0)
        else:
            attempts.look_up(peer(n), "b.example.org", 0)
            looked_up += 1
    assert looked_up == OF_NETWORK.burst
