"""What others have not read though it is here for them, bounded for all connections together; pure.

An answer waits until whoever asked reads it, and a request that timed out stays in the queue of its connection: the other side may be slow, and take it yet. But
one that does not read, and gives signs of life, would keep megabytes for as long as it likes, and each further connection as many.
"""

from __future__ import annotations

from typing import Final, Protocol

LEFTOVER_BYTES_MAX: Final = 67_108_864
"""Of all connections; above it the one that has had something left for the longest time is cut."""
SMALL: Final = 65_536
"""Bytes of one connection that are not counted."""
LOOK_BYTES: Final = 1_048_576
"""Answers of so many bytes are added to them before it is found out how much all is."""


class Writing(Protocol):
    """A connection."""

    @property
    def unread_bytes(self) -> int:
        """What waits to be written, and answers that wait for room in the queue."""
        ...

    def cut(self, reason: str, text: str) -> None:
        """End it; it is removed from here then."""
        ...


class Leftovers:
    """See the module's docstring.

    Args:
        bytes_max: the bound.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max: Final = bytes_max
        self._of: dict[Writing, None] = {}
        self._answered = 0  # bytes since the last look at all

    def answered(self, connection: Writing, size: int) -> None:
        """An answer of so many bytes is here for a connection."""
        if connection.unread_bytes <= SMALL:
            return
        self._of[connection] = None
        self._answered += size
        if self._answered >= LOOK_BYTES:
            self._bound()

    def look(self, connection: Writing) -> None:
        """Nobody waits any more for the answer to something that was sent over a connection."""
        if connection.unread_bytes > SMALL:
            self._of[connection] = None
            self._bound()

    def _bound(self) -> None:
        self._answered = 0
        while self._of and sum(one.unread_bytes for one in self._of) > self._bytes_max:
            longest = next(iter(self._of))
            del self._of[longest]
            longest.cut("stalled", "it does not read what is here for it")  # which may lead here again

    def remove(self, connection: Writing) -> None:
        """All is written, or the connection has ended."""
        self._of.pop(connection, None)
