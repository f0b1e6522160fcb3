"""The shell around an ordering service: one task that publishes, one that follows, and both try again when the service is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import anyio
from structlog.stdlib import BoundLogger

from fluvial.consensus.ordering import OrderedEntry, OrderingService, OrderLostError
from fluvial.consensus.outputs import Output
from fluvial.consensus.replica import Replica
from fluvial.errors import FluvialError

PAUSE_S: Final = 0.2
"""After a failure of the service; grows to ``PAUSE_S_MAX``."""
PAUSE_S_MAX: Final = 5.0
SUBMIT_S: Final = 30.0
LOST_S: Final = 1.0
"""How long others have to give history before the service is followed again."""


OrderWork: TypeAlias = Callable[[Replica, int, int], Sequence[Output]]
"""``(replica, now, wall_ms) -> outputs``."""


class OutsideLog:
    """The log of a service, as the host uses it.

    Args:
        service: outside.
        step: lets the replica work, and says behind which position the service is to be followed.
        log: for failures.
    """

    def __init__(self, service: OrderingService, step: Callable[[OrderWork], int], log: BoundLogger) -> None:
        self._service, self._step, self._log = service, step, log
        self._publish, self._published = anyio.create_memory_object_stream[bytes](4)

    def publish(self, data: bytes) -> None:
        """Put an entry into the log, as soon as the service takes it. If too many wait already it is dropped: its engine publishes it again."""
        try:
            self._publish.send_nowait(data)
        except anyio.WouldBlock:
            self._log.warning("ordering_service_is_slow", waiting=4)

    async def run(self) -> None:
        """Publish and follow until cancelled."""
        try:
            async with self._publish, self._published, anyio.create_task_group() as tasks:
                tasks.start_soon(self._publishing)
                tasks.start_soon(self._following)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._service.close()

    async def _publishing(self) -> None:
        async for data in self._published:
            pause_s = PAUSE_S
            while True:
                try:
                    with anyio.fail_after(SUBMIT_S):
                        await self._service.submit(data)
                    break
                except (FluvialError, TimeoutError) as error:
                    self._log.warning("ordering_service_does_not_take", error=str(error))
                    await anyio.sleep(pause_s)
                    pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _following(self) -> None:
        pause_s = PAUSE_S
        while True:
            after = self._step(lambda replica, now, wall_ms: ())
            try:
                async for entry in self._service.follow(after):
                    if entry.position <= after:
                        raise FluvialError(
                            f"the ordering service gave position {entry.position} after {after}",
                            hint="its positions must grow",
                        )
                    after = entry.position
                    self._step(partial(_take, entry))
                    pause_s = PAUSE_S
            except OrderLostError as error:
                self._log.warning("ordering_service_has_lost_entries", after=after, error=error.message)
                self._step(lambda replica, now, wall_ms: replica.order_lost(now, wall_ms))
                await anyio.sleep(LOST_S)
            except FluvialError as error:
                self._log.warning("ordering_service_is_away", after=after, error=error.message)
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, PAUSE_S_MAX)


def _take(entry: OrderedEntry, replica: Replica, now: int, wall_ms: int) -> Sequence[Output]:
    return replica.ordered(entry.position, entry.data, now, wall_ms)
