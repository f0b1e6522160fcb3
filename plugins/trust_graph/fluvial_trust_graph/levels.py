"""The weights of all peers as if there were no bans, in one pass over the links, and kept up when a link changes.

A chain that starts at a root of exponent ``m`` and has ``n`` links gives the exponent ``m - n``. Level ``e`` holds the peers that some chain reaches
with exponent ``e``, each with the greatest number of links that may still follow (delegation). A peer stands on a lower level, too, only if more
links may follow there than on each higher one; otherwise the lower one can bring nobody anything. So nearly every peer stands on one
level, and a level follows from the next higher one alone: that is what makes both the pass and the update short and exact.

Source: Dijkstra's shortest paths with unit lengths (buckets), with Pareto labels for the second limit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph, anchors
from fluvial_trust_graph.statements import DEPTH_MAX

NO_LINKS: Final[Mapping[PeerId, int]] = {}


class ReachLevels:
    """Which peers chains reach, with what exponent; bans aside.

    Args:
        graph: the links; whoever changes them calls :meth:`update`.
        roots: exponents of the roots, at most 16.
    """

    def __init__(self, graph: TrustGraph, roots: Mapping[PeerId, int]) -> None:
        self._graph = graph
        self._roots = dict(roots)
        self.levels: list[dict[PeerId, int]] = [{} for _ in range(EXPONENT_MAX + 1)]
        self.top: dict[PeerId, int] = {}
        """The greatest exponent by which a chain reaches a peer; anchored roots reach themselves."""
        self._standing: dict[PeerId, int] = {}
        """On which levels a peer stands: bit ``e`` for level ``e``."""
        self._most = [_most_below(set(self._roots.values()), exponent) for exponent in range(EXPONENT_MAX + 1)]
        """By level: the most links that may follow a peer that a link has put there."""
        self._fill()

    def _fill(self) -> None:
        most: dict[PeerId, int] = {}  # how many links may follow, on the levels so far
        starts = anchors(self._graph, self._roots)
        for exponent in range(EXPONENT_MAX, -1, -1):
            level = self.levels[exponent]
            for peer, (own, depth) in starts.items():
                if own == exponent and depth > most.get(peer, -1):
                    level[peer] = max(depth, level.get(peer, -1))
            if exponent < EXPONENT_MAX:
                self._push(self.levels[exponent + 1], level, most)
            for peer, depth in level.items():
                most[peer] = depth
                self.top.setdefault(peer, exponent)
                self._standing[peer] = self._standing.get(peer, 0) | 1 << exponent

    def _push(self, above: dict[PeerId, int], level: dict[PeerId, int], most: dict[PeerId, int]) -> None:
        """Follow all links from one level to the next lower one."""
        following = self._graph.following
        for issuer, left in above.items():
            if left:
                for subject, depth in following.get(issuer, {}).items():
                    follow = depth if depth < left else left - 1
                    if follow > most.get(subject, -1) and follow > level.get(subject, -1):
                        level[subject] = follow

    def update(self, changed: Iterable[PeerId]) -> None:
        """Put right what follows from changes of links to some peers, or of their trust in themselves."""
        dirty: list[set[PeerId]] = [set(changed) for _ in self.levels]
        touched: set[PeerId] = set()
        for exponent in range(EXPONENT_MAX, -1, -1):
            level = self.levels[exponent]
            for peer in dirty[exponent]:
                follow = self._pull(peer, exponent)
                if follow == level.get(peer, -1):
                    continue
                if follow < 0:
                    del level[peer]
                    self._standing[peer] &= ~(1 << exponent)
                else:
                    level[peer] = follow
                    self._standing[peer] = self._standing.get(peer, 0) | 1 << exponent
                touched.add(peer)
                below = self._possible(peer) & ((1 << exponent) - 1)
                while below:
                    lowest = below & -below
                    dirty[lowest.bit_length() - 1].add(peer)
                    below ^= lowest
                if exponent:
                    self._note_concerned(peer, exponent, follow, dirty[exponent - 1])
        for peer in touched:
            self._retop(peer)

    def _note_concerned(self, peer: PeerId, exponent: int, follow: int, dirty: set[PeerId]) -> None:
        """Note whom a peer trusts and to whom its new place on a level may matter on the next lower one."""
        standing, levels = self._standing, self.levels
        for subject, depth in self._graph.following.get(peer, NO_LINKS).items():
            on = standing.get(subject, 0)
            if on >> (exponent - 1) & 1:
                dirty.add(subject)
            elif follow > 0:
                highest = on.bit_length() - 1
                if highest < exponent or levels[highest][subject] < (depth if depth < follow else follow - 1):
                    dirty.add(subject)

    def _possible(self, peer: PeerId) -> int:
        """The levels on which a peer stands, or could stand as far as is known by now, as bits."""
        above, standing = 0, self._standing
        for issuer in self._graph.preceding.get(peer, NO_LINKS):
            above |= standing.get(issuer, 0)
        own = 1 << self._roots[peer] if peer in self._roots else 0
        return above >> 1 | own | standing.get(peer, 0)

    def _pull(self, peer: PeerId, exponent: int) -> int:
        """How many links may follow on a level, by the level above; -1 if the peer does not stand there."""
        best = -1
        if self._roots.get(peer) == exponent:
            best = self._graph.anchored.get(peer, -1)
        if exponent < EXPONENT_MAX and (above := self.levels[exponent + 1]):
            most = self._most[exponent]
            for issuer, depth in self._graph.preceding.get(peer, NO_LINKS).items():
                left = above.get(issuer)
                if left:
                    follow = depth if depth < left else left - 1
                    if follow > best:
                        best = follow
                        if best >= most:
                            break  # nobody can let more follow
        if best >= 0:
            higher, at = self._standing.get(peer, 0) >> (exponent + 1), exponent
            while higher:
                step = (higher & -higher).bit_length()
                at += step
                if self.levels[at][peer] >= best:
                    return -1
                higher >>= step
        return best

    def _retop(self, peer: PeerId) -> None:
        standing = self._standing[peer]
        if standing:
            self.top[peer] = standing.bit_length() - 1
        else:
            self.top.pop(peer, None)
            del self._standing[peer]

    def parent(self, peer: PeerId, exponent: int) -> PeerId | None:
        """Who comes before a peer in the chain that put it on a level; None if the chain starts with the peer. The least id, if there are several."""
        follow = self.levels[exponent][peer]
        if self._roots.get(peer) == exponent and self._graph.anchored.get(peer, -1) == follow:
            return None
        above = self.levels[exponent + 1]
        return min(
            issuer
            for issuer, depth in self._graph.preceding[peer].items()
            if (left := above.get(issuer, 0)) and min(left - 1, depth) == follow
        )

    def chain(self, peer: PeerId) -> tuple[PeerId, ...]:
        """The chain, from its root, by which a peer stands on its highest level."""
        return self.chain_at(peer, self.top[peer])

    def chain_at(self, peer: PeerId, exponent: int) -> tuple[PeerId, ...]:
        """The chain, from its root, by which a peer stands on a level."""
        chain = [peer]
        while (parent := self.parent(chain[-1], exponent)) is not None:
            chain.append(parent)
            exponent += 1
        return tuple(reversed(chain))


def _most_below(exponents: Collection[int], exponent: int) -> int:
    """How many links may follow at most on a level, by links from roots of such exponents: each link takes one."""
    steps = [root - exponent for root in exponents if root > exponent]
    return DEPTH_MAX - min(steps) if steps else -1
