"""Weights of the laboratory: what roots, trusts and revocations of named peers come to at a moment.

A node takes weights from its authorization through the port ``trust``. This is a small evaluation for scenarios that depends on no other plugin: it
goes through the chains, the heaviest first, so it is for some hundred statements.

Source: the rules of weights in ``docs/trust.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from fluvial.errors import ResourceLimit

from fluvial_dht_kademlia.lab.scenario import RevocationSpec, TrustSpec

EXPONENT_MAX: Final = 16
CHAINS_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class TrustTable:
    """The newest statements at a moment.

    Attributes:
        trusted: issuer to those whom it trusts now.
        banned: issuer to those whom it bans.
    """

    trusted: Mapping[str, frozenset[str]]
    banned: Mapping[str, frozenset[str]]


def weights_at(
    now: int, *, roots: Iterable[tuple[str, int]], trusts: Iterable[TrustSpec], revocations: Iterable[RevocationSpec]
) -> dict[str, int]:
    """The weight of everybody who has one at a moment.

    Args:
        now: in seconds; statements of later times do not count yet.
        roots: peers and exponents.
        trusts: statements.
        revocations: statements, too.

    Raises:
        ResourceLimit: there are too many chains.
    """
    table = _newest(now, trusts, revocations)
    weights: dict[str, int] = {}
    heap: list[tuple[int, tuple[str, ...]]] = []
    for root, exponent in roots:
        exponent = min(exponent, EXPONENT_MAX)
        weights[root] = max(weights.get(root, 0), 1 << exponent)
        if root in table.trusted.get(root, ()):
            heappush(heap, (-(1 << exponent), (root,)))
    for _ in range(CHAINS_MAX):
        if not heap:
            return weights
        weight, chain = heappop(heap)
        if -weight < 2:
            continue
        for subject in table.trusted.get(chain[-1], ()):
            if subject in chain or any(subject in table.banned.get(one, ()) for one in chain):
                continue
            weights[subject] = max(weights.get(subject, 0), -weight // 2)
            heappush(heap, (-(-weight // 2), (*chain, subject)))
    raise ResourceLimit(f"there are more than {CHAINS_MAX} chains of trust in the scenario")


def _newest(now: int, trusts: Iterable[TrustSpec], revocations: Iterable[RevocationSpec]) -> TrustTable:
    """Of the statements of one issuer about one subject the newest counts; of the same second a revocation, else what expires earlier."""
    newest: dict[tuple[str, str], tuple[int, bool, int]] = {}
    for trust in trusts:
        if trust.issued_at <= now and trust.signed_by in (None, trust.issuer):
            pair, said = (trust.issuer, trust.issued_for), (trust.issued_at, False, -trust.expires_at)
            newest[pair] = max(newest.get(pair, said), said)
    for one in revocations:
        if one.revoked_at <= now and one.signed_by in (None, one.revoked_by):
            pair, said = (one.revoked_by, one.revoked), (one.revoked_at, True, 0)
            newest[pair] = max(newest.get(pair, said), said)
    trusted: dict[str, set[str]] = {}
    banned: dict[str, set[str]] = {}
    for (issuer, subject), (_, revoked, expires) in newest.items():
        if revoked:
            banned.setdefault(issuer, set()).add(subject)
        elif now < -expires:
            trusted.setdefault(issuer, set()).add(subject)
    return TrustTable(
        {issuer: frozenset(subjects) for issuer, subjects in trusted.items()},
        {issuer: frozenset(subjects) for issuer, subjects in banned.items()},
    )
