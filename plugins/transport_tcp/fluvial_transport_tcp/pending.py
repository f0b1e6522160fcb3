"""Accepted connections whose peer has not proven its key yet, and who of them makes room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anyio import CancelScope

from fluvial_transport_tcp.prefix import Prefix


class HandshakePlace:
    """The place of one handshake; ``spoke`` is set when the other side has sent something."""

    __slots__ = ("prefix", "scope", "spoke")

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.scope = CancelScope()
        self.spoke = False

    def heard(self) -> None:
        """The other side has sent something."""
        self.spoke = True


class PendingHandshakes:
    """Places for handshakes.

    At the limit one makes room: among those that have sent nothing yet, or else among all, the oldest from the network prefix that has
    most of them. An honest handshake takes milliseconds, so who floods with slow ones displaces its own.

    Args:
        most: the limit.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[HandshakePlace, None] = {}

    @contextmanager
    def place(self, prefix: Prefix) -> Iterator[HandshakePlace]:
        """A place for the body, which is cancelled when the place is needed; ``scope.cancelled_caught`` tells afterwards."""
        if len(self._places) >= self._most:
            displaced = self._displaced()
            del self._places[displaced]
            displaced.scope.cancel()
        place = HandshakePlace(prefix)
        with place.scope:
            self._places[place] = None
            try:
                yield place
            finally:
                self._places.pop(place, None)

    def cancel_all(self) -> None:
        """Give all of them up."""
        for place in self._places:
            place.scope.cancel()

    def _displaced(self) -> HandshakePlace:
        among = [place for place in self._places if not place.spoke] or list(self._places)
        crowds = Counter(place.prefix for place in among)
        return max(among, key=lambda place: crowds[place.prefix])  # of equals the first, which is the oldest
