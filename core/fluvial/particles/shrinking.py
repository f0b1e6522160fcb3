"""Puts the stories of large particles that have ended in the place of their journals, a few at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import anyio

from fluvial.air.machine.slices import Clock
from fluvial.errors import FluvialError, StorageError
from fluvial.fairness import Upstream
from fluvial.particle import ParticleKey
from fluvial.particles.containment import Contained
from fluvial.particles.context import ActorContext
from fluvial.particles.session import ParticleSession
from fluvial.particles.sliced import SlicedInput
from fluvial.particles.turns import LoopTurn
from fluvial.stored import StoredParticle

SWEEP_S: Final = 1.0
SHRUNK_MAX: Final = 16
"""Particles that are shrunk in one sweep."""

TOLD_STEPS_MAX: Final = 5_000
TOLD_BYTES_MAX: Final = 2**20
"""Steps and journal of a particle whose story is told when it is shrunk: of others only that they were here."""


class Shrinker:
    """See the module's docstring.

    Args:
        context: what actors work with.
        skew_ms: how far clocks may be apart.
        condense: makes the story of a particle, with or without its events; runs in a thread.
        door: a particle is opened by one at a time.
        restoring: the run that makes the session of a particle.
        gone: told of each particle whose journal is gone.
    """

    def __init__(
        self,
        context: ActorContext,
        *,
        skew_ms: int,
        condense: Callable[[StoredParticle, bool], bytes],
        door: Callable[[ParticleKey], AbstractAsyncContextManager[None]],
        restoring: Callable[[StoredParticle], Awaitable[SlicedInput[Any, ParticleSession]]],
        gone: Callable[[ParticleKey], None],
    ) -> None:
        self._context = context
        self._skew_ms = skew_ms
        self._condense = condense
        self._door = door
        self._restoring = restoring
        self._gone = gone

    async def run(self) -> None:
        """Until cancelled; a store that fails only puts it off."""
        retention, own = self._context.store.retention, self._context.keys.public_key
        while True:
            await anyio.sleep(SWEEP_S)
            for key in retention.to_shrink(self._context.clock.now_ms(), SHRUNK_MAX, own):
                try:
                    await self._shrink(key)
                except StorageError as error:
                    self._context.log.error("storage_failed", error=error.message)
                    break
                except FluvialError:  # its script or journal cannot be read any more: it stays as it is, until it goes
                    retention.leave(key)

    async def _shrink(self, key: ParticleKey) -> None:
        store, now_ms = self._context.store, self._context.clock.now_ms()
        async with self._door(key):
            if (stored := await store.load(key)) is None:
                store.retention.leave(key)
                return
            told = sum(len(entry.payload) for entry in stored.journal) <= TOLD_BYTES_MAX
            told = told and not await self._is_long(stored)
            initiator, upstream = stored.particle.initiator, Upstream(stored.sender)
            with Contained(self._context.log.bind(particle=stored.particle.id)):
                story = await self._context.processor.off_loop(
                    initiator, lambda: self._condense(stored, told), upstream=upstream
                )
            if await store.retention.shrink(key, story, now_ms, skew_ms=self._skew_ms):
                self._gone(key)

    async def _is_long(self, stored: StoredParticle) -> bool:
        """Whether the machine of a particle makes too many steps for its story to be told; found out in slices."""
        run = await self._restoring(stored)

        def advance(steps: int, clock: Clock) -> bool | None:
            over = run.advance(steps, clock) is not None
            is_long = run.holder.steps > TOLD_STEPS_MAX
            return is_long if over or is_long else None

        try:
            return await self._context.processor.finish(
                stored.particle.initiator, advance, upstream=Upstream(stored.sender)
            )
        finally:
            turn = LoopTurn()
            for _ in run.holder.release():
                await turn.over()
