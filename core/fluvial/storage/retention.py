"""Removes from the store what is not needed any more; each method is one transaction.

What goes, and what is left of it, is in ``removal.py``; when, in ``purge.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from fluvial.particle import ParticleKey
from fluvial.storage.account import DiskAccount
from fluvial.storage.holdings import Holdings, Removed

PURGED_MAX: Final = 500
"""Particles removed in one transaction, unless asked otherwise, so that others need not wait long for it."""

FREED_BYTES_MAX: Final = 8 * 2**20
"""Bytes that are freed in one transaction, unless a single particle has more."""


class Retention(ABC):
    """See the module's docstring. Any method raises ``StorageError`` if the database fails.

    Args:
        holdings: told of what is gone.

    Attributes:
        account: whose bytes are whose.
    """

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self.account: Final[DiskAccount] = holdings.account

    @property
    def admitted(self) -> int:
        """How many particles have come since the start."""
        return self._holdings.admitted

    async def forget(self, now_ms: int, *, keep_ms: int, skew_ms: int, limit: int = PURGED_MAX) -> Removed:
        """Forget particles that expired long ago, with journal, outbox and unused scripts; call again while it finds some.

        Args:
            now_ms: milliseconds since 1970.
            keep_ms: how long after its deadline a particle can still be looked at.
            skew_ms: how far clocks may be apart. A particle stays this long in any case: its row is the replay guard.
            limit: how many at most.
        """
        if keep_ms < 0 or skew_ms < 0:
            raise ValueError("keep_ms and skew_ms must not be negative: a particle's row must outlive the particle")
        self._holdings.known.forget(now_ms - skew_ms)
        return self._told(await self._forget(now_ms - max(keep_ms, skew_ms), now_ms - skew_ms, limit))

    async def make_room(self, now_ms: int, *, skew_ms: int, limit: int = PURGED_MAX) -> Removed:
        """Remove particles that have ended, the oldest first, however young they are; a particle whose time is not over is not run again.

        Many may be here that have not ended. So a step looks at some, the next one goes on from there, and the one after the last begins with the
        oldest: nothing was found if a step removes none and has nothing more to look at (``reached``).

        Args:
            now_ms: milliseconds since 1970.
            skew_ms: how far clocks may be apart.
            limit: how many at most; fewer if they are large.
        """
        return self._told(await self._make_room(now_ms, now_ms - skew_ms, limit))

    def to_shrink(self, now_ms: int, most: int, own: bytes) -> list[ParticleKey]:
        """Large particles that have ended, so many of them; asks no database. Those of the initiator ``own`` end with their deadlines."""
        return self._holdings.to_shrink(now_ms, most, own)

    async def shrink(self, key: ParticleKey, story: bytes, now_ms: int, *, skew_ms: int) -> bool:
        """Put a story in the place of a particle; False if something is left to do for it, and nothing was done.

        Args:
            key: the particle.
            story: its story.
            now_ms: milliseconds since 1970.
            skew_ms: how far clocks may be apart.
        """
        removed = self._told(await self._shrink(key, story, now_ms, now_ms - skew_ms))
        if not removed.count:
            self._holdings.put_off(key)
        return bool(removed.count)

    def leave(self, key: ParticleKey) -> None:
        """A particle cannot be shrunk, or is gone; it is not named again."""
        self._holdings.leave(key)

    @abstractmethod
    async def measure(self) -> None:
        """Compare the account with what the database says of its file."""

    def _told(self, removed: Removed) -> Removed:
        self._holdings.removed(removed)
        return removed

    # Particles that died before ``guarded_ms`` need no replay guard:

    @abstractmethod
    async def _forget(self, end_ms: int, guarded_ms: int, most: int) -> Removed:
        """Remove what died before ``end_ms``."""

    @abstractmethod
    async def _make_room(self, now_ms: int, guarded_ms: int, most: int) -> Removed:
        """Remove what has ended by ``now_ms``."""

    @abstractmethod
    async def _shrink(self, key: ParticleKey, story: bytes, now_ms: int, guarded_ms: int) -> Removed:
        """Put a story in the place of a particle that has ended by ``now_ms``."""
