"""Why a peer counts as it does: the arithmetic, or the reason for zero."""

from __future__ import annotations

import pytest
from fluvial.identity import PeerId
from fluvial_trust_graph.evaluation import EvaluationLimits, evaluate
from fluvial_trust_graph.explaining import explain, explain_weight
from fluvial_trust_graph.graph import TrustRoot
from fluvial_trust_graph.statements import Statement
from hypothesis import given

from tests.plugins.trust_graph.worlds import (
    NOW,
    PEERS,
    bans,
    keys_of,
    path,
    roots,
    some_roots,
    statement_lists,
    trusts,
)

NAMES = {keys_of(name).peer_id: name for name in "abcdefg"}
A, B, C, D, E, F, G = NAMES


def why(statements: list[Statement], peer: PeerId, *, root: int | None = 3, scope: str | None = None) -> str:
    given_roots = [] if root is None else roots(a=root)
    answer = explain_weight(evaluate(statements, given_roots, NOW, scope=scope), peer)
    text = "; ".join(answer.steps)
    for one, name in NAMES.items():
        text = text.replace(one, name)
    return f"{answer.weight}: {text}"


def test_the_arithmetic() -> None:
    assert why([*path(A, B, C)], C) == (
        "2: a is a root of exponent 3: 2^3 = 8; a trusts b: half of it, 4; b trusts c: half of it, 2"
    )
    assert why([], A) == "8: a is a root of exponent 3: 2^3 = 8"


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (path(A, B), "nobody has ever stated trust in d"),
        ([*path(A, B), trusts(B, D, expires_at=NOW)], "the trust of b in d expired at 10; it is 10"),
        ([*path(A, B), trusts(B, C, expires_at=5), trusts(C, D)], "the trust of b in c expired at 5; it is 10"),
        ([*path(A, B, D), bans(B, D)], "b revoked its trust in d"),
        ([trusts(A, B), trusts(B, D)], "a is a root, but has no live trust in itself, so no chain starts with it"),
        ([*path(A, B, C, E, D)], "e, who trusts d, is the last that a chain of its root may reach: d is too deep"),
        ([*path(A, B, depth=0), trusts(B, D)], "b has weight, but may not pass trust on as far as d"),
        ([trusts(E, E), trusts(E, D)], "no root is among the peers from which trust leads to d"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_the_reason_for_zero(statements: list[Statement], reason: str) -> None:
    assert why(statements, D) == f"0: {reason}"


def test_a_ban_from_further_up_is_named() -> None:
    text = why([*path(A, B, C, D), bans(A, C), trusts(E, C)], D)
    assert text.startswith("0: without bans, the heaviest chain would be a → b → c → d; a bans c")


def test_a_scope_that_a_trust_does_not_cover_is_named() -> None:
    assert why([*path(A, B), trusts(B, D, scopes=("dht",))], D, scope="service:chat") == (
        "0: b trusts d for dht, not for service:chat"
    )


def test_no_roots_no_weight() -> None:
    assert why(path(A, B), B, root=None) == "0: no roots are set, so nobody has weight"


def test_a_search_that_met_its_limit_is_named() -> None:
    statements = [*path(A, B, C, D), *path(A, E, C), *path(A, F, C), bans(A, D), bans(B, D), bans(E, D), bans(F, C)]
    evaluation = evaluate(statements, roots(a=4), NOW, limits=EvaluationLimits(steps=0))
    assert "limit" in explain_weight(evaluation, D).steps[0]


def test_the_chain_through_one_peer() -> None:
    statements = [*path(A, B, D), trusts(A, C), trusts(C, E), trusts(E, D)]
    evaluation = evaluate(statements, roots(a=5), NOW)
    assert explain(evaluation, C, D).chain == (A, C, E, D)
    assert explain(evaluation, C, D).weight == 4
    assert explain(evaluation, D, D).chain == (A, B, D)
    through_nobody = explain(evaluation, G, D)
    assert (through_nobody.weight, through_nobody.chain) == (0, ())
    assert f"no valid chain to it contains {G}" in through_nobody.steps[0]


@given(statements=statement_lists, trusted=some_roots)
def test_an_explanation_agrees_with_the_weight_and_is_never_empty(
    statements: list[Statement], trusted: list[TrustRoot]
) -> None:
    evaluation = evaluate(statements, trusted, NOW)
    for peer in PEERS:
        answer = explain_weight(evaluation, peer)
        assert answer.weight == evaluation.weight(peer)
        assert answer.steps
        assert bool(answer.chain) == bool(answer.weight)
        for via in PEERS[:3]:
            through = explain(evaluation, via, peer)
            assert through.steps
            if through.chain and len(through.chain) > 1:
                assert through.weight == evaluation.weight_from(peer, via)
