"""Which connections stand with whom, and which one is used when there are two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import anyio
from fluvial.identity import PeerId

from fluvial_transport_tcp.connection import Connection
from fluvial_transport_tcp.metrics import Metrics

PER_PEER_MAX: Final = 4
"""Connections with one peer, those that are about to close included; more than a reconnecting peer ever needs."""
EVICTABLE_IDLE_S: Final = 10.0
"""Without messages for so long, a connection may be closed to make room for another."""


class Table:
    """All connections; at most one per peer is used.

    Args:
        own: this peer.
        connections_max: in total.
        together_s: two connections that came up within this time of each other may stem from both sides dialling at once.
        metrics: where they are counted.
    """

    def __init__(self, own: PeerId, *, connections_max: int, together_s: float, metrics: Metrics) -> None:
        self._own = own
        self._most = connections_max
        self._together_s = together_s
        self._all: set[Connection] = set()
        self._used: dict[PeerId, Connection] = {}
        metrics.connections = lambda: len(self._all)
        metrics.queued_bytes = lambda: sum(connection.queued_bytes for connection in self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._all))

    def used(self, peer: PeerId) -> Connection | None:
        """The connection that takes messages for a peer."""
        return self._used.get(peer)

    def peers(self) -> frozenset[PeerId]:
        """All peers that messages can be sent to now."""
        return frozenset(self._used)

    def refusal(self, peer: PeerId) -> str:
        """Why there can be no further connection with a peer; empty if there can. May close an idle one to make room."""
        if sum(connection.peer == peer for connection in self._all) >= PER_PEER_MAX:
            return f"{PER_PEER_MAX} connections stand with it already"
        now = anyio.current_time()
        if len(self._all) < self._most:
            return ""
        idle = max((c for c in self._all if c.usable), key=lambda c: c.idle_s(now), default=None)
        if idle is None or idle.idle_s(now) < EVICTABLE_IDLE_S:
            return f"this peer has all the {self._most} connections that it allows itself"
        idle.cut("evicted", "room was needed for another connection")
        return ""

    def add(self, connection: Connection) -> bool:
        """Take in a connection that begins to run; True if it is the first one in use with its peer."""
        self._all.add(connection)
        old = self._used.get(connection.peer)
        if old is None:
            self._used[connection.peer] = connection
            return True
        winner = self._preferred(old, connection)
        self._used[connection.peer] = winner
        loser = old if winner is connection else connection
        loser.retire("superseded", "another connection with the same peer is used")
        return False

    def left(self, connection: Connection) -> bool:
        """A connection takes no more messages; True if now there is none with its peer."""
        if self._used.get(connection.peer) is not connection:
            return False
        del self._used[connection.peer]
        return True

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        self._all.discard(connection)

    def _preferred(self, old: Connection, new: Connection) -> Connection:
        """When both sides dialled at once, both keep the one that the smaller peer id dialled; else the newer one.

        A peer dials only when it has no connection. So if the same side dialled both, or the old one has stood for longer than a
        handshake takes, the other side has lost the old one, and this side has not noticed yet.
        """
        if old.dialled == new.dialled or new.opened_at - old.opened_at > self._together_s:
            return new
        return old if old.dialled == (self._own < old.peer) else new
