"""Why a peer has its weight, or has none: the chain and the arithmetic, or the first thing that is in the way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

import msgspec
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.evaluation import TrustEvaluation, power
from fluvial_trust_graph.search import Chain
from fluvial_trust_graph.statements import RevocationStatement, TrustStatement

LOOKED_AT_MAX: Final = 2_000
"""How many peers behind the asked one an explanation looks at."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "how much does this peer count, and why?".

    Args:
        peer: who was asked about.
        weight: by the chain below, or by itself as a root.
        chain: the heaviest one; empty if there is none.
        steps: the arithmetic, or the reason; one sentence each.
    """

    peer: PeerId
    weight: int
    chain: Chain
    steps: tuple[str, ...]


def explain(evaluation: TrustEvaluation, via: PeerId, peer: PeerId) -> Explanation:
    """What ``via`` has to do with the weight of ``peer``: the heaviest chain with ``via`` in it, or why there is none."""
    try:
        found = evaluation.best_chain_through(peer, via)
    except ResourceLimit as error:
        return Explanation(peer=peer, weight=0, chain=(), steps=(f"{error.message}: such a peer has no weight",))
    if found is not None:
        return Explanation(
            peer=peer, weight=power(found.exponent), chain=found.peers, steps=_sum(evaluation, found.peers)
        )
    if evaluation.weight(peer) and via != peer:
        reason = f"{peer} has weight {evaluation.weight(peer)}, but no valid chain to it contains {via}"
        steps = (reason, *_obstacles(evaluation, peer, towards=via)) if not evaluation.weight(via) else (reason,)
        return Explanation(peer=peer, weight=0, chain=(), steps=steps)
    return explain_weight(evaluation, peer)


def explain_weight(evaluation: TrustEvaluation, peer: PeerId) -> Explanation:
    """Why a peer has the weight that it has."""
    found, own = evaluation.best_chain(peer), evaluation.roots.get(peer, -1)
    if found is not None and found.exponent >= own and len(found.peers) > 1:
        return Explanation(
            peer=peer, weight=power(found.exponent), chain=found.peers, steps=_sum(evaluation, found.peers)
        )
    if own >= 0:
        return Explanation(peer=peer, weight=power(own), chain=(peer,), steps=_sum(evaluation, (peer,)))
    return Explanation(peer=peer, weight=0, chain=(), steps=_reasons(evaluation, peer))


def _sum(evaluation: TrustEvaluation, chain: Chain) -> tuple[str, ...]:
    exponent = evaluation.roots[chain[0]]
    steps = [f"{chain[0]} is a root of exponent {exponent}: 2^{exponent} = {power(exponent)}"]
    for issuer, subject in itertools.pairwise(chain):
        exponent -= 1
        steps.append(f"{issuer} trusts {subject}: half of it, {power(exponent)}")
    return tuple(steps)


def _reasons(evaluation: TrustEvaluation, peer: PeerId) -> tuple[str, ...]:
    if not evaluation.roots:
        return ("no roots are set, so nobody has weight",)
    if evaluation.gave_up(peer):
        return (f"the bans around {peer} take more search than the limit allows: such a peer has no weight",)
    if peer in evaluation.levels.top:
        chain = evaluation.levels.chain(peer)
        return tuple(_bans(evaluation, chain))
    return _obstacles(evaluation, peer) or (f"nobody has ever stated trust in {peer}",)


def _bans(evaluation: TrustEvaluation, chain: Chain) -> Iterable[str]:
    yield f"without bans, the heaviest chain would be {' → '.join(chain)}"
    for at, subject in enumerate(chain):
        for issuer in chain[:at]:
            if evaluation.graph.bans(issuer, (subject,)):
                yield f"{issuer} bans {subject}, which comes later in it"
    yield "no other chain is open"


def _obstacles(evaluation: TrustEvaluation, peer: PeerId, *, towards: PeerId | None = None) -> tuple[str, ...]:
    """Go back from a peer, over links that hold and links that do not, to the nearest ones with something in the way."""
    graph, seen, edge = evaluation.graph, {peer}, [peer]
    while edge and len(seen) <= LOOKED_AT_MAX:
        steps, further = [], []
        for subject in edge:
            for issuer in sorted(graph.newest.get(subject, {})):
                obstacle = _obstacle(evaluation, issuer, subject)
                if obstacle is not None:
                    steps.append(obstacle)
                if issuer not in seen:
                    seen.add(issuer)
                    further.append(issuer)
        if steps:
            return tuple(steps[:10])
        edge = further
    if towards is None and len(seen) > 1:
        return (f"no root is among the peers from which trust leads to {peer}",)
    return ()


def _obstacle(evaluation: TrustEvaluation, issuer: PeerId, subject: PeerId) -> str | None:
    """Why no weight passes from one peer to another about whom it made a statement; None if the reason lies farther back."""
    graph = evaluation.graph
    statement = graph.newest[subject][issuer]
    if isinstance(statement, RevocationStatement):
        return (
            f"{issuer} revoked its trust in {subject}" if issuer != subject else f"{issuer} revoked its trust in itself"
        )
    return _weakness(evaluation, statement)


def _weakness(evaluation: TrustEvaluation, trust: TrustStatement) -> str | None:
    graph, issuer, subject = evaluation.graph, trust.issuer, trust.subject
    if trust.expires_at <= graph.now:
        return f"the trust of {issuer} in {subject} expired at {trust.expires_at}; it is {graph.now}"
    if not graph.holds(trust):
        return f"{issuer} trusts {subject} for {', '.join(trust.scopes)}, not for {graph.scope or 'everything'}"
    if issuer == subject:
        return None
    if issuer in evaluation.roots and issuer not in graph.anchored:
        return f"{issuer} is a root, but has no live trust in itself, so no chain starts with it"
    if issuer not in evaluation.levels.top:
        return None
    if not evaluation.weight(issuer):
        return f"{issuer}, who trusts {subject}, is reached only by chains that a ban closes"
    if evaluation.levels.top[issuer] == 0:
        return f"{issuer}, who trusts {subject}, is the last that a chain of its root may reach: {subject} is too deep"
    return f"{issuer} has weight, but may not pass trust on as far as {subject}"
