"""The weights of all peers as if there were no bans, in one pass over the links, and kept up when a link changes.

A chain that starts at a root of exponent ``m`` and has ``n`` links gives the exponent ``m - n``. Level ``e`` holds the peers that some chain reaches
with exponent ``e``. Each has *room* there: how many peers its chain may have from it on, itself included. The delegation bounds that, and so does
the level, at ``e + 1``; a room of 0 says that the peer does not stand there. It stands on a lower level, too, only if it has more room there than on
each higher one; otherwise the lower one can bring nobody anything. So nearly every peer stands on one level, and a level follows from the
next higher one alone: that is what makes both the pass and the update short and exact.

An update goes down the levels and settles each place that may have changed once. A new place is offered to the next level, so that nobody need look
for it; only who has lost a place looks at all who trust it, and goes on to lower levels until it has found all the room that there can be.

Source: Dijkstra's shortest paths with unit lengths (buckets), with Pareto labels for the second limit; updates as in Ramalingam and Reps 1996.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph

ANYWHERE: Final = -1
"""Instead of some levels as bits: all of them."""


class ReachLevels:
    """Which peers chains reach, with what exponent; bans aside.

    Args:
        graph: the links; whoever changes them calls :meth:`update`.
        roots: exponents of the roots, at most 16.
    """

    def __init__(self, graph: TrustGraph, roots: Mapping[PeerId, int]) -> None:
        self._graph = graph
        self._links = graph.links
        self._roots = {self._links.number(peer): exponent for peer, exponent in roots.items()}
        self._rooms: Final = [bytearray() for _ in range(EXPONENT_MAX + 1)]
        """By level and number of a peer."""
        self._standing: list[int] = []
        """By number of a peer, on which levels it stands: bit ``e`` for level ``e``."""
        self._heights = bytearray()
        """By number of a peer: its highest level plus one; 0 if it stands nowhere."""
        self.top: dict[PeerId, int] = {}
        """The greatest exponent by which a chain reaches a peer; anchored roots reach themselves."""
        self._grow()
        self._fill()

    def _grow(self) -> None:
        """Have places for all peers that have numbers by now."""
        new = len(self._links.names) - len(self._standing)
        self._standing += [0] * new
        for places in (self._heights, *self._rooms):
            places += bytes(new)

    def _start(self, number: int, exponent: int) -> int:
        """The room that a peer has on a level as a root that signed itself."""
        if self._roots.get(number) != exponent:
            return 0
        return min(self._graph.anchored.get(self._links.names[number], -1), exponent) + 1

    # --- the pass

    def _fill(self) -> None:
        most = bytearray(len(self._standing))  # room on the levels so far
        above: list[int] = []
        for exponent in range(EXPONENT_MAX, -1, -1):
            rooms, members = self._rooms[exponent], []
            for number in self._roots:
                room = self._start(number, exponent)
                if room > most[number]:
                    rooms[number] = room
                    members.append(number)
            if above:
                self._push(above, exponent, most, members)
            for number in members:
                most[number] = rooms[number]
                self._standing[number] |= 1 << exponent
                self.top.setdefault(self._links.names[number], exponent)
                self._heights[number] = self._heights[number] or exponent + 1
            above = members

    def _push(self, above: Iterable[int], exponent: int, most: bytearray, members: list[int]) -> None:
        """Follow all links from the next higher level to one, and note who is new there."""
        following, rooms, higher = self._links.following, self._rooms[exponent], self._rooms[exponent + 1]
        for issuer in above:
            left = higher[issuer] - 1
            if left:
                for subject, bound in following[issuer].items():
                    room = bound if bound < left else left
                    known = rooms[subject]
                    if room > known and room > most[subject]:
                        rooms[subject] = room
                        if not known:
                            members.append(subject)

    # --- the update

    def update(self, changed: Iterable[PeerId]) -> None:
        """Put right what follows from changes of links to some peers, or of their trust in themselves."""
        numbers = {self._links.number(peer) for peer in changed}
        self._grow()
        # who looks for room, and the levels where some may be, as bits
        seeking = {number: self._possible(number) for number in numbers}
        # by level: whom to settle, and the room that it can have at least
        offers: list[dict[int, int]] = [{} for _ in self._rooms]
        for number, possible in seeking.items():
            _ask_highest(number, possible, offers)
        touched: set[int] = set()
        for exponent in range(EXPONENT_MAX, -1, -1):
            if offers[exponent]:
                self._settle(exponent, offers, seeking, touched)
        names, heights = self._links.names, self._heights
        for number in touched:
            if heights[number]:
                self.top[names[number]] = heights[number] - 1
            else:
                self.top.pop(names[number], None)

    def _settle(self, exponent: int, offers: list[dict[int, int]], seeking: dict[int, int], touched: set[int]) -> None:
        """Find out who stands on a level, of those that may have been put there or lost their place; the higher levels are right."""
        rooms, heights, bit, full = self._rooms[exponent], self._heights, 1 << exponent, exponent + 1
        for number, room in offers[exponent].items():
            before = rooms[number]
            over = 0 if heights[number] <= full else self._over(number, exponent)
            if room < full and over < full:
                room = self._looked_for(number, exponent, room)
            if room <= over:
                room = 0
            if room != before:
                rooms[number] = room
                on = self._standing[number] = self._standing[number] ^ (0 if room and before else bit)
                heights[number] = on.bit_length()
                touched.add(number)
                if room > before:
                    self._offer(number, exponent, offers)
                    if on & (bit - 1):
                        _ask(number, on & (bit - 1), offers)  # what stands lower may not be needed any more
                else:
                    self._withdraw(number, exponent, before, offers)
                    if before > over:
                        seeking[number] = ANYWHERE  # most stand on the next level then
            elif seeking.get(number) == ANYWHERE:
                seeking[number] = self._possible(number)
            if room < exponent and over < exponent and number in seeking:
                _ask_highest(number, seeking[number] & (bit - 1), offers)

    def _over(self, number: int, exponent: int) -> int:
        """The most room that a peer has on a higher level: on the lowest of them, since each gives more than those above it."""
        higher = self._standing[number] >> (exponent + 1)
        return self._rooms[exponent + (higher & -higher).bit_length()][number] if higher else 0

    def _offer(self, number: int, exponent: int, offers: list[dict[int, int]]) -> None:
        """Offer those whom a peer trusts what its new place gives them on the next lower level, if that is more than they have."""
        left = self._rooms[exponent][number] - 1
        if not exponent or not left:
            return
        heights, levels, below, taken = self._heights, self._rooms, self._rooms[exponent - 1], offers[exponent - 1]
        for subject, bound in self._links.following[number].items():
            offered = bound if bound < left else left
            if offered > below[subject]:
                height = heights[subject]
                if (height <= exponent or levels[height - 1][subject] < offered) and taken.get(subject, 0) < offered:
                    taken[subject] = offered

    def _withdraw(self, number: int, exponent: int, before: int, offers: list[dict[int, int]]) -> None:
        """Have those settled who may stand on the next lower level by the place that a peer had."""
        lost = before - 1
        if not exponent or not lost:
            return
        below, asked = self._rooms[exponent - 1], offers[exponent - 1]
        for subject, bound in self._links.following[number].items():
            if below[subject] == (bound if bound < lost else lost) and subject not in asked:
                asked[subject] = 0

    def _looked_for(self, number: int, exponent: int, room: int) -> int:
        """The room on a level that a peer has as a root, or that somebody who trusts it gives it, if that is more."""
        if number in self._roots:
            room = max(room, self._start(number, exponent))
        if exponent == EXPONENT_MAX:
            return room
        above, full, enough = self._rooms[exponent + 1], exponent + 1, room + 1
        for issuer, bound in self._links.preceding[number].items():
            left = above[issuer]
            if left > enough and bound > room:
                room = bound if bound < left else left - 1
                if room == full:
                    break
                enough = room + 1
        return room

    def _possible(self, number: int) -> int:
        """The levels on which a peer stands, or could stand as far as is known by now, as bits."""
        union, standing = 0, self._standing
        for issuer in self._links.preceding[number]:
            union |= standing[issuer]
        own = 1 << self._roots[number] if number in self._roots else 0
        return union >> 1 | own | standing[number]

    # --- chains

    def parent(self, peer: PeerId, exponent: int) -> PeerId | None:
        """Who comes before a peer in the chain that put it on a level; None if the chain starts with the peer. The least id, if there are several."""
        number, names = self._links.number(peer), self._links.names
        room = self._rooms[exponent][number]
        if self._start(number, exponent) == room:
            return None
        above = self._rooms[exponent + 1]
        return min(
            names[issuer]
            for issuer, bound in self._links.preceding[number].items()
            if (left := above[issuer] - 1) > 0 and min(bound, left) == room
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


def _ask(number: int, levels: int, offers: list[dict[int, int]]) -> None:
    """Have a peer settled on some levels, given as bits."""
    while levels:
        lowest = levels & -levels
        offers[lowest.bit_length() - 1].setdefault(number, 0)
        levels ^= lowest


def _ask_highest(number: int, levels: int, offers: list[dict[int, int]]) -> None:
    """Have a peer settled on the highest of some levels, given as bits."""
    if levels:
        offers[levels.bit_length() - 1].setdefault(number, 0)
