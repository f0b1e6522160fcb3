"""Hands particles to the peers they must go to, until they have them or the particle dies.

What must be delivered is in the store before anything is sent. Here are the lanes, one per peer with something to get: each holds the
rows that are left for its peer, and tries them again with growing jittered pauses. Delivering twice does no harm: merging is idempotent.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import anyio
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial.air.data.content import ContentId
from fluvial.clock import Clock
from fluvial.errors import FluvialError, LocalProtocolError, StorageError, Unreachable
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.carrier import Carrier
from fluvial.particles.receipt import MISSING, Receipt
from fluvial.particles.reporter import Reporter
from fluvial.particles.session import Parcel
from fluvial.storage.particles import ParticleStore
from fluvial.stored import OutboxRow

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_MAX: Final = 5.0
ATTEMPTS_QUIET: Final = 2
"""The initiator is told of a peer that cannot be reached after so many attempts: within a second, but not of each lost connection."""
LANES_MAX: Final = 256
"""Peers that are served at the same time; others wait for a place."""
LANE_DELIVERIES_MAX: Final = 16
"""Particles that are handed to one peer at the same time; the receiver stores them together."""


class Parcels(Protocol):
    """Who has what is to be handed over."""

    async def parcel(self, key: ParticleKey, to: PeerId) -> Parcel | None:
        """What to hand to a peer now; None if the particle is gone."""
        ...

    def handed_over(self, key: ParticleKey, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        ...

    def lacks(self, key: ParticleKey, to: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer could not take a parcel in: it lacks these values, or if none are named something that it was thought to have."""
        ...


@dataclass(slots=True)
class _Lane:
    """What a peer has to get.

    Attributes:
        rows: by particle; a newer row of a particle takes the place of the older one.
        woken: set when there is a reason to try now.
    """

    rows: dict[ParticleKey, OutboxRow] = field(default_factory=dict)
    woken: anyio.Event = field(default_factory=anyio.Event)


