"""Which connections stand with whom, which one is used when there are two, and which one makes room for another. No I/O.

A peer's connections go through these states; at most one of them is *used*:

======== =================================================== =======
state    event                                               next
======== =================================================== =======
new      ``add``, no other one is used                       used
new      ``add``, it is preferred to the one in use          used
new      ``add``, the one in use is preferred                retired
used     another one is preferred to it                      retired
used     ``left``: it takes no more messages                 retired
retired  ``remove``: it has ended                            gone
======== =================================================== =======
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from fluvial.identity import PeerId

from fluvial_transport_tcp.places import Occupant, Places, decide
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.standing import STRANGER, Acquaintances, Rank, Standing

PER_PEER_MAX: Final = 4
"""Connections with one peer, those that are about to close included; more than a reconnecting peer ever needs."""
EVICTED_MAX: Final = 64
"""Connections that gave up their place and are not closed yet."""
ACQUAINTANCES_PER_PLACE: Final = 4
"""Peers remembered for each connection that may stand."""


class TableEntry(Protocol):
    """What the table needs to know of a connection, and what it does to one."""

    @property
    def peer(self) -> PeerId:
        """Whose it is."""
        ...

    @property
    def prefix(self) -> Prefix | None:
        """Where it comes from; None if this side dialled it."""
        ...

    @property
    def dialled(self) -> bool:
        """Whether this side dialled it."""
        ...

    @property
    def opened_at(self) -> float:
        """When its handshake was done."""
        ...

    @property
    def usable(self) -> bool:
        """Whether it takes messages."""
        ...

    @property
    def exchanged(self) -> bool:
        """Whether messages were exchanged over it."""
        ...

    @property
    def queued_bytes(self) -> int:
        """What waits to be written to it."""
        ...

    def idle_s(self, now: float) -> float:
        """Seconds since its last message."""
        ...

    def retire(self, reason: str, text: str) -> None:
        """Begin nothing new on it and close it when nothing is under way."""
        ...

    def cut(self, reason: str, text: str) -> None:
        """Close it now."""
        ...


ConnectionT = TypeVar("ConnectionT", bound=TableEntry)


class ConnectionTable(Generic[ConnectionT]):
    """All connections; at most one per peer is used.

    Args:
        own: this peer.
        places: how many connections there may be.
        prefix_places: how many of them from one prefix; asked with the prefix, None if there is no limit for it.
        together_s: two connections that came up within this time of each other may stem from both sides dialling at once.
        weight: what the authorization says of a peer, 0 for a stranger; quick.
        kept: whether this node stays connected to a peer on purpose.
    """

    def __init__(
        self,
        own: PeerId,
        *,
        places: Places,
        prefix_places: Callable[[Prefix], Places | None],
        together_s: float,
        weight: Callable[[PeerId], int],
        kept: Callable[[PeerId], bool],
    ) -> None:
        self._own = own
        self._places = places
        self._prefix_places = prefix_places
        self._together_s = together_s
        self._weight = weight
        self._kept = kept
        self._of: dict[PeerId, set[ConnectionT]] = {}
        self._all: dict[ConnectionT, None] = {}
        self._evicted: set[ConnectionT] = set()
        self._standings: dict[PeerId, Standing] = {}  # of connected peers, as of the last look
        self._used: dict[PeerId, ConnectionT] = {}
        self._peers: frozenset[PeerId] | None = frozenset()  # those in use, once they are asked for
        self._acquaintances = Acquaintances(ACQUAINTANCES_PER_PLACE * places.total)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[ConnectionT]:
        return iter(tuple(self._all))

    @property
    def queued_bytes(self) -> int:
        """What waits to be written, over all connections."""
        return sum(connection.queued_bytes for connection in self._all)

    def used(self, peer: PeerId) -> ConnectionT | None:
        """The connection that takes messages for a peer."""
        return self._used.get(peer)

    def all_of(self, peer: PeerId) -> tuple[ConnectionT, ...]:
        """All connections with a peer."""
        return tuple(self._of.get(peer, ()))

    def peers(self) -> frozenset[PeerId]:
        """All peers that messages can be sent to now."""
        if self._peers is None:
            self._peers = frozenset(self._used)
        return self._peers

    def standing(self, peer: PeerId, now: float) -> Standing:
        """How much this node has to do with a peer."""
        weight, seniority_s = self._weight(peer), self._acquaintances.seniority_s(peer, now)
        if self._kept(peer):
            return Standing(Rank.KEPT, weight, seniority_s or 0.0)
        if weight > 0:
            return Standing(Rank.TRUSTED, weight, seniority_s or 0.0)
        return STRANGER if seniority_s is None else Standing(Rank.KNOWN, 0, seniority_s)

    def rank(self, connection: ConnectionT, now: float) -> Rank:
        """The class of the peer behind a connection, what was exchanged over it so far included."""
        self._note(connection, now)
        return self.standing(connection.peer, now).rank

    # --- room ---------------------------------------------------------------------------------------------------------

    def refusal(self, peer: PeerId, prefix: Prefix | None, now: float) -> str:
        """Why there can be no further connection with a peer now; empty if there can."""
        why, _ = self._room(peer, prefix, now)
        return why

    def make_room(self, peer: PeerId, prefix: Prefix | None, now: float) -> str:
        """As :meth:`refusal`, and closes the connection in whose place the new one comes."""
        why, displaced = self._room(peer, prefix, now)
        if displaced is not None:
            if len(self._evicted) >= EVICTED_MAX:
                return "too many connections are being closed"
            self._evicted.add(displaced)
            del self._all[displaced]
            displaced.cut("evicted", "room was needed for another connection")
        return why

    def look(self, now: float) -> None:
        """Remember with whom messages were exchanged, and weigh peers anew; call it every second or so."""
        self._standings.clear()
        for connection in self._all:
            self._note(connection, now)

    def _room(self, peer: PeerId, prefix: Prefix | None, now: float) -> tuple[str, ConnectionT | None]:
        if len(self._of.get(peer, ())) >= PER_PEER_MAX:
            return f"{PER_PEER_MAX} connections stand with it already", None
        newcomer = self.standing(peer, now)
        if prefix is not None and newcomer.rank < Rank.TRUSTED and (places := self._prefix_places(prefix)) is not None:
            beside = [connection for connection in self._all if connection.prefix == prefix]
            if len(beside) >= places.total:
                why = f"this peer has all the {places.total} connections that it allows from {prefix.name}"
                return self._displace(places, beside, newcomer, now, why)
        if len(self._all) + self._places.reserved < self._places.total:
            return "", None
        why = f"this peer has all the {self._places.total} connections that it allows itself"
        return self._displace(self._places, tuple(self._all), newcomer, now, why)

    def _displace(
        self, places: Places, among: Sequence[ConnectionT], newcomer: Standing, now: float, why: str
    ) -> tuple[str, ConnectionT | None]:
        placement = decide(places, [self._occupant(connection, now) for connection in among], newcomer)
        if not placement.admitted:
            return why, None
        return "", None if placement.displaced is None else among[placement.displaced]

    def _occupant(self, connection: ConnectionT, now: float) -> Occupant:
        standing = self._standings.get(connection.peer)
        if standing is None or (standing is STRANGER and connection.exchanged):
            self._note(connection, now)
            standing = self._standings[connection.peer] = self.standing(connection.peer, now)
        return Occupant(standing, connection.idle_s(now), now - connection.opened_at)

    def _note(self, connection: ConnectionT, now: float) -> None:
        if connection.exchanged:
            self._acquaintances.note(connection.peer, now)

    # --- coming and going ---------------------------------------------------------------------------------------------

    def add(self, connection: ConnectionT) -> bool:
        """Take in a connection that begins to run; True if it is the first one in use with its peer."""
        self._all[connection] = None
        self._of.setdefault(connection.peer, set()).add(connection)
        old = self._used.get(connection.peer)
        if old is None:
            self._used[connection.peer] = connection
            self._peers = None
            return True
        winner = self._preferred(old, connection)
        self._used[connection.peer] = winner
        loser = old if winner is connection else connection
        loser.retire("superseded", "another connection with the same peer is used")
        return False

    def left(self, connection: ConnectionT) -> bool:
        """A connection takes no more messages; True if now there is none with its peer."""
        if self._used.get(connection.peer) is not connection:
            return False
        del self._used[connection.peer]
        self._peers = None
        return True

    def remove(self, connection: ConnectionT, now: float) -> None:
        """A connection has ended."""
        self._note(connection, now)
        self._all.pop(connection, None)
        self._evicted.discard(connection)
        if (others := self._of.get(connection.peer)) is not None:
            others.discard(connection)
            if not others:
                del self._of[connection.peer]
                self._standings.pop(connection.peer, None)

    def _preferred(self, old: ConnectionT, new: ConnectionT) -> ConnectionT:
        """When both sides dialled at once, both keep the one that the smaller peer id dialled; else the newer one.

        A peer dials only when it has no connection. So if the same side dialled both, or the old one has stood for longer than a
        handshake takes, the other side has lost the old one, and this side has not noticed yet.
        """
        if old.dialled == new.dialled or new.opened_at - old.opened_at > self._together_s:
            return new
        return old if old.dialled == (self._own < old.peer) else new
