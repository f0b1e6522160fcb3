"""What a running peer knows of trust, kept in memory and up to date: one graph for each scope that is asked for, and evaluations over them.

As long as no statement has a scope, all scopes mean the same, and one graph serves them all. Statements and time change the graphs in place; every
evaluation puts right what follows. Roots are the owner's; besides, each key that a rule mentions is a root of evaluations of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, TypeAlias

from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.evaluation import EvaluationLimits, TrustEvaluation, power
from fluvial_trust_graph.graph import TrustGraph, TrustRoot
from fluvial_trust_graph.overlay import SHOWN_STEPS_MAX, heaviest_with, path_between
from fluvial_trust_graph.search import Chain, chains_to
from fluvial_trust_graph.statements import Statement, TrustStatement, is_newer

CONNECTIVITY: Final = "connectivity"
"""The scope of the weights by which connections, turns and places are shared."""
DHT: Final = "dht"
"""The scope of the paths that are proven to others."""
SCOPES_MAX: Final = 64
"""Scopes with a graph of their own: those that rules mention."""
EVALUATIONS_MAX: Final = 256
SEARCH_STEPS_MAX: Final = 10_000
"""What one search may cost while the peer runs: some hundredths of a second. Beyond, the asked peer has no weight."""
LISTING_STEPS_MAX: Final = 5_000
STEPS_PER_S_MAX: Final = 60_000
"""What all searches of one second may cost together: a fifth of a core. Beyond, peers that need a search have no weight until the next second, so
that nobody can stall the peer by statements that make much to search for."""
ANSWERS_MAX: Final = 512
"""Answers about shown trusts that are remembered until something changes, with these trusts: up to 10 KB each."""

Key: TypeAlias = tuple[PeerId, int] | None
"""Who is the root of an evaluation, with its exponent; None for the owner's roots."""


