"""Which particles in memory are due to be dropped, without going through all of them; pure."""

from __future__ import annotations

from typing import Final

from fluvial.particle import Particle, ParticleKey

BUCKET_MS: Final = 1_000


class Deadlines:
    """Keys of particles, sorted roughly by the time when these die."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[ParticleKey, int]] = {}

    def put(self, particle: Particle) -> None:
        """Put a particle in, if it is not there."""
        bucket = particle.deadline_ms // BUCKET_MS
        self._buckets.setdefault(bucket, {})[particle.key] = particle.deadline_ms

    def remove(self, particle: Particle) -> None:
        """Take a particle out, if it is there."""
        number = particle.deadline_ms // BUCKET_MS
        if (bucket := self._buckets.get(number)) is None:
            return
        bucket.pop(particle.key, None)
        if not bucket:
            del self._buckets[number]

    def passed(self, now_ms: int) -> list[ParticleKey]:
        """The particles that are dead at a time, in milliseconds since 1970."""
        due = [bucket for number, bucket in self._buckets.items() if number <= now_ms // BUCKET_MS]
        return [key for bucket in due for key, deadline_ms in bucket.items() if deadline_ms <= now_ms]
