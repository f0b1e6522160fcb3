"""Exact answers where bans matter: the heaviest valid chain to a peer, and all of its chains.

A ban works along chains: a chain is dead if a peer in it bans one that comes later in it. So the best way to a peer may be closed while a longer
one is open, and what is open depends on the whole chain. Both searches go backwards from the asked peer, and leave out what
cannot reach a root in time according to :class:`~fluvial_trust_graph.levels.ReachLevels`.

- :func:`heaviest_chain` visits states (head of the chain so far, those in it whom somebody bans), the one first whose chains could be the heaviest.
  A state is not needed if the same head was visited with a part of its set and no more links after it. A heaviest walk visits no peer twice, since
  leaving a circle out bans nobody and gives more. So it is a chain.
- :func:`chains_to` lists chains, the heaviest first. Paths are what it keeps, so it is for questions with few answers.

Both give up after a number of steps; the answer is then as if there were no chain.

Source: ``trust_graph.md`` section 8; A* search (Hart, Nilsson, Raphael 1968), with path-max (Mero 1984) in the first one.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Protocol, TypeAlias

import msgspec
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, anchors

STEPS_MAX: Final = 100_000
"""How many steps one question may cost: some tenths of a second. Looking at a link is one, if its issuer has weight; so is
comparing two sets of bans. What peers without weight state about a peer cannot use its steps up."""
Chain: TypeAlias = tuple[PeerId, ...]
"""From the root to the peer, each peer once."""


class SearchedGraph(Protocol):
    """What a search reads of a graph: see :class:`~fluvial_trust_graph.graph.TrustGraph`."""

    @property
    def preceding(self) -> Mapping[PeerId, Mapping[PeerId, int]]:
        """By subject: who trusts it, and the delegation depth."""
        ...

    @property
    def following(self) -> Mapping[PeerId, Mapping[PeerId, int]]:
        """By issuer: whom it trusts, and the delegation depth."""
        ...

    @property
    def banners(self) -> Mapping[PeerId, Collection[PeerId]]:
        """By subject: who bans it."""
        ...

    @property
    def anchored(self) -> Mapping[PeerId, int]:
        """Who signed itself, and the delegation depth."""
        ...

    def bans(self, issuer: PeerId, subjects: Iterable[PeerId]) -> bool:
        """Whether a peer bans one of some others."""
        ...


class ReachBound(Protocol):
    """Who can be reached at all."""

    @property
    def top(self) -> Mapping[PeerId, int]:
        """The greatest exponent by which a chain may reach a peer, bans aside; never too low."""
        ...


class FoundChain(msgspec.Struct, frozen=True):
    """A valid chain.

    Args:
        exponent: what it gives the last peer, ``2**exponent``.
        peers: the chain.
    """

    exponent: int
    peers: Chain


class _Visit(msgspec.Struct, frozen=True):
    """A state of the search for the heaviest chain; ``after`` leads to the asked peer."""

    head: PeerId
    links: int
    banned: frozenset[PeerId]
    met: bool
    after: _Visit | None

    def outdoes(self, other: _Visit) -> bool:
        """Whether whatever can follow another visit of the same head can follow this one, and gives no less."""
        return self.links <= other.links and self.banned <= other.banned

    def chain(self) -> Chain:
        peers, visit = [], self
        while True:
            peers.append(visit.head)
            if visit.after is None:
                return tuple(peers)
            visit = visit.after


def heaviest_chain(
    levels: ReachBound,
    graph: SearchedGraph,
    roots: Mapping[PeerId, int],
    peer: PeerId,
    *,
    via: PeerId | None = None,
    steps_max: int = STEPS_MAX,
) -> tuple[FoundChain | None, int]:
    """The heaviest valid chain to a peer, and how many steps that cost.

    Args:
        levels: of the same graph and roots.
        graph: the links and bans.
        roots: their exponents, at most 16.
        peer: the asked peer; without ``via``, a root that signed itself is a chain of one.
        via: look for walks through this peer only; the result may then visit a peer twice.
        steps_max: the limit.

    Raises:
        ResourceLimit: the limit was met.
    """
    starts = anchors(graph, roots)
    top = levels.top
    through = top if via is None or via == peer else _reach_through(top, graph, via)
    best: FoundChain | None = None
    floor = -1  # the best exponent so far
    banned = frozenset((peer,)) if peer in graph.banners else frozenset()
    first = _Visit(peer, 0, banned, via is None or via == peer, None)
    seen: dict[tuple[PeerId, bool], list[_Visit]] = {}
    waiting: list[list[_Visit]] = [[] for _ in range(EXPONENT_MAX + 1)]  # by what the chain can give at most
    highest = (top if first.met else through).get(peer, -1)
    waiting[highest].append(first)
    steps = 0
    while highest > floor:
        if not waiting[highest]:
            highest -= 1
            continue
        visit = waiting[highest].pop()
        known = seen.setdefault((visit.head, visit.met), [])
        steps += len(known)
        if any(one.outdoes(visit) for one in known):
            continue
        known.append(visit)
        own, depth = starts.get(visit.head, (-1, 0))
        if visit.met and (visit.links or via is None) and visit.links <= depth and own - visit.links > floor:
            floor = own - visit.links
            best = FoundChain(floor, visit.chain())
        links = visit.links + 1
        _check_steps(steps, steps_max, peer)
        for issuer, depth in graph.preceding.get(visit.head, {}).items():
            reached = top.get(issuer)
            if reached is None:
                continue
            steps += 1
            met = visit.met or issuer == via
            bound = (reached if met else through.get(issuer, -1)) - links
            if depth < visit.links or bound <= floor or graph.bans(issuer, visit.banned):
                continue
            banned = visit.banned | {issuer} if issuer in graph.banners else visit.banned
            # what follows from a visit gives no more than the visit itself
            waiting[min(bound, highest)].append(_Visit(issuer, links, banned, met, visit))
    return best, steps


def _check_steps(steps: int, steps_max: int, peer: PeerId) -> None:
    if steps > steps_max:
        raise ResourceLimit(f"the search for the chains to {peer} takes more than {steps_max:,} steps")


def heaviest_through(
    levels: ReachBound,
    graph: SearchedGraph,
    roots: Mapping[PeerId, int],
    peer: PeerId,
    via: PeerId,
    *,
    steps_max: int = STEPS_MAX,
) -> FoundChain | None:
    """The heaviest valid chain of two peers and more that leads to a peer and contains another one, wherever.

    The search over states finds a walk. Only if that one visits a peer twice, chains are listed until the first one.

    Raises:
        ResourceLimit: the limit was met.
    """
    walk, _ = heaviest_chain(levels, graph, roots, peer, via=via, steps_max=steps_max)
    if walk is None or len(set(walk.peers)) == len(walk.peers):
        return walk
    return next(chains_to(levels, graph, roots, peer, via=via, steps_max=steps_max), None)


def chains_to(
    levels: ReachBound,
    graph: SearchedGraph,
    roots: Mapping[PeerId, int],
    peer: PeerId,
    *,
    via: PeerId | None = None,
    steps_max: int = STEPS_MAX,
) -> Iterator[FoundChain]:
    """The valid chains of two peers and more that lead to a peer, the heaviest first.

    Args:
        levels: of the same graph and roots.
        graph: the links and bans.
        roots: their exponents, at most 16.
        peer: the last of each chain.
        via: list only chains with this peer in them, wherever.
        steps_max: the limit.

    Raises:
        ResourceLimit: the limit was met; the chains so far are true.
    """
    starts = anchors(graph, roots)
    through = levels.top if via is None or via == peer else _reach_through(levels.top, graph, via)
    waiting: list[tuple[int, int, Chain, bool]] = []

    def wait(path: Chain, met: bool) -> None:
        links = len(path) - 1
        bound = (levels.top if met else through).get(path[0], -1) - links
        if bound >= 0:
            heapq.heappush(waiting, (-bound, -links, path, False))
        own, depth = starts.get(path[0], (-1, 0))
        if met and 0 < links <= depth and own >= links:
            heapq.heappush(waiting, (links - own, -links, path, True))

    wait((peer,), via is None or via == peer)
    steps = 0
    while waiting:
        bound, links, path, complete = heapq.heappop(waiting)
        if complete:
            yield FoundChain(-bound, path)
            continue
        _check_steps(steps, steps_max, peer)
        for issuer, depth in graph.preceding.get(path[0], {}).items():
            if issuer not in levels.top:
                continue
            steps += 1
            if depth >= -links and issuer not in path and not graph.bans(issuer, path):
                wait((issuer, *path), via is None or via in path or issuer == via)


def _reach_through(top: Mapping[PeerId, int], graph: SearchedGraph, via: PeerId) -> dict[PeerId, int]:
    """The greatest exponent with which a walk through ``via`` can reach each peer, at most."""
    if via not in top:
        return {}
    reached, edge = {via: top[via]}, [via]
    for exponent in range(top[via] - 1, -1, -1):
        edge = sorted({peer for one in edge for peer in graph.following.get(one, ()) if peer not in reached})
        reached.update(dict.fromkeys(edge, exponent))
    return reached
