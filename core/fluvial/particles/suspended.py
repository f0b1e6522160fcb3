"""The particles that are to go on when there is room: after a restart, after the store has failed, and when memory is short.

They go on a few at a time, fairly by initiator, as long as memory is left for others. So a peer answers at once after a restart, however
many particles it has; one that is needed before its turn is restored then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

from fluvial.air.machine.memory import MACHINE_BYTES
from fluvial.errors import FluvialError, Refused, StorageError
from fluvial.fairness import FairQueue
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.memory import MEMORY

AT_ONCE: Final = 4
"""Particles that are being restored at the same time."""
PAUSE_S: Final = 0.5
"""Before it is looked again whether there is room, and before the store is tried again."""
PAUSE_STOPPED_S: Final = 1.0
"""After the store has failed, or a run was stopped for want of memory."""


class Suspended:
    """See the module's docstring.

    Args:
        go_on: takes a particle up again.
        has_room: whether there is room for one that held so many bytes.
        weight: how much an initiator counts; see :class:`FairQueue`.
        log: a logger bound to the peer.
    """

    def __init__(
        self,
        go_on: Callable[[ParticleKey], Awaitable[None]],
        *,
        has_room: Callable[[int], bool],
        weight: Callable[[PeerId], int],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._go_on = go_on
        self._has_room = has_room
        self._log = log
        self._line: FairQueue[ParticleKey] = FairQueue(weight)
        self._lined: dict[ParticleKey, int] = {}
        self._news = anyio.Event()
        self._not_before_s = 0.0

    def __len__(self) -> int:
        """How many are in line."""
        return len(self._lined)

    def put(self, key: ParticleKey, initiator: PeerId, held: int = MACHINE_BYTES) -> None:
        """A particle is to go on, which held so many bytes of memory."""
        if key not in self._lined:
            self._lined[key] = held
            self._line.push(initiator, key)
            self._news.set()

    def put_back(self, key: ParticleKey, initiator: PeerId, held: int) -> None:
        """As :meth:`put`, for one that has just been stopped by a failing store or for want of memory: nobody goes on before a pause.

        What stopped it may still be there, and the calls that it makes would be made again and again.
        """
        self._not_before_s = anyio.current_time() + PAUSE_STOPPED_S
        self.put(key, initiator, held)

    async def run(self) -> None:
        """Until cancelled: have them go on."""
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(self._work)

    async def _work(self) -> None:
        while True:
            if not self._line:
                self._news = self._news if not self._news.is_set() else anyio.Event()
                await self._news.wait()
                continue
            if (left_s := self._not_before_s - anyio.current_time()) > 0:
                await anyio.sleep(left_s)
                continue
            initiator, key = self._line.pop()
            held = self._lined.pop(key)
            if not self._has_room(held) or not await self._tried(key):
                self.put(key, initiator, held)
                await anyio.sleep(PAUSE_S)

    async def _tried(self, key: ParticleKey) -> bool:
        """Whether it need not be tried again."""
        try:
            await self._go_on(key)
        except StorageError as error:
            self._log.error("storage_failed", error=error.message)
            return False
        except FluvialError as error:
            again = isinstance(error, Refused) and error.reason in (MEMORY, "busy")
            if not again:
                self._log.warning("particle_not_resumed", key=key.hex(), error=error.message)
            return not again
        return True
