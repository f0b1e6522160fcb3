"""The keys of all particles in the store whose time is not over, in memory, so that a new particle costs no query.

The answer "not here" is exact; "perhaps here" is to be looked up. Keys are sorted into buckets by their deadline, so that those whose time is over
go without being looked at one by one. About 100 bytes a particle.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fluvial.particle import ParticleKey

BUCKET_MS: Final = 10_000


class KnownKeys:
    """Knows nothing until it is filled: then every particle is perhaps here."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[ParticleKey]] = {}
        self._filled = False
        self._forgotten = 0  # buckets below this one

    def __len__(self) -> int:
        """How many keys are remembered."""
        return sum(map(len, self._buckets.values()))

    def add(self, key: ParticleKey, deadline_ms: int) -> None:
        """From now on the particle is perhaps here."""
        self._buckets.setdefault(deadline_ms // BUCKET_MS, set()).add(key)

    def fill(self, keys: Iterable[tuple[ParticleKey, int]], since_ms: int) -> None:
        """These and those that were added are all whose deadline, given with each, is not before a time, in milliseconds since 1970."""
        for key, deadline_ms in keys:
            self.add(key, deadline_ms)
        self._filled = True
        self.forget(since_ms)

    def has(self, key: ParticleKey, deadline_ms: int) -> bool:
        """Whether the particle is perhaps here; False is certain. What was forgotten perhaps is, too: it lives again if the clock was set back."""
        bucket = deadline_ms // BUCKET_MS
        return not self._filled or bucket < self._forgotten or key in self._buckets.get(bucket, ())

    def forget(self, before_ms: int) -> None:
        """Forget the keys whose deadline is before a time, in milliseconds since 1970."""
        end = before_ms // BUCKET_MS
        self._forgotten = max(self._forgotten, end)
        for bucket in [bucket for bucket in self._buckets if bucket < end]:
            del self._buckets[bucket]
