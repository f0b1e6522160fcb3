"""What a set of statements means at one moment: the weights of all peers, their chains, and the weight through one peer.

:func:`evaluate` is a pure function of a set: the order of the statements, and how often each one comes, changes nothing. :class:`TrustEvaluation`
can then be kept up with further statements and with time, and gives at each moment what :func:`evaluate` would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph, TrustRoot
from fluvial_trust_graph.levels import ReachLevels
from fluvial_trust_graph.search import STEPS_MAX, FoundChain, chains_to, heaviest_chain, heaviest_through
from fluvial_trust_graph.statements import Statement

CHAINS_MAX: Final = 1_000
"""How many chains to one peer are listed."""
STEPS_IN_ALL_MAX: Final = 1_000_000
"""How many steps the weights of all peers may cost together: about a second."""


@dataclass(frozen=True, slots=True)
class EvaluationLimits:
    """What one evaluation may cost; beyond, peers have no weight.

    Args:
        steps: of the search for one peer.
        steps_in_all: of the searches for all peers together.
        chains: listed for one peer.
        listing_steps: of the search for that list.
    """

    steps: int = STEPS_MAX
    steps_in_all: int = STEPS_IN_ALL_MAX
    chains: int = CHAINS_MAX
    listing_steps: int = STEPS_MAX


def evaluate(
    statements: Iterable[Statement],
    roots: Iterable[TrustRoot],
    now: int,
    *,
    scope: str | None = None,
    limits: EvaluationLimits | None = None,
) -> TrustEvaluation:
    """What authentic statements mean at a moment.

    Args:
        statements: of one network, their signatures verified; those dated later than ``now`` are left out.
        roots: whom the owner of the node trusts; of two about one peer the last one counts.
        now: whole seconds of Unix time.
        scope: count only trusts that are good for it: a scope, empty for trusts for everything only, None for any trust. A chain is then good
            for no more than each of its links, so scopes only shrink along it.
        limits: what the evaluation may cost.
    """
    graph = TrustGraph(now, scope)
    graph.fill(one for one in statements if one.issued_at <= now)
    return TrustEvaluation(graph, roots, limits)


class TrustEvaluation:
    """Answers about one graph and one set of roots.

    Args:
        graph: the links; the evaluation changes it from now on.
        roots: whom the owner trusts.
        limits: what answers may cost.
    """

    def __init__(self, graph: TrustGraph, roots: Iterable[TrustRoot], limits: EvaluationLimits | None = None) -> None:
        self.graph: Final = graph
        self.roots: Final[Mapping[PeerId, int]] = {root.peer: min(root.exponent, EXPONENT_MAX) for root in roots}
        self.levels: Final = ReachLevels(graph, self.roots)
        self._limits = limits or EvaluationLimits()
        self._open: dict[tuple[PeerId, int], bool] = {}
        self._found: dict[PeerId, tuple[FoundChain | None, int]] = {}

    def put(self, statement: Statement) -> bool:
        """Take a further authentic statement; whether it is the newest one of its issuer about its subject.

        Raises:
            ValueError: it is dated in the future, and would not count yet.
        """
        if statement.issued_at > self.graph.now:
            raise ValueError(f"a statement of second {statement.issued_at} comes at {self.graph.now}")
        newest = self.graph.put(statement)
        if newest:
            self.changed([statement.subject])
        return newest

    def advance(self, now: int) -> None:
        """Let time pass; trusts that have ended count no more."""
        ended = self.graph.advance(now)
        if ended:
            self.changed([subject for _, subject in ended])

    def changed(self, subjects: Sequence[PeerId]) -> None:
        """Put right what follows from changes that somebody else made to the graph: the links to these peers, or their trusts in themselves."""
        self.levels.update(subjects)
        self._open.clear()
        self._found.clear()

    def weight(self, peer: PeerId) -> int:
        """How much a peer counts: ``2**exponent`` of its own root or of its heaviest chain, whichever is more; 0 if it has neither."""
        own, top = self.roots.get(peer, -1), self.levels.top.get(peer, -1)
        if top > own and not self._is_open(peer):
            found = self._searched(peer)[0]
            top = found.exponent if found else -1
        return power(max(own, top))

    def price(self, peer: PeerId) -> int:
        """How many steps asking for the weight of a peer may cost now: none, unless a ban closes its heaviest chain and nobody has asked since the last change."""
        known = self.levels.top.get(peer, -1) <= self.roots.get(peer, -1) or peer in self._found or self._is_open(peer)
        return 0 if known else self._limits.steps

    def cost(self, peer: PeerId) -> int:
        """How many steps the search for the weight of a peer has cost; 0 if none was needed."""
        return self._found[peer][1] if peer in self._found else 0

    def weights(self) -> dict[PeerId, int]:
        """The weights of all peers that have some."""
        left = self._limits.steps_in_all
        weights = {}
        for peer in sorted({*self.levels.top, *self.roots}):
            exponent = self.roots.get(peer, -1)
            if self._is_open(peer):
                exponent = max(exponent, self.levels.top.get(peer, -1))
            elif left > 0:
                found, cost = self._searched(peer)
                exponent = max(exponent, found.exponent if found else -1)
                left -= cost
            if exponent >= 0:
                weights[peer] = 1 << exponent
        return weights

    def best_chain(self, peer: PeerId) -> FoundChain | None:
        """The heaviest chain to a peer; None if there is none, or if the search for it met its limit. A root that signed itself is a chain."""
        if peer not in self.levels.top:
            return None
        if self._is_open(peer):
            return FoundChain(self.levels.top[peer], self.levels.chain(peer))
        return self._searched(peer)[0]

    def gave_up(self, peer: PeerId) -> bool:
        """Whether the search for the weight of a peer met its limit, so that its chains do not count."""
        return peer in self.levels.top and not self._is_open(peer) and self._searched(peer)[1] > self._limits.steps

    def weight_from(self, peer: PeerId, via: PeerId) -> int:
        """The weight of a peer by those chains alone that contain another peer, wherever; what the peer is as a root does not count."""
        try:
            found = self.best_chain_through(peer, via)
        except ResourceLimit:
            return 0
        return power(found.exponent if found else -1)

    def best_chain_through(self, peer: PeerId, via: PeerId) -> FoundChain | None:
        """The heaviest chain to a peer that contains another peer; None if there is none.

        Raises:
            ResourceLimit: the search met its limit; such chains do not count.
        """
        return heaviest_through(self.levels, self.graph, self.roots, peer, via, steps_max=self._limits.steps)

    def chains(self, peer: PeerId) -> tuple[FoundChain, ...]:
        """All chains to a peer, the heaviest first.

        Raises:
            ResourceLimit: there are too many to list.
        """
        found: list[FoundChain] = []
        for chain in chains_to(self.levels, self.graph, self.roots, peer, steps_max=self._limits.listing_steps):
            found.append(chain)
            if len(found) > self._limits.chains:
                raise ResourceLimit(f"there are more than {self._limits.chains:,} chains to {peer}")
        return tuple(found)

    def _searched(self, peer: PeerId) -> tuple[FoundChain | None, int]:
        """The result of the exact search, and what it cost: one more than the limit if it gave up."""
        if peer not in self._found:
            try:
                self._found[peer] = heaviest_chain(
                    self.levels, self.graph, self.roots, peer, steps_max=self._limits.steps
                )
            except ResourceLimit:
                self._found[peer] = (None, self._limits.steps + 1)
        return self._found[peer]

    def _is_open(self, peer: PeerId) -> bool:
        """Whether no ban is in the way of the chain that the levels give a peer, so that this chain is the heaviest one."""
        exponent = self.levels.top.get(peer)
        return not self.graph.banners or exponent is None or self._is_clear(peer, exponent)

    def _is_clear(self, peer: PeerId, exponent: int) -> bool:
        known = self._open.get((peer, exponent))
        if known is None:
            parent = self.levels.parent(peer, exponent)
            known = parent is None or (
                self._is_clear(parent, exponent + 1)
                and self.graph.banners.get(peer, frozenset()).isdisjoint(self.levels.chain_at(parent, exponent + 1))
            )
            self._open[peer, exponent] = known
        return known


def power(exponent: int) -> int:
    """The weight of an exponent; 0 for a negative one, which stands for no chain."""
    return 1 << exponent if exponent >= 0 else 0
