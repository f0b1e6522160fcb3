"""Where peers stand: on which levels, and with how much room there. See :mod:`fluvial_trust_graph.levels` for what that means.

A place is *wide* if its room is all that the level allows: level ``e`` gives ``e + 1``. No lower level can give a peer more then, so a wide place is
the lowest one of its peer, and nearly all places are wide. They are kept in one byte a peer; the others, *narrow* ones, in dictionaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Final, TypeAlias, TypeVar, overload

from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.numbering import NumberedLinks

Other = TypeVar("Other")

Rooms: TypeAlias = Mapping[int, Set[int]]
"""By room: numbers of peers."""


class PeerPlaces:
    """Places by level and room, and by peer.

    Attributes:
        levels: by level, then by room: who stands there.
        wide: by number of a peer: the room of its wide place, which is the level plus one; 0 if it has none.
        narrow: by number of a peer, only of those with narrow places: the room by level.
    """

    def __init__(self) -> None:
        self.levels: Final[list[dict[int, set[int]]]] = [{} for _ in range(EXPONENT_MAX + 1)]
        self.wide: Final = bytearray()
        self.narrow: Final[dict[int, dict[int, int]]] = {}

    def room(self, number: int, level: int) -> int:
        """The room of a peer on a level; 0 if it does not stand there."""
        if self.wide[number] == level + 1:
            return level + 1
        return self.narrow[number].get(level, 0) if number in self.narrow else 0

    def top(self, number: int) -> int:
        """The highest level of a peer; -1 if it stands nowhere."""
        wide = self.wide[number] - 1
        return max(wide, *self.narrow[number]) if number in self.narrow else wide

    def most_above(self, number: int, level: int) -> int:
        """The most room that a peer has on a higher level."""
        if self.wide[number] > level + 1:
            return self.wide[number]
        if number not in self.narrow:
            return 0
        return max((room for higher, room in self.narrow[number].items() if higher > level), default=0)

    def leave(self, level: int, room: int, numbers: Set[int]) -> None:
        """Take places of peers away."""
        standing = self.levels[level][room]
        standing -= numbers
        if not standing:
            del self.levels[level][room]
        if room == level + 1:
            wide = self.wide
            for number in numbers:
                wide[number] = 0
        else:
            for number in numbers:
                places = self.narrow[number]
                del places[level]
                if not places:
                    del self.narrow[number]

    def enter(self, level: int, room: int, numbers: Set[int]) -> None:
        """Give places to peers, and take away those on lower levels that give no more room."""
        self.levels[level].setdefault(room, set()).update(numbers)
        if self.narrow:
            for number in numbers & self.narrow.keys():
                for lower, less in list(self.narrow[number].items()):
                    if lower < level and less <= room:
                        self.leave(lower, less, {number})
        wide, full = self.wide, room == level + 1
        for number in numbers:
            if (lower := wide[number]) and lower <= room:
                self.leave(lower - 1, lower, {number})
            if full:
                wide[number] = room
            else:
                self.narrow.setdefault(number, {})[level] = room


class HighestLevels(Mapping[PeerId, int]):
    """The highest levels of peers, by their ids; those who stand nowhere are not in it.

    Args:
        links: with the peers' numbers.
        places: by number.
    """

    def __init__(self, links: NumberedLinks, places: PeerPlaces) -> None:
        self._links = links
        self._number = links.find
        self._wide = places.wide
        self._narrow = places.narrow

    def __getitem__(self, peer: PeerId) -> int:
        level = self.get(peer, -1)
        if level < 0:
            raise KeyError(peer)
        return level

    @overload
    def get(self, peer: PeerId, /) -> int | None: ...
    @overload
    def get(self, peer: PeerId, other: int, /) -> int: ...
    @overload
    def get(self, peer: PeerId, other: Other, /) -> int | Other: ...
    def get(self, peer: PeerId, other: object = None, /) -> object:
        """The highest level of a peer, or something else; searches ask for it all the time."""
        number = self._number(peer)
        if number is None or number >= len(self._wide):  # it may have got its number after the last update
            return other
        if number in self._narrow:
            return max(self._wide[number] - 1, *self._narrow[number])
        wide = self._wide[number]
        return wide - 1 if wide else other

    def __contains__(self, peer: object) -> bool:
        return isinstance(peer, PeerId) and self.get(peer) is not None

    def __iter__(self) -> Iterator[PeerId]:
        standing = (number for number, wide in enumerate(self._wide) if wide or number in self._narrow)
        return map(self._links.names.__getitem__, standing)

    def __len__(self) -> int:
        narrow_alone = sum(not self._wide[number] for number in self._narrow)
        return len(self._wide) - self._wide.count(0) + narrow_alone
