"""Which peers are passed on the way from one station to another.

A path goes up from the first station to the innermost station that is around both, and down to the second one. Going up or down a level
passes the relays of that level. The station around both is not visited itself, but its outermost relay is passed: what is reached through
relays only is never left or reached directly.
"""

from __future__ import annotations

from msgspec import Struct

from fluvial_aqua.model.operands import Operand
from fluvial_aqua.model.tree import Relay, Station


class Hop(Struct, frozen=True, gc=False):
    """A peer to pass, or several one after another; ``backwards`` from the last to the first of them."""

    peer: Operand
    many: bool = False
    backwards: bool = False


def path(start: Station, end: Station) -> list[Hop]:
    """The peers between two stations, without their own."""
    if start is end:
        return []
    up, down = list(start.chain), list(end.chain)
    shared = 0
    while shared < min(len(up), len(down)) and up[shared] is down[shared]:
        shared += 1
    rising, falling = up[shared:], down[shared:]
    hops: list[Hop] = [Hop(start.peer)]
    for station in reversed(rising):
        hops += _backwards(station.relays)
    around = up[shared - 1] if shared else None
    if around is not None:
        if not rising:
            hops += _backwards(around.relays)
        elif not falling:
            hops += _forwards(around.relays)
        else:
            hops += _forwards(around.relays[:1])
    for station in falling:
        hops += _forwards(station.relays)
    hops.append(Hop(end.peer))
    return _without_circles(hops)[1:-1]


def _forwards(relays: tuple[Relay, ...]) -> list[Hop]:
    return [Hop(one.peer, one.many) for one in relays]


def _backwards(relays: tuple[Relay, ...]) -> list[Hop]:
    return [Hop(one.peer, one.many, backwards=one.many) for one in reversed(relays)]


def _without_circles(hops: list[Hop]) -> list[Hop]:
    """Cut back to a peer that was passed before; the ends stay, even if they are one peer."""
    way: list[Hop] = []
    for hop in hops:
        if not hop.many and hop in way:
            del way[way.index(hop) + 1 :]
        elif hop.many and way and way[-1].peer == hop.peer:
            continue
        else:
            way.append(hop)
    return way if len(way) > 1 else [way[0], hops[-1]]
