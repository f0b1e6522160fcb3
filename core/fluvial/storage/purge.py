"""Forgets what died long ago, a little at a time, so that nobody who writes meanwhile notices much of it.

How it goes: some particles are removed in one transaction, then follows a pause of twice the time that took. So the purge has at most a third of
the database, and less the busier it is. It removes more at a time while it falls behind (the oldest of what should be gone gets older),
and fewer when a transaction takes longer than ``STEP_S``. When nothing is left it looks again after ``REST_S``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
import structlog

from fluvial.errors import StorageError
from fluvial.storage.particles import ParticleStore

STEP_MIN: Final = 50
STEP: Final = 100
STEP_MAX: Final = 1000
"""Particles removed in one transaction: at least, to begin with, at most."""

STEP_S: Final = 0.05
"""A transaction that takes longer holds up others for too long."""

PAUSE: Final = 2.0
"""Times what a step took."""

REST_S: Final = 5.0


class Purge:
    """Removes dead particles from the store for ever.

    Args:
        store: where from.
        now_ms: the time, milliseconds since 1970.
        keep_ms: how long after its deadline a particle can still be looked at.
        skew_ms: how far clocks may be apart; a particle stays this long in any case.
        log: told when the store fails.
    """

    def __init__(
        self,
        store: ParticleStore,
        *,
        now_ms: Callable[[], int],
        keep_ms: int,
        skew_ms: int,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._now_ms = now_ms
        self._keep_ms = keep_ms
        self._skew_ms = skew_ms
        self._log = log
        self._step = STEP
        self._behind_ms = 0

    async def run(self) -> None:
        """Purge until cancelled; a store that fails only puts it off."""
        while True:
            try:
                pause_s = await self._once()
            except StorageError as error:
                self._log.error("storage_failed", error=error.message)
                pause_s = REST_S
            await anyio.sleep(pause_s)

    async def _once(self) -> float:
        """Take one step; how long to pause then, in seconds."""
        began = anyio.current_time()
        step = self._step
        purged = await self._store.purge_step(self._now_ms(), keep_ms=self._keep_ms, skew_ms=self._skew_ms, limit=step)
        took = anyio.current_time() - began
        if purged.count < step:
            self._step, self._behind_ms = STEP, 0
            return REST_S
        falls_behind = purged.oldest_ms > self._behind_ms > 0
        self._behind_ms = purged.oldest_ms
        if purged.work_s > STEP_S:
            self._step = max(STEP_MIN, step // 2)
        elif falls_behind:
            self._step = min(STEP_MAX, step + STEP)
        return took * PAUSE
