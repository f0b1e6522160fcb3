"""The weights of all peers as if there were no bans, in one pass over the links, and kept up when a link changes.

A chain that starts at a root of exponent ``m`` and has ``n`` links gives the exponent ``m - n``. Level ``e`` holds the peers that some chain reaches
with exponent ``e``. Each has *room* there: how many peers its chain may have from it on, itself included. The delegation bounds that, and so does
the level, at ``e + 1``. A peer stands on a lower level, too, only if it has more room there than on each higher one; otherwise the lower place can
bring nobody anything. So nearly every peer stands on one level, and a level follows from the next higher one alone.

An update goes down the levels. It takes each level in one of two ways, whichever costs less, and both work on sets of peers:

- *Anew*: all links that come from the next higher level are followed. The first pass takes every level so.
- *Patched*, when few have moved: who trusted that it stands there by a place that has gone is asked again who gives it room, and so are those
  who lost a place on a higher level. Those who come to a place push: whoever they trust may stand higher by it. Who has only fallen need not
  push: its place is worse than the one it had, so that whoever it could bring anything has lost a place, and asks.

So an update costs at most as much as a pass, and as little as the links of those who move.

Source: Dijkstra's shortest paths with unit lengths (buckets), with Pareto labels for the second limit; decremental breadth-first search as in Even and
Shiloach 1981.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Final

from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX, TrustGraph
from fluvial_trust_graph.places import HighestLevels, PeerPlaces, Rooms

NOBODY: Final[frozenset[int]] = frozenset()


class ReachLevels:
    """Which peers chains reach, with what exponent; bans aside.

    Args:
        graph: the links; whoever changes them calls :meth:`update`.
        roots: exponents of the roots, at most 16.
        without: peers whose links do not count; for levels that are not kept up.

    Attributes:
        top: the greatest exponent by which a chain reaches a peer; anchored roots reach themselves.
    """

    def __init__(self, graph: TrustGraph, roots: Mapping[PeerId, int], *, without: Iterable[PeerId] = ()) -> None:
        self._graph = graph
        self._links = graph.links
        self._exponents = {self._links.number(peer): exponent for peer, exponent in roots.items()}
        """Of roots, by number."""
        self._roots: defaultdict[int, list[int]] = defaultdict(list)
        """Numbers, by exponent."""
        for number, exponent in self._exponents.items():
            self._roots[exponent].append(number)
        self._without = {self._links.number(peer) for peer in without}
        self._places = PeerPlaces()
        self.top: Final[Mapping[PeerId, int]] = HighestLevels(self._links, self._places)
        self._grow()
        self._descend(_Descent(set(), anew=True), EXPONENT_MAX)

    def update(self, changed: Iterable[PeerId]) -> None:
        """Put right what follows from changes of links to some peers, or of their trust in themselves."""
        numbers = {self._links.number(peer) for peer in changed}
        self._grow()
        self._descend(_Descent(numbers), max(map(self._highest, numbers), default=-1))

    def _grow(self) -> None:
        """Have places for all peers that have numbers by now."""
        self._places.wide.extend(bytes(len(self._links.names) - len(self._places.wide)))

    def _highest(self, number: int) -> int:
        """The highest level that a peer stands on, or could stand on as things are."""
        top = self._places.top
        issuers = itertools.chain.from_iterable(before[number] for before in self._links.before.values())
        return max(top(number), self._exponents.get(number, -1), max(map(top, issuers), default=-1) - 1)

    def _descend(self, descent: _Descent, start: int) -> None:
        for level in range(start, -1, -1):
            if not descent.cost():
                return
            self._settle(level, descent)

    def _settle(self, level: int, descent: _Descent) -> None:
        """Find out who stands on a level, of those that may have come to it or lost their place; the higher levels are right."""
        places = self._places
        above, here = places.levels[level + 1] if level < EXPONENT_MAX else {}, places.levels[level]
        if descent.cost() * 2 > _count(above) * 3:
            found = self._standing(level, self._offered(above, self._starts(level)))
            gone = {room: numbers - found.get(room, NOBODY) for room, numbers in here.items()}
        else:
            standing = descent.seeking.union(*self._doubtful(here, descent.gone))
            asked = standing | descent.falling
            found = self._asked(level, above, asked)
            for room, numbers in self._standing(level - 1, self._offered(descent.come)).items():
                found[room] = found.get(room, set()) | (numbers - asked)
                standing |= numbers
            gone = {room: (numbers & standing) - found.get(room, NOBODY) for room, numbers in here.items()}
        come = {room: numbers - here.get(room, NOBODY) for room, numbers in found.items()}
        for room, numbers in gone.items():
            places.leave(level, room, numbers)
        for room, numbers in come.items():
            places.enter(level, room, numbers)
        descent.note(level + 1, gone, come, found.get(level + 1, NOBODY))

    def _start(self, number: int, level: int) -> int:
        """The room that a peer has on a level as a root that signed itself."""
        depth = self._graph.anchored.get(self._links.names[number], -1) if self._exponents.get(number) == level else -1
        return min(depth, level) + 1

    def _starts(self, level: int) -> dict[int, set[int]]:
        """Who has room on a level as a root that signed itself, by room."""
        starts: defaultdict[int, set[int]] = defaultdict(set)
        for number in self._roots.get(level, ()):
            starts[self._start(number, level)].add(number)
        starts.pop(0, None)
        return starts

    def _offered(self, givers: Rooms, offered: dict[int, set[int]] | None = None) -> dict[int, set[int]]:
        """The room that peers give on the next lower level by the room that they have on theirs, besides what is offered anyway."""
        offered = {} if offered is None else offered
        for room, numbers in givers.items():
            if room > 1 and numbers:
                for bound, after in self._links.after.items():
                    offered.setdefault(min(bound, room - 1), set()).update(*map(after.__getitem__, numbers))
        return offered

    def _doubtful(self, here: Mapping[int, set[int]], gone: Rooms) -> Iterator[set[int]]:
        """Who may stand on a level by places that are gone on the next higher one."""
        for room, numbers in gone.items():
            for bound, after in self._links.after.items():
                standing = here.get(min(bound, room - 1))
                if standing:
                    yield standing.intersection(itertools.chain.from_iterable(map(after.__getitem__, numbers)))

    def _standing(self, level: int, offered: Rooms) -> dict[int, set[int]]:
        """Who may take what is offered: those who have less on all levels above a given one; each takes the most."""
        places, taken, full = self._places, set(self._without), level + 1
        wide, narrow = places.wide, places.narrow
        found: dict[int, set[int]] = {}
        for room in sorted(offered, reverse=True):
            takes = {number for number in offered[room] if wide[number] <= full} - taken
            if narrow:
                takes -= {number for number in takes & narrow.keys() if places.most_above(number, level) >= room}
            found[room] = takes
            taken |= takes
        return found

    def _asked(self, level: int, above: Rooms, asked: set[int]) -> dict[int, set[int]]:
        """The room that some peers have on a level, by looking at who trusts them, if it is more than they have above."""
        places, left = self._places, asked
        givers = defaultdict(list)
        for room, numbers in above.items():
            for bound, before in self._links.before.items():
                if room > 1:
                    givers[min(bound, room - 1)].append((numbers.isdisjoint, before))
        starts = self._starts(level)
        found: dict[int, set[int]] = {}
        for room in sorted({*givers, *starts}, reverse=True):
            left = left.difference(*found.values())
            got = left & starts[room] if room in starts else set()
            for apart, before in givers.get(room, ()):
                got |= {number for number in left if not apart(before[number])}
            found[room] = got
        for room, got in found.items() if places.narrow else ():
            got -= {number for number in got & places.narrow.keys() if places.most_above(number, level) >= room}
        return found

    # --- chains

    def parent(self, peer: PeerId, exponent: int) -> PeerId | None:
        """Who comes before a peer in the chain that put it on a level; None if the chain starts with the peer. The least id, if there are several."""
        number = self._links.number(peer)
        room = self._places.room(number, exponent)
        if self._start(number, exponent) == room:
            return None
        givers: set[int] = set()
        for left, numbers in self._places.levels[exponent + 1].items():
            for bound, before in self._links.before.items():
                if min(bound, left - 1) == room:
                    givers |= numbers.intersection(before[number])
        return min(map(self._links.names.__getitem__, givers))

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


class _Descent:
    """What an update has done on its way down to a level.

    Args:
        seeking: who looks for room on each level until it has all that there can be.
        anew: take each level anew.

    Attributes:
        falling: who has lost a wide place, so that it stands on no lower level, and seeks as well.
        gone: by room: who lost a place on the level above.
        come: by room: who came to a place on the level above, and had none as good before.
    """

    def __init__(self, seeking: set[int], *, anew: bool = False) -> None:
        self.seeking = seeking
        self.falling: set[int] = set()
        self.gone: Rooms = {}
        self.come: Rooms = {}
        self._fallen: set[int] = set()
        self._anew = anew

    def cost(self) -> float:
        """How many peers have to be looked at to patch the next level; 0 if it will be as it was, and those below it."""
        asking = len(self.seeking) + len(self.falling)
        return float("inf") if self._anew else asking + _count(self.gone) + _count(self.come)

    def note(self, full: int, gone: Rooms, come: Rooms, content: Set[int]) -> None:
        """Take up the changes of a level.

        Args:
            full: the most room that there is on the level.
            gone: by room: who lost a place on it.
            come: by room: who came to one.
            content: who has all the room there.
        """
        self.gone, self.come = gone, come
        for room, numbers in gone.items():
            if room == full:
                self.falling |= numbers
                self._fallen |= numbers
            else:
                self.seeking |= numbers
        if self._fallen:
            self.come = {room: numbers - self._fallen for room, numbers in come.items()}
        self.falling -= content
        self.seeking -= content


def _count(rooms: Rooms) -> int:
    return sum(map(len, rooms.values()))
