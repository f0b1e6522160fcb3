"""A graph with a few trusts more: what a flow shows of its initiator counts for its own requests, and is kept nowhere.

What is known goes first: a shown trust counts only if it is newer than what its issuer is known to have stated about its subject. So nobody
gets round a revocation by showing what was revoked.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph
from fluvial_trust_graph.search import Chain, FoundChain, heaviest_chain
from fluvial_trust_graph.statements import DEPTH_MAX, TrustStatement, is_newer

SHOWN_STEPS_MAX: Final = 5_000
"""Steps of a search with shown trusts: about a hundredth of a second."""


class _Everybody(Mapping[PeerId, int]):
    """The bound that leaves nobody out."""

    def __getitem__(self, peer: PeerId) -> int:
        return EXPONENT_MAX

    def __contains__(self, peer: object) -> bool:
        return True

    def __iter__(self) -> Iterator[PeerId]:
        return iter(())

    def __len__(self) -> int:
        return 0


class Reachable:
    """A bound for searches.

    Attributes:
        top: see :class:`~fluvial_trust_graph.search.ReachBound`.
    """

    def __init__(self, top: Mapping[PeerId, int] | None = None) -> None:
        self.top: Final[Mapping[PeerId, int]] = _Everybody() if top is None else top


class OverlaidGraph:
    """A graph with trusts laid over it; the graph itself stays as it is.

    Args:
        graph: what is known.
        shown: authentic trusts that hold now.
    """

    def __init__(self, graph: TrustGraph, shown: Iterable[TrustStatement]) -> None:
        self._graph = graph
        self._ended: set[tuple[PeerId, PeerId]] = set()  # bans that a newer shown trust ends
        preceding: dict[PeerId, dict[PeerId, int]] = {}
        following: dict[PeerId, dict[PeerId, int]] = {}
        anchored: dict[PeerId, int] = {}
        self.shown: list[TrustStatement] = []
        for trust in shown:
            known = graph.newest.get(trust.subject, {}).get(trust.issuer)
            if not graph.holds(trust) or (known is not None and not is_newer(trust, known)):
                continue
            self.shown.append(trust)
            if trust.issuer == trust.subject:
                anchored[trust.subject] = trust.depth
                continue
            self._ended.add((trust.issuer, trust.subject))
            about = preceding.setdefault(trust.subject, dict(graph.preceding.get(trust.subject, {})))
            about[trust.issuer] = trust.depth
            of = following.setdefault(trust.issuer, dict(graph.following.get(trust.issuer, {})))
            of[trust.subject] = trust.depth
        self.preceding: Final[Mapping[PeerId, dict[PeerId, int]]] = ChainMap(preceding, graph.preceding)
        self.following: Final[Mapping[PeerId, dict[PeerId, int]]] = ChainMap(following, graph.following)
        self.anchored: Final[Mapping[PeerId, int]] = ChainMap(anchored, graph.anchored)

    @property
    def banners(self) -> Mapping[PeerId, Collection[PeerId]]:
        """Those of the graph: a few too many where a shown trust ends a ban, which :meth:`bans` knows."""
        return self._graph.banners

    def bans(self, issuer: PeerId, subjects: Iterable[PeerId]) -> bool:
        """As :meth:`TrustGraph.bans`."""
        return any(
            issuer in self._graph.banners.get(subject, ()) and (issuer, subject) not in self._ended
            for subject in subjects
        )


def heaviest_with(
    graph: TrustGraph,
    known: Mapping[PeerId, int],
    roots: Mapping[PeerId, int],
    peer: PeerId,
    shown: Sequence[TrustStatement],
) -> tuple[FoundChain | None, int]:
    """The heaviest chain to a peer if some more trusts count, None if there is none or if the search met its limit; and what it cost.

    Args:
        graph: what is known.
        known: the greatest exponent by which a chain reaches each peer without them.
        roots: their exponents, at most 16.
        peer: the asked one.
        shown: authentic trusts, live now.
    """
    overlaid = OverlaidGraph(graph, shown)
    if not overlaid.shown:
        return None, 0
    try:
        return heaviest_chain(_reach(known, overlaid.shown, peer), overlaid, roots, peer, steps_max=SHOWN_STEPS_MAX)
    except ResourceLimit:
        return None, SHOWN_STEPS_MAX


def _reach(known: Mapping[PeerId, int], shown: Sequence[TrustStatement], peer: PeerId) -> Reachable:
    """A bound that leaves nobody out who matters: what is known, if the shown trusts add nobody but the asked peer to it."""
    if any(one.issuer == one.subject or one.subject != peer for one in shown):
        return Reachable()
    reached = max(known.get(one.issuer, -1) - 1 for one in shown)
    return Reachable(ChainMap({peer: max(reached, known.get(peer, -1))}, known))  # type: ignore[arg-type]  # read alone


def path_between(graph: TrustGraph, owner: PeerId, provider: PeerId, *, links_max: int) -> Chain | None:
    """The shortest open chain from one peer to another, whoever the roots are; None if there is none of so few links.

    Args:
        graph: what is known.
        owner: the first peer.
        provider: the last one.
        links_max: at most 16 count.
    """
    if owner == provider:
        return (owner,)
    own = OverlaidGraph(graph, ())
    anchored = _Anchored(own, owner)
    try:
        found, _ = heaviest_chain(
            Reachable(), anchored, {owner: min(links_max, EXPONENT_MAX)}, provider, steps_max=SHOWN_STEPS_MAX
        )
    except ResourceLimit:
        return None
    return found.peers if found is not None else None


class _Anchored:
    """A graph in which one peer is taken as if it had signed itself."""

    def __init__(self, graph: OverlaidGraph, owner: PeerId) -> None:
        self.preceding: Final = graph.preceding
        self.following: Final = graph.following
        self.banners: Final = graph.banners
        self.bans: Final = graph.bans
        self.anchored: Final[Mapping[PeerId, int]] = {owner: DEPTH_MAX}
