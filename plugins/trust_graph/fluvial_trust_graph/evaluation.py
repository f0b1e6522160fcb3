"""What a set of statements means at one moment: the weights of all peers, their chains, and the weight through one peer.

:func:`evaluate` is a pure function of a set: the order of the statements, and how often each one comes, changes nothing. :class:`TrustEvaluation`
can then be kept up with further statements and with time, and gives at each moment what :func:`evaluate` would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph, TrustRoot, anchors
from fluvial_trust_graph.levels import ReachLevels
from fluvial_trust_graph.search import STEPS_MAX, FoundChain, chains_to, heaviest_chain, heaviest_through
from fluvial_trust_graph.statements import Statement

CHAINS_MAX: Final = 1_000
"""How many chains to one peer are listed."""
STEPS_IN_ALL_MAX: Final = 1_000_000
"""How many steps the weights of all peers may cost together: about a second."""


QUICK_STEPS: Final = 500
"""How many steps a search may take before levels are made for it alone, which costs as much as some thousand steps of a large graph."""
NARROWED_MAX: Final = 16
"""How many of those are kept until something changes."""


class _Found(msgspec.Struct, frozen=True):
    """The result of a search.

    Args:
        chain: the heaviest one, if any.
        steps: what it cost.
        gave_up: it took too many of them.
    """

    chain: FoundChain | None
    steps: int
    gave_up: bool = False


class EvaluationLimits(msgspec.Struct, frozen=True):
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
        self._found: dict[PeerId, _Found] = {}
        self._narrowed: dict[frozenset[PeerId], ReachLevels] = {}

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
        self._narrowed.clear()

    def weight(self, peer: PeerId) -> int:
        """How much a peer counts: ``2**exponent`` of its own root or of its heaviest chain, whichever is more; 0 if it has neither."""
        own, top = self.roots.get(peer, -1), self.levels.top.get(peer, -1)
        if top > own and not self._is_open(peer):
            found = self._searched(peer).chain
            top = found.exponent if found else -1
        return power(max(own, top))

    def price(self, peer: PeerId) -> int:
        """How many steps asking for the weight of a peer may cost now: none, unless a ban closes its heaviest chain and nobody has asked since the last change."""
        known = self.levels.top.get(peer, -1) <= self.roots.get(peer, -1) or peer in self._found or self._is_open(peer)
        return 0 if known else self._limits.steps

    def cost(self, peer: PeerId) -> int:
        """How many steps the search for the weight of a peer has cost; 0 if none was needed."""
        return self._found[peer].steps if peer in self._found else 0

    def weights(self) -> dict[PeerId, int]:
        """The weights of all peers that have some."""
        left = self._limits.steps_in_all
        weights = {}
        tops = {**self.levels.top}
        for peer in sorted({*tops, *self.roots}):
            exponent = self.roots.get(peer, -1)
            if self._is_open(peer):
                exponent = max(exponent, tops.get(peer, -1))
            elif left > 0:
                found = self._searched(peer)
                exponent = max(exponent, found.chain.exponent if found.chain else -1)
                left -= found.steps
            if exponent >= 0:
                weights[peer] = 1 << exponent
        return weights

    def best_chain(self, peer: PeerId) -> FoundChain | None:
        """The heaviest chain to a peer; None if there is none, or if the search for it met its limit. A root that signed itself is a chain."""
        if peer not in self.levels.top:
            return None
        if self._is_open(peer):
            return FoundChain(self.levels.top[peer], self.levels.chain(peer))
        return self._searched(peer).chain

    def gave_up(self, peer: PeerId) -> bool:
        """Whether the search for the weight of a peer met its limit, so that its chains do not count."""
        return peer in self.levels.top and not self._is_open(peer) and self._searched(peer).gave_up

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
        through, _ = self._with_bounds(
            peer,
            lambda bounds, steps: (
                heaviest_through(bounds, self.graph, self.roots, peer, via, steps_max=steps),
                0,
            ),
        )
        return through

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

    def _searched(self, peer: PeerId) -> _Found:
        """The result of the exact search, and what it cost."""
        if peer not in self._found:
            try:
                chain, steps = self._with_bounds(
                    peer,
                    lambda bounds, most: heaviest_chain(bounds, self.graph, self.roots, peer, steps_max=most),
                )
                self._found[peer] = _Found(chain, steps)
            except ResourceLimit:
                self._found[peer] = _Found(None, self._limits.steps, gave_up=True)
        return self._found[peer]

    def _with_bounds(
        self, peer: PeerId, search: Callable[[ReachLevels, int], tuple[FoundChain | None, int]]
    ) -> tuple[FoundChain | None, int]:
        """Search with the levels of the whole graph; if that takes long, with those of a graph without peers that no chain to this one contains.

        Those are who bans the peer, and whom all bans of roots together leave no chain. Without that, a search that is about to find nothing
        looks at the whole graph.
        """
        steps = min(QUICK_STEPS, self._limits.steps)
        try:
            return search(self.levels, steps)
        except ResourceLimit:
            banners, starting = self.graph.banners, anchors(self.graph, self.roots).keys()
            without = frozenset(banners.get(peer, ())).union(one for one, by in banners.items() if starting <= by)
            if steps == self._limits.steps:
                raise
        found, more = search(self._bounds(without), self._limits.steps)
        return found, steps + more

    def _bounds(self, without: frozenset[PeerId]) -> ReachLevels:
        """The levels of a graph without some peers."""
        if not without:
            return self.levels
        if without not in self._narrowed:
            if len(self._narrowed) >= NARROWED_MAX:
                self._narrowed.clear()
            self._narrowed[without] = ReachLevels(self.graph, self.roots, without=without)
        return self._narrowed[without]

    def _is_open(self, peer: PeerId) -> bool:
        """Whether no ban is in the way of the chain that the levels give a peer, so that this chain is the heaviest one."""
        if not self.graph.banners:
            return True
        exponent = self.levels.top.get(peer)
        return exponent is None or self._is_clear(peer, exponent)

    def _is_clear(self, peer: PeerId, exponent: int) -> bool:
        known = self._open.get((peer, exponent))
        if known is None:
            parent = self.levels.parent(peer, exponent)
            banners = self.graph.banners.get(peer)
            known = parent is None or (
                self._is_clear(parent, exponent + 1)
                and (not banners or banners.isdisjoint(self.levels.chain_at(parent, exponent + 1)))
            )
            self._open[peer, exponent] = known
        return known


def power(exponent: int) -> int:
    """The weight of an exponent; 0 for a negative one, which stands for no chain."""
    return 1 << exponent if exponent >= 0 else 0
