"""Hands particles to the peers they must go to, until they have them or the particle dies.

What must be delivered is in the store before anything is sent; here are only the lanes, one per peer with something to get, which
try again with growing jittered pauses. Delivering twice does no harm: merging is idempotent.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import anyio
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial.clock import Clock
from fluvial.errors import FluvialError
from fluvial.identity import PeerId
from fluvial.particle import Delivery, ParticleKey
from fluvial.particles.carrier import Carrier
from fluvial.particles.receipt import Receipt
from fluvial.storage.particle_rows import OutboxRow
from fluvial.storage.particles import ParticleStore

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 10.0
LANES_MAX: Final = 256
"""Peers that are served at the same time; others wait for a place."""

Parcel = Callable[[ParticleKey, PeerId], Awaitable[Delivery | None]]
"""What to hand to a peer now; None if the particle is gone."""


class Outbox:
    """See the module's docstring.

    Args:
        store: where the rows are.
        carrier: how deliveries travel.
        clock, rng: time, and randomness for the pauses.
        metrics, log: as usual.
    """

    def __init__(
        self,
        store: ParticleStore,
        carrier: Carrier,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._carrier = carrier
        self._clock = clock
        self._rng = rng
        self._log = log
        self._lanes: dict[PeerId, anyio.Event] = {}
        self._places = anyio.Semaphore(LANES_MAX)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._parcel: Parcel | None = None
        self._outcomes = Counter("fluvial_deliveries", "Hand-overs tried, by outcome", ["outcome"], registry=metrics)
        self._busy = Gauge("fluvial_outbox_lanes", "Peers that have something to get", registry=metrics)

    async def start(self, tasks: anyio.abc.TaskGroup, parcel: Parcel) -> None:
        """Go on with what the store has; lanes live in ``tasks``."""
        self._tasks = tasks
        self._parcel = parcel
        for row in await self._store.outbox_rows(self._clock.now_ms()):
            self.wake(row.key, (row.peer,))

    def wake(self, key: ParticleKey, peers: Iterable[PeerId]) -> None:
        """These peers have something new to get; the rows are stored already."""
        for peer in peers:
            if (event := self._lanes.get(peer)) is not None:
                event.set()
            else:
                assert self._tasks is not None, "the outbox was not started"
                self._lanes[peer] = anyio.Event()
                self._tasks.start_soon(self._lane, peer)

    async def _lane(self, peer: PeerId) -> None:
        self._busy.inc()
        pause_s = PAUSE_S_FIRST
        try:
            while True:
                self._lanes[peer] = anyio.Event()
                async with self._places:
                    rows = await self._store.outbox_rows(self._clock.now_ms(), peer=peer)
                    failed = [row for row in rows if not await self._deliver(row)]
                if failed:
                    with anyio.move_on_after(pause_s * self._rng.uniform(0.5, 1.5)):
                        await self._lanes[peer].wait()
                    pause_s = min(pause_s * 2, PAUSE_S_MAX)
                elif not self._lanes[peer].is_set():
                    return
                else:
                    pause_s = PAUSE_S_FIRST
        finally:
            self._lanes.pop(peer, None)
            self._busy.dec()

    async def _deliver(self, row: OutboxRow) -> bool:
        """One try; whether there is nothing left to try for this row."""
        assert self._parcel is not None
        log = self._log.bind(to=row.peer, attempt=row.attempts + 1)
        try:
            delivery = await self._parcel(row.key, row.peer)
            if delivery is None:
                await self._store.delivered(row.key, row.peer, row.version)
                return True
            began = anyio.current_time()
            receipt = await self._carrier.carry(delivery)
        except FluvialError as error:
            self._outcomes.labels("unreachable").inc()
            log.info("delivery_failed", error=error.message, again_in_ms=row.deadline_ms - self._clock.now_ms())
            await self._store.attempt_failed(row.key, row.peer, error.message)
            return False
        return await self._settle(
            row, receipt, log.bind(particle=delivery.header.id), anyio.current_time() - began, delivery
        )

    async def _settle(
        self, row: OutboxRow, receipt: Receipt, log: structlog.stdlib.BoundLogger, seconds: float, delivery: Delivery
    ) -> bool:
        self._outcomes.labels(receipt.reason or "accepted").inc()
        if receipt.settled:
            log.info("particle_sent", hop=delivery.hops, bytes=len(delivery.data), seconds=round(seconds, 6))
        else:
            log.warning("delivery_refused", reason=receipt.reason, error=receipt.explanation)
            await self._store.attempt_failed(row.key, row.peer, f"{receipt.reason}: {receipt.explanation}")
            if receipt.temporary:
                return False
        await self._store.delivered(row.key, row.peer, row.version)
        return True
