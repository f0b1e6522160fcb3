"""Hands particles to the peers they must go to, until they have them or the particle dies.

What must be delivered is in the store before anything is sent; here are only the lanes, one per peer with something to get, which
try again with growing jittered pauses. Delivering twice does no harm: merging is idempotent.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial.clock import Clock
from fluvial.errors import FluvialError, StorageError, Unreachable
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.carrier import Carrier
from fluvial.particles.receipt import MISSING, Receipt
from fluvial.storage.particle_rows import OutboxRow
from fluvial.storage.particles import ParticleStore

if TYPE_CHECKING:
    from fluvial.particles.actor import Parcel

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 5.0
LANES_MAX: Final = 256
"""Peers that are served at the same time; others wait for a place."""
LANE_DELIVERIES_MAX: Final = 16
"""Particles that are handed to one peer at the same time; the receiver stores them together."""


class Parcels(Protocol):
    """Who has what is to be handed over."""

    async def parcel(self, key: ParticleKey, to: PeerId) -> Parcel | None:
        """What to hand to a peer now; None if the particle is gone."""
        ...

    def handed_over(self, key: ParticleKey, to: PeerId, parcel: Parcel, *, lacking: bool) -> None:
        """A peer has taken a parcel in, or could not, since it lacks what it was thought to have."""
        ...


@dataclass(slots=True)
class _Round:
    """One try of everything that waits for a peer.

    Attributes:
        rows: what nobody has taken up yet.
        failed: whether something is left to try again.
        unreachable: whether the peer is away, so that the rest need not be tried.
    """

    rows: Iterator[OutboxRow]
    failed: bool = False
    unreachable: bool = False


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
        self._places = anyio.Semaphore(LANES_MAX, fast_acquire=True)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._parcels: Parcels | None = None
        self._outcomes = Counter("fluvial_deliveries", "Hand-overs tried, by outcome", ["outcome"], registry=metrics)
        self._busy = Gauge("fluvial_outbox_lanes", "Peers that have something to get", registry=metrics)

    async def start(self, tasks: anyio.abc.TaskGroup, parcels: Parcels) -> None:
        """Go on with what the store has; lanes live in ``tasks``."""
        self._tasks = tasks
        self._parcels = parcels
        self.wake(row.peer for row in await self._store.outbox_rows(self._clock.now_ms()))

    def wake(self, peers: Iterable[PeerId]) -> None:
        """Try now: these peers have something new to get, which is stored already, or can be reached again."""
        for peer in peers:
            if (event := self._lanes.get(peer)) is not None:
                event.set()
            else:
                assert self._tasks is not None, "the outbox was not started"
                self._lanes[peer] = anyio.Event()
                self._tasks.start_soon(self._lane, peer)

    async def _lane(self, peer: PeerId) -> None:
        self._busy.inc()
        pause_s, at_once = PAUSE_S_FIRST, LANE_DELIVERIES_MAX
        try:
            while True:
                self._lanes[peer] = anyio.Event()
                if not await self._deliver_all(peer, at_once):
                    await self._pause(peer, pause_s * self._rng.uniform(0.5, 1.5))
                    pause_s, at_once = min(pause_s * 2, PAUSE_S_MAX), 1
                elif self._lanes[peer].is_set():
                    pause_s, at_once = PAUSE_S_FIRST, LANE_DELIVERIES_MAX
                else:
                    return
        finally:
            self._lanes.pop(peer, None)
            self._busy.dec()

    async def _pause(self, peer: PeerId, pause_s: float) -> None:
        await anyio.sleep(min(pause_s, PAUSE_S_FIRST))  # whoever asks for it: not more often
        with anyio.move_on_after(pause_s - PAUSE_S_FIRST):
            await self._lanes[peer].wait()

    async def _deliver_all(self, peer: PeerId, at_once: int) -> bool:
        """One try of everything that waits for a peer, so many at the same time; whether nothing is left."""
        async with self._places:
            try:
                rows = await self._store.outbox_rows(self._clock.now_ms(), peer=peer)
            except StorageError as error:
                self._log.error("storage_failed", to=peer, error=error.message)
                return False
            tries = _Round(iter(rows))
            if min(len(rows), at_once) <= 1:
                await self._work(tries)
            else:
                async with anyio.create_task_group() as group:
                    for _ in rows[:at_once]:
                        group.start_soon(self._work, tries)
        return not tries.failed

    async def _work(self, tries: _Round) -> None:
        for row in tries.rows:
            log = self._log.bind(to=row.peer, attempt=row.attempts + 1)
            try:
                if not await self._deliver(row, log):
                    tries.failed = True
            except StorageError as error:
                self._outcomes.labels("storage").inc()
                log.error("storage_failed", error=error.message)
                tries.failed = True
            except Unreachable:
                tries.failed = tries.unreachable = True
            if tries.unreachable:
                return

    async def _deliver(self, row: OutboxRow, log: structlog.stdlib.BoundLogger) -> bool:
        """One try; whether there is nothing left to try for this row.

        Raises:
            Unreachable: the peer is away. StorageError: what became of it could not be noted.
        """
        assert self._parcels is not None, "the outbox was not started"
        began = anyio.current_time()
        try:
            parcel = await self._parcels.parcel(row.key, row.peer)
            if parcel is None:
                await self._store.delivered(row.key, row.peer, row.version)
                return True
            delivery = parcel.delivery
            log = log.bind(particle=delivery.header.id)
            receipt = await self._carrier.carry(delivery)
        except StorageError:
            raise
        except FluvialError as error:
            away = isinstance(error, Unreachable)
            self._outcomes.labels("unreachable" if away else "failed").inc()
            log.info("delivery_failed", error=error.message, again_for_ms=row.deadline_ms - self._clock.now_ms())
            await self._store.attempt_failed(row.key, row.peer, error.message)
            if away:
                raise
            return False
        self._outcomes.labels(receipt.label).inc()
        if receipt.settled or receipt.reason == MISSING:
            self._parcels.handed_over(row.key, row.peer, parcel, lacking=not receipt.settled)
        if receipt.settled:
            seconds = round(anyio.current_time() - began, 6)
            log.info("particle_sent", hop=delivery.hops, bytes=len(delivery.data), seconds=seconds)
        else:
            await self._refused(row, receipt, log)
            if receipt.temporary:
                return False
        await self._store.delivered(row.key, row.peer, row.version)
        return True

    async def _refused(self, row: OutboxRow, receipt: Receipt, log: structlog.stdlib.BoundLogger) -> None:
        log.warning("delivery_refused", reason=receipt.reason, error=receipt.explanation)
        await self._store.attempt_failed(row.key, row.peer, f"{receipt.reason}: {receipt.explanation}")
