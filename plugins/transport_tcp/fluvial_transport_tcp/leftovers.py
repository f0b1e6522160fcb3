"""What is still to be written though nobody waits for its answer any more, bounded for all connections together; pure.

A request that timed out stays in the queue of its connection: the other side may be slow, and take it yet. But one that does not read, and gives signs of
life, would keep megabytes for as long as it likes, and each further connection as many.
"""

from __future__ import annotations

from typing import Final, Protocol

LEFTOVER_BYTES_MAX: Final = 16_777_216
"""Of all connections; above it the one that has had something left for the longest time is cut."""
SMALL: Final = 65_536
"""Bytes of one connection that are not counted."""


class Writing(Protocol):
    """A connection."""

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        ...

    def cut(self, reason: str, text: str) -> None:
        """End it; it is removed from here then."""
        ...


class Leftovers:
    """See the module's docstring.

    Args:
        bytes_max: the bound.
    """

    def __init__(self, bytes_max: int = LEFTOVER_BYTES_MAX) -> None:
        self._bytes_max: Final = bytes_max
        self._of: dict[Writing, None] = {}

    def look(self, connection: Writing) -> None:
        """Nobody waits any more for the answer to something that was sent over a connection."""
        if connection.queued_bytes <= SMALL:
            return
        self._of[connection] = None
        while self._of and sum(one.queued_bytes for one in self._of) > self._bytes_max:
            longest = next(iter(self._of))
            del self._of[longest]
            longest.cut(
                "stalled", "it did not read what was sent, until nobody waited for an answer"
            )  # which may lead here again

    def remove(self, connection: Writing) -> None:
        """All is written, or the connection has ended."""
        self._of.pop(connection, None)
