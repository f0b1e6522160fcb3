"""What a running peer knows: always what the pure evaluation of the same statements says, also with trusts that a flow shows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fluvial.identity import PeerId
from fluvial_trust_graph import proofs
from fluvial_trust_graph.evaluation import evaluate
from fluvial_trust_graph.graph import ENDS_MIN, TrustRoot
from fluvial_trust_graph.live import CONNECTIVITY, SEARCH_STEPS_MAX, LiveTrust
from fluvial_trust_graph.proofs import SignedProofs, decode_path, encode_path, is_path, prove_path
from fluvial_trust_graph.statements import Statement, TrustStatement, is_authentic, sign_trust
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import (
    NETWORK,
    NOW,
    PEERS,
    bans,
    keys_of,
    path,
    peers,
    some_roots,
    statement_lists,
    trust_statements,
    trusts,
)

SCOPES = ("", CONNECTIVITY, "dht", "service:chat")
A, B, C, D = (keys_of(name).peer_id for name in "abcd")


def exponents(roots: Sequence[TrustRoot]) -> dict[PeerId, int]:
    return {root.peer: root.exponent for root in roots}


@settings(max_examples=100, deadline=None)
@given(
    st.lists(statement_lists, max_size=3),
    some_roots,
    st.integers(NOW, NOW + 4),
    st.sampled_from(SCOPES),
    st.sampled_from([None, 1]),
)
def test_it_says_what_the_pure_evaluation_says(
    batches: list[list[Statement]], roots: list[TrustRoot], later: int, asked_first: str, most: int | None
) -> None:
    live = LiveTrust(exponents(roots), {}, NOW)
    seen: list[Statement] = []
    for batch in batches:
        good = [one for one in batch if one.issued_at <= NOW]
        live.put(good)
        seen += good
        assert live.weight_for(A, asked_first) == evaluate(seen, roots, NOW, scope=asked_first).weight(A)
    while not live.advance(later, most=most):
        assert most is not None
    for scope in SCOPES:
        pure = evaluate(seen, roots, later, scope=scope)
        assert {peer: live.weight_for(peer, scope) for peer in PEERS} == {peer: pure.weight(peer) for peer in PEERS}
    assert live.weight(B) == live.weight_for(B, CONNECTIVITY)


@settings(max_examples=200, deadline=None)
@given(statement_lists, st.lists(trust_statements, max_size=4), some_roots, peers, st.sampled_from(SCOPES))
def test_shown_trusts_count_as_if_they_were_known(
    known: list[Statement], shown: list[TrustStatement], roots: list[TrustRoot], peer: PeerId, scope: str
) -> None:
    live = LiveTrust(exponents(roots), {}, NOW)
    known = [one for one in known if one.issued_at <= NOW]
    live.put(known)
    holding = [one for one in shown if one.issued_at <= NOW < one.expires_at]
    pairs = {(one.issuer, one.subject) for one in holding}
    one_each = [next(one for one in holding if (one.issuer, one.subject) == pair) for pair in sorted(pairs)]
    good_for = [one for one in one_each if one.covers(scope)]
    before = live.weight_for(peer, scope)
    with_them = evaluate([*known, *good_for], roots, NOW, scope=scope).weight(peer)
    assert live.weight_for(peer, scope, one_each) == max(before, with_them)
    assert live.weight_for(peer, scope) == before, "nothing of it is kept"


def test_showing_what_was_revoked_does_not_help() -> None:
    live = LiveTrust({A: 5}, {}, NOW)
    live.put([*path(A, B), bans(B, C, issued_at=5)])
    assert live.weight_for(C, "", [trusts(B, C, issued_at=4)]) == 0
    assert live.weight_for(C, "", [trusts(B, C, issued_at=6)]) == 8


def test_shown_trusts_are_good_for_their_scopes_alone() -> None:
    live = LiveTrust({A: 5}, {}, NOW)
    live.put(path(A, B))
    shown = [trusts(B, C, scopes=("dht",))]
    assert (live.weight_for(C, "dht", shown), live.weight_for(C, "", shown), live.weight_for(C, "service", shown)) == (
        8,
        0,
        0,
    )


def test_certificates_of_a_key_that_is_no_root() -> None:
    live = LiveTrust({A: 5}, {B: 2}, NOW)
    assert live.is_heard(B)
    live.put([trusts(B, B), trusts(B, C)])
    assert live.is_certified(C, B, 1, "")
    assert not live.is_certified(D, B, 2, "")
    assert live.is_certified(D, B, 2, "", [trusts(C, D)])
    assert not live.is_certified(D, B, 1, "", [trusts(C, D)]), "too deep"
    assert not live.is_certified(B, B, 1, ""), "a key does not certify itself"
    assert live.weight(C) == 0, "no root leads there"


def test_a_chain_that_a_flow_shows_whole_needs_nothing_known() -> None:
    live = LiveTrust({}, {B: 2}, NOW)
    shown = path(B, C, D)
    assert live.is_certified(D, B, 2, "", shown)
    assert not live.is_certified(D, B, 2, "", shown[1:]), "the key has not signed itself"
    live.put([bans(B, D, issued_at=5)])
    assert not live.is_certified(D, B, 2, "", shown), "banned by the key"


def test_what_is_forgotten_counts_no_more() -> None:
    live = LiveTrust({A: 5}, {}, NOW)
    live.put(path(A, B, C))
    version = live.version
    live.remove([(B, C), (C, D)])
    assert (live.weight(B), live.weight(C), len(live)) == (16, 0, 2)
    assert live.version > version
    live.advance(200)
    assert live.weight(B) == 0


def test_paths_are_proven_to_others() -> None:
    made = [
        sign_trust(trusts(keys_of(one).peer_id, keys_of(other).peer_id, **fields), keys_of(one))
        for one, other, fields in [
            ("a", "b", {}),
            ("b", "c", {"depth": 1}),
            ("c", "d", {}),
            ("b", "d", {"scopes": ("service",)}),
        ]
    ]
    here, there = LiveTrust({A: 5}, {}, NOW), LiveTrust({}, {}, NOW)
    here.put(made)
    signed = SignedProofs(NETWORK)

    def proves(proof: bytes, owner: PeerId, provider: PeerId, length_max: int = 5, now: int = NOW) -> bool:
        return is_path(there, proof, owner, provider, length_max=length_max, signed=signed, now=now)

    proof = prove_path(here, A, D, length_max=3)
    assert proof is not None
    assert [one.subject for one in decode_path(proof)] == [B, C, D]
    assert proves(proof, A, D)
    assert prove_path(here, A, D, length_max=2) is None, "the short way is not for the dht"
    assert not proves(proof, A, D, length_max=2)
    assert not proves(proof, B, D)
    assert not proves(proof, A, C)
    assert not proves(proof, A, D, now=100), "expired"
    assert not proves(proof[:-1] + b"\0", A, D)
    assert prove_path(here, D, A, length_max=5) is None
    assert proves(prove_path(here, A, A, length_max=0) or b"", A, A, length_max=0)
    there.put([bans(A, C, issued_at=5)])
    assert not proves(proof, A, D), "what the verifier knows counts"


def test_what_a_proof_repeats_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[Statement] = []

    def counting(statement: Statement, network: str) -> bool:
        verified.append(statement)
        return is_authentic(statement, network)

    monkeypatch.setattr(proofs, "is_authentic", counting)
    chain = [keys_of(f"link {number}") for number in range(8)]
    links = [sign_trust(trusts(one.peer_id, other.peer_id), one) for one, other in itertools.pairwise(chain)]
    there, signed = LiveTrust({}, {}, NOW), SignedProofs(NETWORK)

    def proves(proof: bytes, provider: PeerId) -> bool:
        return is_path(there, proof, chain[0].peer_id, provider, length_max=8, signed=signed, now=NOW)

    proof = encode_path(links)
    assert [proves(proof, chain[-1].peer_id) for _ in range(9)] == [True] * 9
    assert len(verified) == len(links)
    last = sign_trust(trusts(chain[-1].peer_id, A), chain[-1])
    assert proves(encode_path([*links, last]), A)
    assert len(verified) == len(links) + 1
    forged = replace(last, signature=bytes(64))
    assert not proves(encode_path([*links, forged]), A)
    assert not is_path(
        there, proof, chain[0].peer_id, chain[-1].peer_id, length_max=8, signed=SignedProofs("other"), now=NOW
    )


def test_hundreds_of_long_proofs_that_are_read_in_turn_are_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = 0

    def counting(statement: Statement, network: str) -> bool:
        nonlocal verified
        verified += 1
        return True

    monkeypatch.setattr(proofs, "is_authentic", counting)
    chain = [PeerId.from_public_key(number.to_bytes(32, "big")) for number in range(17)]
    there, signed = LiveTrust({}, {}, NOW), SignedProofs(NETWORK)
    paths = [
        encode_path([trusts(*two, issued_at=1, sequence=at, signature=bytes(64)) for two in itertools.pairwise(chain)])
        for at in range(280)
    ]
    for _ in range(2):
        for one in paths:
            assert is_path(there, one, chain[0], chain[-1], length_max=16, signed=signed, now=NOW)
    assert verified == 280 * 16
    there.put([bans(chain[3], chain[4], issued_at=5)])
    assert not is_path(there, paths[0], chain[0], chain[-1], length_max=16, signed=signed, now=NOW)


def test_trusts_that_end_are_not_forgotten_when_their_list_is_made_anew_while_some_are_left() -> None:
    live = LiveTrust({A: 5}, {}, NOW)
    friends = [PeerId.from_public_key(number.to_bytes(32, "big")) for number in range(ENDS_MIN - 20)]
    live.put([trusts(A, A, expires_at=NOW + 9), *(trusts(A, one, expires_at=NOW + 1) for one in friends)])
    assert not live.advance(NOW + 1, most=1)
    live.put([trusts(A, B, sequence=number, expires_at=NOW + 9) for number in range(40)])
    assert live.advance(NOW + 1)
    assert [live.weight(one) for one in friends if live.weight(one)] == []
    assert live.weight(B) == 16


def test_searches_have_a_budget_and_fail_closed() -> None:
    """What a ban makes to search for is paid out of what each second allows; the next second has its own."""
    e, f, g = (keys_of(name).peer_id for name in "efg")
    live = LiveTrust({A: 5}, {}, NOW, steps_per_s=SEARCH_STEPS_MAX + 100)
    live.put([*path(A, B, C, e), *path(A, D, f, g, e)[1:], bans(B, e, issued_at=5)])
    assert live.weight_for(e, "") == 2, "by the longer way, without B"
    for number in range(40):
        live.put([trusts(D, f, issued_at=6, sequence=number)])
        if live.weight_for(e, "") == 0:
            break
    else:
        raise AssertionError("nothing bounds what searches cost")
    assert live.weight_for(g, "") == 4, "who needs no search has its weight"
    live.advance(NOW + 1)
    assert live.weight_for(e, "") == 2


def test_everybody_may_ask_only_for_what_is_there_already() -> None:
    live = LiveTrust({A: 5}, {}, NOW)
    live.put([*path(A, B), trusts(B, C, scopes=("dht",))])
    assert live.knows_scope("dht")
    assert not live.knows_scope("service:other")
    assert live.leads(A, C, 2, "dht")
    assert not live.leads(A, C, 1, "dht")
    assert not live.leads(B, C, 1, "dht"), "B has not signed itself"
    assert live.chains(B, 5) == [(A, B)]
