"""What a set of statements means: the same in any order, as trying everything says, and bounded."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId
from fluvial_trust_graph.evaluation import EvaluationLimits, TrustEvaluation, evaluate
from fluvial_trust_graph.graph import TrustRoot
from fluvial_trust_graph.statements import Statement
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import (
    NOW,
    PEERS,
    ByTryingEverything,
    ban_statements,
    bans,
    keys_of,
    path,
    roots,
    some_roots,
    statement_lists,
    trust_statements,
    trusts,
)

A, B, C, D, E, F, G = (keys_of(name).peer_id for name in "abcdefg")
scopes = st.sampled_from((None, None, "", "dht", "service:chat"))


def all_weights(evaluation: TrustEvaluation) -> dict[PeerId, int]:
    return {peer: evaluation.weight(peer) for peer in PEERS}


@given(statements=statement_lists, trusted=some_roots, scope=scopes)
def test_weights_and_chains_are_what_trying_everything_finds(
    statements: list[Statement], trusted: list[TrustRoot], scope: str | None
) -> None:
    evaluation = evaluate(statements, trusted, NOW, scope=scope)
    expected = ByTryingEverything(statements, trusted, NOW, scope)
    assert all_weights(evaluation) == {peer: expected.weight(peer) for peer in PEERS}
    assert evaluation.weights() == {peer: weight for peer in PEERS if (weight := expected.weight(peer))}
    for peer in PEERS:
        found = {(chain.exponent, chain.peers) for chain in evaluation.chains(peer)}
        assert found == {(exponent, chain) for exponent, chain in expected.chains() if chain[-1] == peer}
        for via in PEERS[:3]:
            assert evaluation.weight_from(peer, via) == expected.weight_from(peer, via)


@given(statements=statement_lists, trusted=some_roots, data=st.data())
def test_any_order_of_arrival_gives_the_same_weights(
    statements: list[Statement], trusted: list[TrustRoot], data: st.DataObject
) -> None:
    arrivals = data.draw(st.permutations(statements))
    doubled = [*arrivals, *statements]
    weights = all_weights(evaluate(statements, trusted, NOW))
    assert all_weights(evaluate(arrivals, trusted, NOW)) == weights
    assert all_weights(evaluate(doubled, reversed(trusted), NOW)) == weights


@given(statements=statement_lists, trusted=some_roots, ban=ban_statements)
def test_a_ban_never_raises_a_weight(statements: list[Statement], trusted: list[TrustRoot], ban: Statement) -> None:
    before, after = (all_weights(evaluate(known, trusted, NOW)) for known in (statements, [*statements, ban]))
    assert all(after[peer] <= before[peer] for peer in PEERS)


@given(statements=statement_lists, trusted=some_roots, trust=trust_statements)
def test_a_trust_for_a_pair_that_had_none_never_lowers_a_weight(
    statements: list[Statement], trusted: list[TrustRoot], trust: Statement
) -> None:
    others = [one for one in statements if (one.issuer, one.subject) != (trust.issuer, trust.subject)]
    before, after = (all_weights(evaluate(known, trusted, NOW)) for known in (others, [*others, trust]))
    assert all(after[peer] >= before[peer] for peer in PEERS)


@given(statements=statement_lists, trusted=some_roots)
def test_a_narrower_scope_holds_wherever_a_wider_one_does(
    statements: list[Statement], trusted: list[TrustRoot]
) -> None:
    weights = {
        scope: all_weights(evaluate(statements, trusted, NOW, scope=scope)) for scope in ("", "service", "service:chat")
    }
    anything = all_weights(evaluate(statements, trusted, NOW))
    for peer in PEERS:
        assert weights[""][peer] <= weights["service"][peer] <= weights["service:chat"][peer] <= anything[peer]


@given(first=statement_lists, later=statement_lists, trusted=some_roots, scope=scopes)
def test_keeping_up_gives_what_starting_anew_would(
    first: list[Statement], later: list[Statement], trusted: list[TrustRoot], scope: str | None
) -> None:
    evaluation = evaluate(first, trusted, NOW, scope=scope)
    known = [one for one in first if one.issued_at <= NOW]
    for statement in later:
        if statement.issued_at <= NOW:
            evaluation.put(statement)
            known.append(statement)
            assert evaluation.weights() == evaluate(known, trusted, NOW, scope=scope).weights()
    for now in (NOW + 1, NOW + 5):
        evaluation.advance(now)
        assert evaluation.weights() == evaluate(known, trusted, now, scope=scope).weights()


def test_a_statement_of_the_future_cannot_be_kept_up_with() -> None:
    with pytest.raises(ValueError, match="comes at"):
        evaluate([], roots(a=3), NOW).put(trusts(A, B, issued_at=NOW + 1))


def test_a_trust_says_how_far_it_may_be_passed_on() -> None:
    statements = [*path(A, B, depth=1), trusts(B, C), trusts(C, D)]
    evaluation = evaluate(statements, roots(a=5), NOW)
    assert [evaluation.weight(peer) for peer in (A, B, C, D)] == [32, 16, 8, 0]


def test_a_longer_chain_that_may_be_passed_on_reaches_further() -> None:
    statements = [*path(A, B, C), trusts(A, C, depth=0), trusts(C, D)]
    evaluation = evaluate(statements, roots(a=5), NOW)
    assert [evaluation.weight(peer) for peer in (C, D)] == [16, 4]


def test_a_chain_is_good_for_no_more_than_each_of_its_links() -> None:
    statements = [*path(A, B, scopes=("dht", "service")), trusts(B, C, scopes=("service:chat",)), trusts(C, D)]
    weights = {
        scope: evaluate(statements, roots(a=5), NOW, scope=scope).weight(D)
        for scope in ("service:chat", "dht", "service")
    }
    assert weights == {"service:chat": 4, "dht": 0, "service": 0}


def layered(width: int, depth: int) -> tuple[list[Statement], list[list[PeerId]]]:
    """Every peer of a layer trusts every peer of the next."""
    layers = [[keys_of(f"{level}.{n}").peer_id for n in range(width)] for level in range(depth)]
    statements: list[Statement] = [trusts(A, A), *(trusts(A, peer) for peer in layers[0])]
    for upper, lower in itertools.pairwise(layers):
        statements += [trusts(one, other) for one in upper for other in lower]
    return statements, layers


def test_bans_that_overlap_cost_no_more_than_the_limit_and_then_there_is_no_weight() -> None:
    statements, layers = layered(6, 8)
    flat = [peer for layer in layers for peer in layer]
    last = layers[-1][0]
    statements += [bans(one, last) for one in layers[0]]
    statements += [bans(layers[n][k], layers[n + 3][k]) for n in range(1, 4) for k in range(6)]
    small: dict[str, Any] = {"limits": EvaluationLimits(steps=50)}
    assert evaluate(statements, roots(a=10), NOW).weight(flat[0]) == 512
    assert evaluate(statements, roots(a=10), NOW).weight(last) == 0
    limited = evaluate(statements, roots(a=10), NOW, **small)
    assert limited.weight(last) == 0
    assert limited.gave_up(last)


def test_too_many_chains_are_not_listed() -> None:
    statements, layers = layered(4, 5)
    with pytest.raises(ResourceLimit, match="chains"):
        evaluate(statements, roots(a=10), NOW, limits=EvaluationLimits(chains=100, listing_steps=10_000)).chains(
            layers[-1][0]
        )


def test_a_trust_that_is_renewed_again_and_again_ends_with_the_last_one() -> None:
    evaluation = evaluate(path(A, B), roots(a=3), NOW)
    for n in range(3_000):
        evaluation.put(trusts(A, B, issued_at=2, sequence=n, expires_at=NOW + 5 + n))
    evaluation.advance(NOW + 3_003)
    assert evaluation.graph.now == NOW + 3_003
    evaluation.put(trusts(A, A, issued_at=2, expires_at=NOW + 9_999))
    assert evaluation.weight(B) == 4
    evaluation.advance(NOW + 3_004)
    assert evaluation.weight(B) == 0


def test_strangers_cannot_use_up_the_steps_of_a_peer() -> None:
    statements: list[Statement] = [*path(A, B, C, D), trusts(A, E), trusts(E, F), trusts(F, C), bans(B, C)]
    crowd = [trusts(keys_of(f"stranger {n}").peer_id, D) for n in range(300)]
    evaluation = evaluate([*statements, *crowd], roots(a=6), NOW, limits=EvaluationLimits(steps=20))
    assert evaluation.weight(D) == 4


def test_a_ban_by_the_only_root_closes_all_chains_at_once_however_many_there_are() -> None:
    statements, layers = layered(8, 8)
    banned, below = layers[5][0], keys_of("below").peer_id
    statements += [trusts(banned, below), bans(A, banned), trusts(below, layers[1][0])]
    evaluation = evaluate(statements, roots(a=16), NOW, limits=EvaluationLimits(steps=600))
    assert evaluation.weight(banned) == evaluation.weight(below) == 0
    assert not evaluation.gave_up(banned)
    assert not evaluation.gave_up(below)
    assert evaluation.weight_from(below, layers[1][0]) == 0