class LiveTrust:
    """See the module's docstring.

    Args:
        roots: the owner's, with their exponents.
        keys: issuers of certificates that rules mention, with the greatest depth; their statements are kept like those of peers with weight.
        now: whole seconds of Unix time.
        steps_per_s: what the searches of one second may cost together.

    Attributes:
        version: grows whenever an answer may have changed.
    """

    def __init__(
        self, roots: Mapping[PeerId, int], keys: Mapping[PeerId, int], now: int, *, steps_per_s: int = STEPS_PER_S_MAX
    ) -> None:
        self.version = 0
        self._roots = dict(roots)
        self._keys = dict(keys)
        self._graphs: dict[str | None, TrustGraph] = {None: TrustGraph(now)}
        self._evaluations: dict[tuple[str | None, Key], TrustEvaluation] = {}
        self._kept = self._evaluate(None, self._all_roots())
        self._scoped = False
        self._steps_per_s = steps_per_s
        self._steps_left = steps_per_s
        self._answers: dict[tuple[PeerId, str, Key, tuple[TrustStatement, ...]], int] = {}
        self._weights: dict[PeerId, int] = {}
        self._of: Counter[PeerId] = Counter()

    # --- what is known

    def __len__(self) -> int:
        return self._of.total()

    @property
    def now(self) -> int:
        """The moment up to which time has passed."""
        return self._graphs[None].now

    @property
    def roots(self) -> Mapping[PeerId, int]:
        """The owner's roots."""
        return self._roots

    def statements(self) -> Iterator[Statement]:
        """All of them; what comes or goes while they are listed may be missing, or be there."""
        newest = self._graphs[None].newest
        for subject in list(newest):
            yield from list(newest.get(subject, {}).values())

    def newest(self, issuer: PeerId, subject: PeerId) -> Statement | None:
        """What a peer stated last about another one."""
        return self._graphs[None].newest.get(subject, {}).get(issuer)

    def count_of(self, issuer: PeerId) -> int:
        """How many statements of an issuer are known."""
        return self._of[issuer]

    def is_heard(self, issuer: PeerId) -> bool:
        """Whether the statements of a peer are kept: it has weight, or a certificate of a key that rules mention."""
        return self.hears(issuer) is True

    def hears(self, issuer: PeerId) -> bool | None:
        """As :meth:`is_heard`; None if finding out would cost more than is left for this second."""
        try:
            return self._known(self._kept, issuer) > 0
        except ResourceLimit:
            return None

    # --- changes

    def set_roots(self, roots: Mapping[PeerId, int], keys: Mapping[PeerId, int]) -> None:
        """Replace roots and keys; everything is evaluated anew."""
        self._roots, self._keys = dict(roots), dict(keys)
        self._evaluations.clear()
        self._kept = self._evaluate(None, self._all_roots())
        self._changed()

    def put(self, statements: Iterable[Statement]) -> list[Statement]:
        """Take authentic statements, none dated in the future; returns those that are the newest of their issuer about their subject."""
        fresh = []
        for statement in statements:
            known = self.newest(statement.issuer, statement.subject)
            if not self._graphs[None].put(statement):
                continue
            fresh.append(statement)
            self._of[statement.issuer] += known is None
            for scope, graph in self._graphs.items():
                if scope is not None:
                    graph.put(statement)
            if isinstance(statement, TrustStatement) and statement.scopes and not self._scoped:
                self._scoped = True
                self._evaluations.clear()
        if fresh:
            self._follow([one.subject for one in fresh])
        return fresh

    def fill(self, statements: Iterable[Statement]) -> None:
        """Take all statements of a store at once, which is quicker than one after the other."""
        graph = self._graphs[None]
        for statement in statements:
            if statement.issued_at <= graph.now:
                self._of[statement.issuer] += self.newest(statement.issuer, statement.subject) is None
                graph.put(statement)
                self._scoped = self._scoped or bool(isinstance(statement, TrustStatement) and statement.scopes)
        self.set_roots(self._roots, self._keys)

    def advance(self, now: int, *, most: int | None = None) -> bool:
        """Let time pass; trusts that have ended count no more.

        Args:
            now: whole seconds of Unix time.
            most: so many of them at most are looked at, in each graph; None for all.

        Returns:
            Whether that were all; else some that have ended count until the next calls.
        """
        if now > self.now:
            self._steps_left = self._steps_per_s
        graphs = self._graphs.values()
        subjects = {subject for graph in graphs for _, subject in graph.advance(now, most=most)}
        if subjects:
            self._follow(list(subjects))
        return not any(graph.behind for graph in graphs)

    def remove(self, pairs: Iterable[tuple[PeerId, PeerId]]) -> None:
        """Forget what issuers stated about subjects."""
        subjects = []
        for issuer, subject in pairs:
            if self.newest(issuer, subject) is not None:
                for graph in self._graphs.values():
                    graph.remove(issuer, subject)
                self._of[issuer] -= 1
                if not self._of[issuer]:
                    del self._of[issuer]
                subjects.append(subject)
        if subjects:
            self._follow(subjects)

    # --- answers

    def weight(self, peer: PeerId) -> int:
        """How much a peer counts where connections and turns are shared; a dictionary access, once it was asked for."""
        known = self._weights.get(peer)
        if known is not None:
            return known
        weight = self.weight_for(peer, CONNECTIVITY)
        if weight:  # of strangers there is no end, and they cost nothing
            self._weights[peer] = weight
        return weight

    def weight_for(self, peer: PeerId, scope: str, shown: Sequence[TrustStatement] = ()) -> int:
        """How much a peer counts for a scope, if some shown trusts count, too. 0 beyond a limit."""
        try:
            return self._weight(peer, scope, None, shown)
        except ResourceLimit:
            return 0

    def is_certified(
        self, peer: PeerId, key: PeerId, depth: int, scope: str, shown: Sequence[TrustStatement] = ()
    ) -> bool:
        """Whether a chain of at most ``depth`` links leads from a key to a peer, good for a scope, and of at least one link."""
        try:
            return peer != key and self._weight(peer, scope, (key, depth), shown) > 0
        except ResourceLimit:
            return False

    def leads(self, issuer: PeerId, peer: PeerId, depth: int, scope: str) -> bool:
        """As :meth:`is_certified` with nothing shown, for issuers that no rule mentions: nothing is kept for the next time."""
        if (scope, (issuer, depth)) in self._evaluations or peer == issuer:
            return self.is_certified(peer, issuer, depth, scope)
        try:
            self.pay(SHOWN_STEPS_MAX)
            graph = self._graph(scope)
            return (
                issuer in graph.anchored
                and path_between(graph, issuer, peer, links_max=min(depth, graph.anchored[issuer])) is not None
            )
        except ResourceLimit:
            return False

    def path(self, owner: PeerId, provider: PeerId, links_max: int) -> Chain | None:
        """A path of trust for the DHT from one peer to another; None if none is known."""
        try:
            self.pay(SHOWN_STEPS_MAX)
            return path_between(self._graph(DHT), owner, provider, links_max=links_max)
        except ResourceLimit:
            return None

    def overrules(self, trust: TrustStatement) -> bool:
        """Whether something newer is known of its issuer about its subject that is no trust as good as this one."""
        known = self.newest(trust.issuer, trust.subject)
        if known is None or not is_newer(known, trust):
            return False
        return not (isinstance(known, TrustStatement) and known.expires_at > self.now and known.depth >= trust.depth)

    def bans_along(self, chain: Sequence[PeerId], scope: str) -> bool:
        """Whether somebody in a chain is known to ban one who comes later in it."""
        graph = self._graph(scope)
        return any(graph.bans(issuer, chain[at + 1 :]) for at, issuer in enumerate(chain))

    def evaluation(self, scope: str | None = None, key: Key = None) -> TrustEvaluation:
        """The evaluation that answers for a scope, of the owner's roots or of one key. Whoever gets it only reads.

        Raises:
            ResourceLimit: there are too many scopes.
        """
        where = scope if self._scoped else None
        if where is None and key is None and not self._keys:
            return self._kept  # it has the same graph and the same roots
        found = self._evaluations.get((where, key))
        if found is None:
            if len(self._evaluations) >= EVALUATIONS_MAX:
                raise ResourceLimit(f"trust is evaluated in more than {EVALUATIONS_MAX} ways")
            roots = self._roots if key is None else {key[0]: key[1]}
            found = self._evaluations[where, key] = self._evaluate(where, roots)
        return found

    def chains(self, peer: PeerId, most: int) -> list[Chain]:
        """Some of the heaviest chains to a peer: as many as a short search finds."""
        evaluation = self.evaluation("")
        found: list[Chain] = []
        listing = chains_to(evaluation.levels, evaluation.graph, evaluation.roots, peer, steps_max=LISTING_STEPS_MAX)
        with suppress(ResourceLimit):
            found += (one.peers for one in islice(listing, most))
        return found

    def knows_scope(self, scope: str) -> bool:
        """Whether weights for a scope can be had without evaluating all statements anew: what everybody may ask for."""
        return not self._scoped or scope in ("", CONNECTIVITY, DHT) or scope in self._graphs

    def _weight(self, peer: PeerId, scope: str, key: Key, shown: Sequence[TrustStatement]) -> int:
        evaluation = self.evaluation(scope, key)
        known = self._known(evaluation, peer)
        # As long as nothing known has a scope, the graph is one for all scopes and does not look at those of what is shown.
        good = tuple(one for one in shown if one.covers(scope))
        if not good:
            return known
        asked = peer, scope, key, good
        if asked not in self._answers:
            price = self.pay(SHOWN_STEPS_MAX)
            found, cost = heaviest_with(evaluation.graph, evaluation.levels.top, evaluation.roots, peer, good)
            self._steps_left += max(0, price - cost)
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            self._answers[asked] = power(found.exponent) if found is not None else 0
        return max(known, self._answers[asked])

    def _known(self, evaluation: TrustEvaluation, peer: PeerId) -> int:
        """The weight that an evaluation gives a peer; raises ResourceLimit."""
        price = self.pay(evaluation.price(peer))
        weight = evaluation.weight(peer)
        if price:
            self._steps_left += max(0, price - evaluation.cost(peer))
        return weight

    def pay(self, steps: int) -> int:
        """Take what a search may cost from what is left for this second, to be given back as far as it cost less; raises ResourceLimit."""
        if steps > self._steps_left:
            raise ResourceLimit("this second's searches for chains of trust have cost what they may")
        self._steps_left -= steps
        return steps

    # ---

    def _graph(self, scope: str | None) -> TrustGraph:
        where = scope if self._scoped else None
        if where not in self._graphs:
            if len(self._graphs) > SCOPES_MAX:
                raise ResourceLimit(f"trust is evaluated for more than {SCOPES_MAX} scopes")
            graph = TrustGraph(self.now, where)
            graph.fill(self.statements())
            self._graphs[where] = graph
        return self._graphs[where]

    def _evaluate(self, scope: str | None, roots: Mapping[PeerId, int]) -> TrustEvaluation:
        found = [TrustRoot(peer=peer, exponent=exponent) for peer, exponent in roots.items()]
        return TrustEvaluation(
            self._graph_of(scope),
            found,
            EvaluationLimits(steps=SEARCH_STEPS_MAX, chains=16, listing_steps=LISTING_STEPS_MAX),
        )

    def _graph_of(self, scope: str | None) -> TrustGraph:
        return self._graphs[None] if scope is None else self._graph(scope)

    def _all_roots(self) -> dict[PeerId, int]:
        return {peer: max(self._roots.get(peer, 0), self._keys.get(peer, 0)) for peer in {*self._roots, *self._keys}}

    def _follow(self, subjects: Sequence[PeerId]) -> None:
        for evaluation in (self._kept, *self._evaluations.values()):
            evaluation.changed(subjects)
        self._changed()

    def _changed(self) -> None:
        self._weights.clear()
        self._answers.clear()
        self.version += 1
