"""Removes what died long ago, or what ended and there is no room for, a little at a time, so that nobody who writes meanwhile notices much of it.

How it goes: some particles are removed in one transaction, then follows a pause of twice the time that took. So the purge has at most a third of
the database, and less the busier it is. While it falls behind (fewer go than ``MORE`` for each that comes, or the oldest of what should be gone gets
older) it removes more at a time, and has its third however busy the database is: whoever writes so much waits rather than fill the disk. A
transaction that takes longer than ``STEP_S``, or ``STEP_S_BEHIND``, is followed by smaller ones. When nothing is left to do it looks every ``GLANCE_S`` whether the account is over
what may be kept, which costs no query, and every ``REST_S`` whether something has become old. If it is over and nothing of it may go, as when
all waits to be delivered, it looks at it again after ``REST_S``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import structlog

from fluvial.errors import StorageError
from fluvial.particle import ParticleKey
from fluvial.storage.holdings import Removed
from fluvial.storage.retention import Retention

STEP_MIN: Final = 10
STEP: Final = 20
STEP_MAX: Final = 1000
"""Particles removed in one transaction: at least, to begin with, at most."""

STEP_S: Final = 0.004
"""A transaction that takes longer holds up others for too long: a flow of one step takes 3 ms."""

STEP_S_BEHIND: Final = 0.05
"""The same while it falls behind. Under full load the statements of ten particles take as long as those of fifty: they wait for the processor."""

MORE: Final = 1.5
"""While there is something to remove, so many go for each that comes."""

PAUSE: Final = 2.0
"""Times what a step took."""

REST_S: Final = 5.0
GLANCE_S: Final = 0.5


class Purge:
    """Removes from the store what is not to be kept.

    Args:
        retention: of the store.
        now_ms: the time, milliseconds since 1970.
        keep_ms: how long after its deadline a particle can still be looked at.
        keep_bytes: how much may be kept; while the account has more, what has ended goes, the oldest first.
        skew_ms: how far clocks may be apart; a particle is not run again for this long in any case.
        gone: told of particles that were removed.
        log: told when the store fails.
    """

    def __init__(
        self,
        retention: Retention,
        *,
        now_ms: Callable[[], int],
        keep_ms: int,
        keep_bytes: int,
        skew_ms: int,
        gone: Callable[[Sequence[ParticleKey]], None],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._retention = retention
        self._now_ms = now_ms
        self._keep_ms = keep_ms
        self._keep_bytes = keep_bytes
        self._skew_ms = skew_ms
        self._gone = gone
        self._log = log
        self._step = STEP
        self._behind_ms = 0
        self._owed = 0.0
        self._admitted = 0
        self._removed = 0

    async def run(self) -> None:
        """Purge until cancelled; a store that fails only puts it off."""
        while True:
            self._owed, self._admitted, self._removed = 0.0, self._retention.admitted, 0
            try:
                while self._is_full() and await self._take(self._make_room):
                    pass
                while await self._take(self._forget):
                    pass
                await self._retention.measure()
            except StorageError as error:
                self._log.error("storage_failed", error=error.message)
            await self._rest()

    def _is_full(self) -> bool:
        return self._retention.account.total > self._keep_bytes

    async def _rest(self) -> None:
        """Until there may be something to do; all that fills the store may have to stay for now, and then looking at it again would be in vain."""
        end = anyio.current_time() + REST_S
        in_vain = self._is_full() and not self._removed
        while True:
            await anyio.sleep(GLANCE_S)
            if (self._is_full() and not in_vain) or anyio.current_time() >= end:
                return

    async def _forget(self) -> Removed:
        retention = self._retention
        return await retention.forget(self._now_ms(), keep_ms=self._keep_ms, skew_ms=self._skew_ms, limit=self._step)

    async def _make_room(self) -> Removed:
        return await self._retention.make_room(self._now_ms(), skew_ms=self._skew_ms, limit=self._step)

    async def _take(self, remove: Callable[[], Awaitable[Removed]]) -> bool:
        """Take one step, and pause; False if there is nothing left to remove."""
        began = anyio.current_time()
        removed = await remove()
        took = anyio.current_time() - began
        self._removed += removed.count
        self._gone(removed.keys)
        if not removed.count and removed.reached is None:
            self._step, self._behind_ms = STEP, 0
            return False
        if not removed.count:  # it only looked: how long that took says nothing of how many may go at a time
            await anyio.sleep(took * PAUSE)
            return True
        if self._falls_behind(removed):
            self._set_step(removed.work_s, within_s=STEP_S_BEHIND, more=STEP + int(self._owed))
            took = removed.work_s or took  # for others it has waited long enough
        else:
            self._set_step(removed.work_s, within_s=STEP_S, more=0)
        await anyio.sleep(took * PAUSE)
        return True

    def _falls_behind(self, removed: Removed) -> bool:
        """Whether less goes than comes, or what should be gone gets older."""
        came, self._admitted = self._retention.admitted - self._admitted, self._retention.admitted
        self._owed = max(0.0, self._owed + MORE * came - removed.count)
        older = removed.oldest_ms > self._behind_ms > 0
        self._behind_ms = removed.oldest_ms
        return older or self._owed > 0

    def _set_step(self, work_s: float, *, within_s: float, more: int) -> None:
        step = self._step // 2 if work_s > within_s else self._step + more
        self._step = min(max(step, STEP_MIN), STEP_MAX)
