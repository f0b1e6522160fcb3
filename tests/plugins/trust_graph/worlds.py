"""Small worlds of peers who trust and ban each other, and what they mean by trying everything."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from fluvial.identity import KeyPair, PeerId
from fluvial_trust_graph.graph import TrustRoot
from fluvial_trust_graph.statements import RevocationStatement, Statement, TrustStatement
from hypothesis import strategies as st

NETWORK = "test"
NOW = 10


def keys_of(name: str) -> KeyPair:
    return KeyPair.from_secret(hashlib.sha256(name.encode()).digest())


PEERS = tuple(sorted(keys_of(name).peer_id for name in "abcdefg"))


def trusts(issuer: PeerId, subject: PeerId, **fields: Any) -> TrustStatement:
    given = {"issued_at": 1, "expires_at": 100, **fields}
    return TrustStatement(network=NETWORK, issuer=issuer, subject=subject, **given)


def bans(issuer: PeerId, subject: PeerId, **fields: Any) -> RevocationStatement:
    return RevocationStatement(network=NETWORK, issuer=issuer, subject=subject, **{"issued_at": 2, **fields})


def path(*peers: PeerId, **fields: Any) -> list[TrustStatement]:
    """A root that signed itself, and a chain from it."""
    return [
        trusts(peers[0], peers[0]),
        *(trusts(one, other, **fields) for one, other in itertools.pairwise(peers)),
    ]


def roots(**exponents: int) -> list[TrustRoot]:
    return [TrustRoot(peer=keys_of(name).peer_id, exponent=exponent) for name, exponent in exponents.items()]


peers = st.sampled_from(PEERS)
some_roots = st.dictionaries(peers, st.integers(0, 6), min_size=1, max_size=3).map(
    lambda found: [TrustRoot(peer=peer, exponent=exponent) for peer, exponent in found.items()]
)
trust_statements = st.builds(
    trusts,
    peers,
    peers,
    issued_at=st.integers(1, NOW + 1),
    sequence=st.integers(0, 1),
    expires_at=st.integers(NOW - 1, NOW + 3),
    depth=st.sampled_from((0, 1, 2, 255, 255, 255)),
    scopes=st.sampled_from(((), (), ("dht",), ("dht", "service"), ("service:chat",))),
)
ban_statements = st.builds(bans, peers, peers, issued_at=st.integers(1, NOW + 1), sequence=st.integers(0, 1))
anchoring = st.builds(lambda peer: trusts(peer, peer), peers)
statement_lists = st.lists(trust_statements | trust_statements | anchoring | ban_statements, max_size=40)


class ByTryingEverything:
    """The rules read literally: every simple path, one after the other."""

    def __init__(
        self, statements: Iterable[Statement], roots: Iterable[TrustRoot], now: int, scope: str | None = None
    ) -> None:
        newest: dict[tuple[PeerId, PeerId], Statement] = {}
        for one in statements:
            known = newest.get((one.issuer, one.subject))
            if one.issued_at <= now and (known is None or _rank(one) > _rank(known)):
                newest[one.issuer, one.subject] = one
        self.links: Mapping[tuple[PeerId, PeerId], TrustStatement] = {
            pair: one
            for pair, one in newest.items()
            if isinstance(one, TrustStatement) and now < one.expires_at and (scope is None or one.covers(scope))
        }
        self.banned: Collection[tuple[PeerId, PeerId]] = {
            pair for pair, one in newest.items() if isinstance(one, RevocationStatement)
        }
        self.roots = {root.peer: min(root.exponent, 16) for root in roots}

    def chains(self) -> Iterator[tuple[int, tuple[PeerId, ...]]]:
        for root, exponent in self.roots.items():
            if (root, root) in self.links:
                yield from self._extend((root,), exponent, self.links[root, root].depth)

    def _extend(self, chain: tuple[PeerId, ...], exponent: int, left: int) -> Iterator[tuple[int, tuple[PeerId, ...]]]:
        for subject in PEERS if exponent and left else ():
            link = self.links.get((chain[-1], subject))
            if link is not None and subject not in chain and not any((one, subject) in self.banned for one in chain):
                longer = (*chain, subject)
                yield exponent - 1, longer
                yield from self._extend(longer, exponent - 1, min(left - 1, link.depth))

    def weight(self, peer: PeerId) -> int:
        exponents = [exponent for exponent, chain in self.chains() if chain[-1] == peer]
        return _power([*exponents, *([self.roots[peer]] if peer in self.roots else [])])

    def weight_from(self, peer: PeerId, via: PeerId) -> int:
        return _power([exponent for exponent, chain in self.chains() if chain[-1] == peer and via in chain])


def _power(exponents: Sequence[int]) -> int:
    return 2 ** max(exponents) if exponents else 0


def _rank(one: Statement) -> tuple[object, ...]:
    """Later, then of higher sequence, then a ban, then the trust that ends earlier, then the greater bytes."""
    if isinstance(one, TrustStatement):
        scopes = [(len(scope), scope) for scope in one.scopes]
        return one.issued_at, one.sequence, 0, -one.expires_at, one.depth, scopes
    return one.issued_at, one.sequence, 1
