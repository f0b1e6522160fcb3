"""What questions about trust take of a processor: all weights, one changed link, an explanation, and a graph with very many chains.

Usage: ``python bench/trust.py [--json] [--peers N] [--trusts N] [--bans N]``

The trusts are between random peers, most of them issued by peers that were there early, with three roots of exponent 12. Their signatures are not
looked at here: verifying one takes about as long as everywhere else. Times are processor time. ``all weights`` starts with the statements and ends with a dictionary.
``one changed link`` revokes a trust or issues it again, and asks for the weight of its subject; the bans that revoking makes are taken back by the
next trust. ``explain`` asks about random peers, with and without weight. The exponential graph has 7 peers in each of 6 layers; every peer
trusts all of the next layer, so there are 16,807 chains to each of the last; with bans, the first peer of a layer bans one three layers on.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass

from fluvial.identity import PeerId
from fluvial_trust_graph.evaluation import TrustEvaluation, evaluate
from fluvial_trust_graph.explaining import explain_weight
from fluvial_trust_graph.graph import TrustRoot
from fluvial_trust_graph.statements import RevocationStatement, Statement, TrustStatement

NOW = 1_000
REPEATED = 200
EXPONENT = 12


@dataclass(frozen=True, slots=True)
class TrustFigure:
    """One line of the table."""

    what: str
    median_ms: float
    worst_ms: float


def peer(number: int) -> PeerId:
    return PeerId.from_public_key(hashlib.sha256(str(number).encode()).digest())


def trust(issuer: PeerId, subject: PeerId, *, at: int = 1) -> TrustStatement:
    return TrustStatement(network="bench", issuer=issuer, subject=subject, issued_at=at, expires_at=10**9)


def ban(issuer: PeerId, subject: PeerId, *, at: int = 2) -> RevocationStatement:
    return RevocationStatement(network="bench", issuer=issuer, subject=subject, issued_at=at)


def timed(what: str, action: Callable[[int], object], times: int) -> TrustFigure:
    taken = []
    for n in range(times):
        began = time.thread_time()
        action(n)
        taken.append((time.thread_time() - began) * 1000)
    return TrustFigure(what, round(statistics.median(taken), 3), round(max(taken), 3))


def random_world(rng: random.Random, peers: int, trusts: int) -> tuple[list[TrustStatement], list[TrustRoot]]:
    ids = [peer(n) for n in range(peers)]
    pairs = {(n, n) for n in range(3)}
    while len(pairs) < trusts:
        issuer, subject = rng.randrange(peers), rng.randrange(peers)
        if issuer != subject and issuer < subject + peers // 10:
            pairs.add((issuer, subject))
    statements = [trust(ids[issuer], ids[subject]) for issuer, subject in sorted(pairs)]
    return statements, [TrustRoot(peer=ids[n], exponent=EXPONENT) for n in range(3)]


def layered(*, with_bans: bool) -> tuple[list[Statement], list[list[PeerId]]]:
    root = peer(0)
    layers = [[peer(100 * level + n + 1) for n in range(7)] for level in range(6)]
    statements: list[Statement] = [trust(root, root), *(trust(root, one) for one in layers[0])]
    for upper, lower in itertools.pairwise(layers):
        statements += [trust(one, other) for one in upper for other in lower]
    if with_bans:
        statements += [ban(layers[level][0], layers[level + 3][1]) for level in range(3)]
        statements += [ban(one, layers[5][0]) for one in layers[0]]
    return statements, layers


def random_figures(rng: random.Random, peers: int, trusts: int, bans: int) -> list[TrustFigure]:
    statements, roots = random_world(rng, peers, trusts)
    banning = [ban(one.issuer, other.subject) for one, other in zip(*(rng.sample(statements, bans),) * 2, strict=True)]
    strangers = [ban(rng.choice(statements).issuer, rng.choice(statements).subject) for _ in range(bans)]
    figures = [timed(f"all weights, {trusts:,} trusts", lambda _: evaluate(statements, roots, NOW).weights(), 3)]
    with_bans = [*statements, *banning, *strangers]
    by_decree = {root.peer for root in roots}
    figures.append(timed(f"all weights, {2 * bans} bans, too", lambda _: evaluate(with_bans, roots, NOW).weights(), 3))
    changed = rng.sample([one for one in statements if one.issuer != one.subject], REPEATED)
    for name, evaluation in (("", evaluate(statements, roots, NOW)), (", bans", evaluate(with_bans, roots, NOW))):
        figures.append(timed(f"one changed link{name}", changing(evaluation, changed), 2 * REPEATED))
        near = [one for one in statements if one.issuer in by_decree and one.issuer != one.subject]
        figures.append(timed(f"a changed link of a root{name}", changing(evaluation, near), 2 * len(near)))
        asked = [peer(rng.randrange(peers + peers // 100)) for _ in range(REPEATED)]
        figures.append(timed(f"explain{name}", explaining(evaluation, asked), REPEATED))
    return figures


def changing(evaluation: TrustEvaluation, changed: list[TrustStatement]) -> Callable[[int], object]:
    def change(n: int) -> object:
        one = changed[n // 2]
        evaluation.put(trust(one.issuer, one.subject, at=4) if n % 2 else ban(one.issuer, one.subject, at=3))
        return evaluation.weight(one.subject)

    return change


def explaining(evaluation: TrustEvaluation, asked: list[PeerId]) -> Callable[[int], object]:
    return lambda n: explain_weight(evaluation, asked[n])


def layered_figures(*, with_bans: bool) -> list[TrustFigure]:
    statements, layers = layered(with_bans=with_bans)
    roots = [TrustRoot(peer=peer(0), exponent=EXPONENT)]
    name = "exponential graph" + (", bans" if with_bans else "")
    evaluation = evaluate(statements, roots, NOW)
    last, first, bridge = layers[-1][0], layers[0][0], layers[3][1]
    return [
        timed(f"{name}: all weights", lambda _: evaluate(statements, roots, NOW).weights(), 20),
        timed(f"{name}: by way of a first one", lambda _: evaluation.weight_from(last, first), 20),
        timed(f"{name}: by way of a banned one", lambda _: evaluation.weight_from(last, bridge), 20),
    ]


def memory_mb(rng: random.Random, peers: int, trusts: int) -> float:
    statements, roots = random_world(rng, peers, trusts)
    tracemalloc.start()
    evaluation = evaluate(statements, roots, NOW)
    weights = evaluation.weights()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert weights
    return round(used / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", type=int, default=20_000)
    parser.add_argument("--trusts", type=int, default=100_000)
    parser.add_argument("--bans", type=int, default=100)
    given = parser.parse_args()
    figures = random_figures(random.Random(1), given.peers, given.trusts, given.bans)
    figures += [*layered_figures(with_bans=False), *layered_figures(with_bans=True)]
    memory = memory_mb(random.Random(1), given.peers, given.trusts)
    if given.json:
        print(json.dumps({"figures": [asdict(one) for one in figures], "memory_mb": memory}))
        return
    print(f"{'':44}{'median ms':>12}{'worst ms':>12}")
    for one in figures:
        print(f"{one.what:44}{one.median_ms:12.3f}{one.worst_ms:12.3f}")
    print(f"memory of the evaluation, statements aside: {memory} MB")


if __name__ == "__main__":
    main()
