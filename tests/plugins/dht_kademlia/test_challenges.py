"""Who may register at a key."""

from __future__ import annotations

import pytest
from fluvial.errors import PluginError, Refused, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial_dht_kademlia.machine.challenges import (
    Challenge,
    ChallengeKinds,
    open_challenge,
    owned_challenge,
    self_challenge,
)
from fluvial_dht_kademlia.machine.record_store import LAPSED_AT_ONCE, LAPSED_MS

from tests.plugins.dht_kademlia.peers import nobody_proves, peer_of, record_of, store_of

A, B, OWNER = peer_of("a"), peer_of("b"), peer_of("owner")


def test_a_key_is_the_hash_of_its_challenge() -> None:
    keys = {
        challenge.key
        for challenge in (
            open_challenge("chat"),
            open_challenge("chat", b"1"),
            owned_challenge(OWNER, 2),
            owned_challenge(OWNER, 3),
            owned_challenge(OWNER, 2, b"nonce"),
            owned_challenge(A, 2),
            self_challenge(OWNER),
        )
    }
    assert len(keys) == 7
    assert open_challenge("chat").key == open_challenge("chat").key


def test_anybody_registers_at_an_open_key_but_brings_no_solution() -> None:
    kinds = ChallengeKinds(nobody_proves)
    kinds.check(open_challenge("chat"), A, b"")
    with pytest.raises(Refused):
        kinds.check(open_challenge("chat"), A, b"something")


def test_only_the_peer_itself_registers_at_its_own_key() -> None:
    kinds = ChallengeKinds(nobody_proves)
    kinds.check(self_challenge(A), A, b"")
    with pytest.raises(Refused) as refusal:
        kinds.check(self_challenge(A), B, b"")
    assert refusal.value.reason == "solution"


def test_an_owned_key_asks_for_a_path_and_hands_its_length_on() -> None:
    asked: list[tuple[bytes, PeerId, PeerId, int]] = []

    def proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        asked.append((proof, owner, provider, length_max))
        return proof == b"good"

    kinds = ChallengeKinds(proves)
    kinds.check(owned_challenge(OWNER, 2), A, b"good")
    assert asked == [(b"good", OWNER, A, 2)]
    kinds.check(owned_challenge(OWNER, 2), OWNER, b"")
    for solution in (b"bad", b""):
        with pytest.raises(Refused):
            kinds.check(owned_challenge(OWNER, 2), A, solution)


@pytest.mark.parametrize(
    "challenge",
    [
        Challenge("owned", b"\xc1"),
        Challenge("owned", b"\x93\xa1x\x01\xc4\x00"),
        Challenge("open", b""),
        Challenge("self", b"\x90"),
    ],
)
def test_an_ill_formed_challenge_is_refused(challenge: Challenge) -> None:
    with pytest.raises(RemoteProtocolError):
        ChallengeKinds(nobody_proves).check(challenge, A, b"")


def test_a_kind_of_somebody_elses_can_be_added_once() -> None:
    class Parity:
        name = "parity"

        def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
            return sum(body + solution) % 2 == 0

    kinds = ChallengeKinds(nobody_proves)
    with pytest.raises(Refused) as refusal:
        kinds.check(Challenge("parity", b"\1"), A, b"\1")
    assert refusal.value.reason == "kind"
    kinds.add(Parity())
    kinds.check(Challenge("parity", b"\1"), A, b"\1")
    with pytest.raises(PluginError):
        kinds.add(Parity())


def test_a_path_that_is_revoked_after_the_write_no_longer_counts_at_the_read() -> None:
    trusted = {A, B}

    def proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        return provider in trusted

    store, challenge = store_of(proves=proves), owned_challenge(OWNER, 1)
    for name in ("a", "b"):
        store.put(challenge, record_of(name, challenge, solution=b"path"), 1_000_000_000)
    trusted.discard(A)
    assert [record.provider for record in store.read(challenge.key, 1_000_000_001, limit=9)] == [B]
    assert [record.provider for _, record in store.due(1_000_000_001, 0)] == [B]


def test_a_read_looks_at_no_more_paths_than_it_hands_out_and_seldom_again_at_those_that_lapsed() -> None:
    trusted, looked, now = {A, B}, 0, 1_000_000_000

    def proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        nonlocal looked
        looked += 1
        return provider in trusted

    store, challenge = store_of(proves=proves), owned_challenge(OWNER, 1)

    def read(limit: int, after_ms: int = 1) -> tuple[int, int]:
        """How many are handed out, and how many looks that takes."""
        before = looked
        return len(store.read(challenge.key, now + after_ms, limit=limit)), looked - before

    for name in ("a", "b"):
        store.put(challenge, record_of(name, challenge, solution=b"path"), now)
    assert [read(limit) for limit in (0, 1, 2, 9)] == [(0, 0), (1, 1), (2, 2), (2, 2)]
    trusted.clear()
    assert [read(9), read(9), list(store.due(now + 2, 0)), looked] == [(0, 2), (0, 0), [], 2 + 7]
    trusted.update((A, B))
    assert read(9, LAPSED_MS) == (0, 0)
    store.put(challenge, record_of("a", challenge, solution=b"path"), now + 2)
    assert read(9, LAPSED_MS) == (1, 1), "who brings it again is heard at once"
    assert read(9, LAPSED_MS + 1) == (2, 2)


def test_records_that_lapsed_do_not_make_upkeep_look_at_all_of_them_nor_at_none_but_them() -> None:
    trusted, looked, now = True, 0, 1_000_000_000

    def proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        nonlocal looked
        looked += 1
        return trusted

    store = store_of(proves=proves)
    for number in range(LAPSED_AT_ONCE * 2 + 3):
        store.put(one := owned_challenge(OWNER, 1, bytes([number])), record_of("a", one, solution=b"path"), now)
    store.put(open_challenge("last"), record_of("a", open_challenge("last")), now)
    trusted, looked = False, 0
    passes = []
    for later in range(1, 5):
        passes.append((len(list(store.due(now + 100 + later, 100))), looked))
    assert passes == [(0, LAPSED_AT_ONCE), (0, 2 * LAPSED_AT_ONCE), (1, 2 * LAPSED_AT_ONCE + 3), (0, looked)]
