"""Puts the stories of large particles that have ended in the place of their journals, a few at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio

from fluvial.errors import FluvialError, StorageError
from fluvial.particle import ParticleKey
from fluvial.particles.containment import Contained
from fluvial.particles.context import ActorContext
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
        steps: how many steps the machine of a particle makes; may have to run it again.
        gone: told of each particle whose journal is gone.
    """

    def __init__(
        self,
        context: ActorContext,
        *,
        skew_ms: int,
        condense: Callable[[StoredParticle, bool], bytes],
        door: Callable[[ParticleKey], AbstractAsyncContextManager[None]],
        steps: Callable[[StoredParticle], Awaitable[int]],
        gone: Callable[[ParticleKey], None],
    ) -> None:
        self._context = context
        self._skew_ms = skew_ms
        self._condense = condense
        self._door = door
        self._steps = steps
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
            told = told and await self._steps(stored) <= TOLD_STEPS_MAX
            initiator = stored.particle.initiator
            with Contained(self._context.log.bind(particle=stored.particle.id)):
                story = await self._context.processor.off_loop(initiator, lambda: self._condense(stored, told))
            if await store.retention.shrink(key, story, now_ms, skew_ms=self._skew_ms):
                self._gone(key)