class Outbox:
    """See the module's docstring.

    Args:
        store: where the rows are.
        carrier: how deliveries travel.
        reporter: tells initiators of peers that do not take their particles.
        clock, rng: time, and randomness for the pauses.
        metrics, log: as usual.
    """

    def __init__(
        self,
        store: ParticleStore,
        carrier: Carrier,
        *,
        reporter: Reporter,
        clock: Clock,
        rng: random.Random,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._store = store
        self._carrier = carrier
        self._reporter = reporter
        self._clock = clock
        self._rng = rng
        self._log = log
        self._lanes: dict[PeerId, _Lane] = {}
        self._places = anyio.Semaphore(LANES_MAX, fast_acquire=True)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._parcels: Parcels | None = None
        self._outcomes = Counter("fluvial_deliveries", "Hand-overs tried, by outcome", ["outcome"], registry=metrics)
        self._busy = Gauge("fluvial_outbox_lanes", "Peers that have something to get", registry=metrics)

    async def start(self, tasks: anyio.abc.TaskGroup, parcels: Parcels) -> None:
        """Go on with what the store has; lanes live in ``tasks``."""
        self._tasks = tasks
        self._parcels = parcels
        self.put(await self._store.outbox_rows(self._clock.now_ms()))

    def put(self, rows: Iterable[OutboxRow]) -> None:
        """Deliver these, which are stored already."""
        for row in rows:
            lane = self._lanes.get(row.peer)
            if lane is None:
                assert self._tasks is not None, "the outbox was not started"
                lane = self._lanes[row.peer] = _Lane()
                self._tasks.start_soon(self._serve, row.peer, lane)
            lane.rows[row.key] = row
            lane.woken.set()

    def holds(self, key: ParticleKey, peer: PeerId) -> bool:
        """Whether a particle is still to be delivered to a peer."""
        return (lane := self._lanes.get(peer)) is not None and key in lane.rows

    def wake(self, peer: PeerId) -> None:
        """Try now what waits for a peer: it can be reached again."""
        if (lane := self._lanes.get(peer)) is not None:
            lane.woken.set()

    async def _serve(self, peer: PeerId, lane: _Lane) -> None:
        """The task of a lane; ends when nothing is left to deliver."""
        self._busy.inc()
        pause_s, at_once = PAUSE_S_FIRST, LANE_DELIVERIES_MAX
        try:
            while lane.rows:
                lane.woken = anyio.Event()
                async with self._places:
                    done = await self._try(lane, at_once)
                if done:
                    pause_s, at_once = PAUSE_S_FIRST, LANE_DELIVERIES_MAX
                else:
                    await self._pause(lane, pause_s * self._rng.uniform(0.5, 1.5))
                    pause_s, at_once = min(pause_s * 2, PAUSE_S_MAX), 1
        finally:
            del self._lanes[peer]
            self._busy.dec()

    async def _pause(self, lane: _Lane, pause_s: float) -> None:
        await anyio.sleep(min(pause_s, PAUSE_S_FIRST))  # whoever asks for it: not more often
        with anyio.move_on_after(pause_s - PAUSE_S_FIRST):
            await lane.woken.wait()

    async def _try(self, lane: _Lane, at_once: int) -> bool:
        """Try each of a lane's rows once, so many at the same time; whether all were delivered. Ends early if the peer is away."""
        now_ms = self._clock.now_ms()
        lane.rows = {key: row for key, row in lane.rows.items() if row.deadline_ms > now_ms}
        rows = tuple(lane.rows.values())
        left, failed, away = iter(rows), False, False

        async def work() -> None:
            nonlocal failed, away
            for row in left:
                try:
                    done = await self._deliver(row)
                except Unreachable:
                    done, away = False, True
                failed = failed or not done
                if lane.rows.get(row.key) is row:  # else it was asked for again meanwhile
                    if done:
                        del lane.rows[row.key]
                    else:
                        lane.rows[row.key] = replace(row, attempts=row.attempts + 1)
                if away:
                    return

        if min(len(rows), at_once) <= 1:
            await work()
        else:
            async with anyio.create_task_group() as group:
                for _ in rows[:at_once]:
                    group.start_soon(work)
        return not failed

    async def _deliver(self, row: OutboxRow) -> bool:
        """One try; whether there is nothing left to try for this row.

        Raises:
            Unreachable: the peer is away.
        """
        assert self._parcels is not None, "the outbox was not started"
        log = self._log.bind(to=row.peer, attempt=row.attempts + 1)
        parcel: Parcel | None = None
        try:
            parcel = await self._parcels.parcel(row.key, row.peer)
            if parcel is None:  # a particle that is gone is as good as delivered
                receipt = Receipt()
            else:
                log = log.bind(particle=parcel.delivery.header.id)
                receipt = await self._hand_over(row, parcel, log)
            if receipt.temporary:
                return False
            await self._store.delivered(row.key, row.peer, row.version)
            return True
        except StorageError as error:
            self._outcomes.labels("storage").inc()
            log.error("storage_failed", error=error.message)
            return False
        except FluvialError as error:
            away = isinstance(error, Unreachable)
            self._outcomes.labels("unreachable" if away else "failed").inc()
            log.info("delivery_failed", error=error.message, again_for_ms=row.deadline_ms - self._clock.now_ms())
            await self._note_failure(row, error.message, log)
            if away:
                if parcel is not None and row.attempts + 1 == ATTEMPTS_QUIET:
                    self._reporter.unreachable(parcel.delivery.particle, row.peer, error.message)
                raise
            return False

    async def _hand_over(self, row: OutboxRow, parcel: Parcel, log: structlog.stdlib.BoundLogger) -> Receipt:
        """What the peer said."""
        assert self._parcels is not None, "the outbox was not started"
        began = anyio.current_time()
        delivery = parcel.delivery
        try:
            receipt = await self._carrier.carry(delivery)
        except LocalProtocolError as error:  # it is too large, and will not shrink
            self._reporter.refused(delivery.particle, row.peer, error.message)
            raise
        self._outcomes.labels(receipt.label).inc()
        if receipt.settled:
            self._parcels.handed_over(row.key, row.peer, parcel)
        elif receipt.reason == MISSING:
            self._parcels.lacks(row.key, row.peer, tuple(map(ContentId, receipt.lacks)))
        if receipt.settled:
            log.info(
                "particle_sent",
                hop=delivery.hops,
                bytes=len(delivery.data),
                seconds=round(anyio.current_time() - began, 6),
            )
        else:
            log.warning("delivery_refused", reason=receipt.reason, error=receipt.explanation)
            await self._note_failure(row, f"{receipt.reason}: {receipt.explanation}", log)
            if not receipt.temporary:
                self._reporter.refused(delivery.particle, row.peer, f"{receipt.reason}: {receipt.explanation}")
        return receipt

    async def _note_failure(self, row: OutboxRow, error: str, log: structlog.stdlib.BoundLogger) -> None:
        """For those who look at the store; nothing depends on it."""
        try:
            await self._store.attempt_failed(row.key, row.peer, error)
        except StorageError as failure:
            log.error("storage_failed", error=failure.message)
