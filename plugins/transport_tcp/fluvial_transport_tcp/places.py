"""Who gets a place when connections are limited: a decision over who is there, without I/O.

Let ``total`` be the number of places. Strangers take ``total - reserved`` of them at most. At most ``total - for_strangers`` peers with
a standing are protected by it; if there are more, the least of them count as strangers. So neither shuts out the other. Then:

1. A newcomer takes a free place; a stranger only if there are fewer strangers than that.
2. A newcomer with a standing displaces a stranger, the idlest first, as long as more than ``for_strangers`` of them are there.
3. Else it displaces the least of those with a lower standing than its own.
4. Any newcomer displaces the idlest stranger, if that one has been idle for ``EVICTABLE_IDLE_S``.
5. Else it displaces the stranger that has been there longest, if that one has had its turn of ``TURN_S``.
6. Else it is refused.

By 5 a crowd of strangers that keep busy takes turns instead of locking others out; who uses its turn to exchange a message has a
standing from then on, and is before all who come later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from fluvial_transport_tcp.standing import Rank, Standing

EVICTABLE_IDLE_S: Final = 10.0
"""Without messages for so long, a stranger's connection may be closed to make room for another."""
TURN_S: Final = 1.0
"""What every stranger that was let in has for itself: enough for some exchanges."""


class Occupant(NamedTuple):
    """Who has a place; times in seconds."""

    standing: Standing
    idle_s: float
    age_s: float


class Places(msgspec.Struct, frozen=True):
    """The places of a node, or of one network prefix.

    Attributes:
        total: how many there are.
        reserved: of these, how many strangers cannot take.
        for_strangers: of these, how many are always left to strangers.
    """

    total: int
    reserved: int
    for_strangers: int

    @classmethod
    def shared(cls, total: int, *, reserved_percent: int, strangers_percent: int) -> Places:
        """Places divided by percentages; one at least is always left to strangers."""
        return cls(total, total * reserved_percent // 100, max(1, total * strangers_percent // 100))


class Placement(NamedTuple):
    """Whether the newcomer is let in, and in whose place if not in a free one (an index into the occupants)."""

    admitted: bool
    displaced: int | None = None


FREE: Final = Placement(True)
REFUSED: Final = Placement(False)


def decide(places: Places, occupants: Sequence[Occupant], newcomer: Standing) -> Placement:
    """Whether a newcomer gets a place; see the module's docstring for the rules."""
    taken = len(occupants)
    if taken + places.reserved < places.total:
        return FREE
    by_standing = sorted(range(taken), key=lambda index: occupants[index].standing, reverse=True)
    open_to_known = places.total - places.for_strangers
    known = [index for index in by_standing[:open_to_known] if occupants[index].standing.rank > Rank.STRANGER]
    strangers = by_standing[len(known) :]
    is_known = newcomer.rank > Rank.STRANGER
    if taken < places.total and (is_known or len(strangers) < places.total - places.reserved):
        return FREE
    if is_known:
        if len(strangers) > places.for_strangers:
            return Placement(True, max(strangers, key=lambda index: occupants[index].idle_s))
        if known and occupants[known[-1]].standing < newcomer:
            return Placement(True, known[-1])
    return _turn(occupants, strangers)


def _turn(occupants: Sequence[Occupant], strangers: Sequence[int]) -> Placement:
    """Rules 4 to 6."""
    if not strangers:
        return REFUSED
    idlest = max(strangers, key=lambda index: occupants[index].idle_s)
    if occupants[idlest].idle_s >= EVICTABLE_IDLE_S:
        return Placement(True, idlest)
    oldest = max(strangers, key=lambda index: occupants[index].age_s)
    return Placement(True, oldest) if occupants[oldest].age_s >= TURN_S else REFUSED
