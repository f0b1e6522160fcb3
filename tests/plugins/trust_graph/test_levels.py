"""Levels that are kept up are those that a pass over all links gives, chains included, in worlds too large for trying everything."""

from __future__ import annotations

import random

from fluvial_trust_graph.graph import TrustGraph
from fluvial_trust_graph.levels import ReachLevels
from fluvial_trust_graph.statements import Statement
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.trust_graph.worlds import bans, keys_of, trusts

MANY = tuple(keys_of(f"peer {number}").peer_id for number in range(90))
DEPTHS = ((255,), (0, 1, 2, 3, 255), (0, 1, 2, 3, 4, 5))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from((4, 9, 20, 40, 90)), depths=st.sampled_from(DEPTHS))
def test_levels_that_are_kept_up_are_those_of_a_fresh_pass(seed: int, size: int, depths: tuple[int, ...]) -> None:
    rng = random.Random(seed)
    peers, at = MANY[:size], 0
    roots = {peer: rng.choice((0, 1, 3, 5, 16)) for peer in rng.sample(peers, 3)}
    graph = TrustGraph(10**6)

    def change() -> Statement:
        nonlocal at
        at += 1
        issuer, subject = rng.choice(peers), rng.choice((*peers, *roots))
        if rng.random() < 0.25:
            issuer = subject
        made: Statement = bans(issuer, subject, issued_at=at)
        if rng.random() < 0.7:
            made = trusts(issuer, subject, issued_at=at, expires_at=10**7, depth=rng.choice(depths))
        graph.put(made)
        return made

    for _ in range(3 * size):
        change()
    for root in roots:
        graph.put(trusts(root, root, issued_at=at, expires_at=10**7, depth=rng.choice(depths)))
    levels = ReachLevels(graph, roots)
    for _ in range(20):
        levels.update([change().subject for _ in range(rng.choice((1, 1, 1, 5)))])
        fresh = ReachLevels(graph, roots)
        assert dict(levels.top) == dict(fresh.top)
        assert len(levels.top) == len(dict(fresh.top))
        for peer, exponent in fresh.top.items():
            chain = levels.chain(peer)
            assert chain == fresh.chain(peer)
            assert len(set(chain)) == len(chain)
            assert roots[chain[0]] - len(chain) + 1 == exponent
