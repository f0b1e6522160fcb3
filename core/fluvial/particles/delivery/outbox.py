"""Hands particles to the peers they must go to, until they have them or the particle dies.

What must be delivered is in the store before anything is sent. Each peer that has something to get has a lane (``lane``), which all
particles share: a peer that is away is tried as often for ten thousand particles as for one. A lane that waits costs no task, and an attempt
no write: the store hears once of each kind of failure of a row. Delivering twice does no harm: merging is idempotent.

Which lanes are served at the same time says ``schedule``, who has the next turn in a lane ``lane``, and how many have one at the same time ``round``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from itertools import islice
from logging import ERROR, WARNING
from typing import Final, Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from fluvial.air.data.content import ContentId
from fluvial.clock import Clock
from fluvial.errors import (
    DamagedParticle,
    FluvialError,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
    StorageError,
    Unreachable,
)
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.light_tasks import LightTasks
from fluvial.outcome_counts import OutcomeCounts
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.delivery.crowds import ToldToWait
from fluvial.particles.delivery.lane import DeliveryLane
from fluvial.particles.delivery.round import DeliveryRound
from fluvial.particles.delivery.row_memory import RowMemory
from fluvial.particles.delivery.schedule import LaneSchedule
from fluvial.particles.failure_detector import FailureDetector
from fluvial.particles.memory import COPIES, MEMORY, MemoryBudget
from fluvial.particles.receipt import MISSING, QUOTA, Receipt
from fluvial.particles.reporter import Reporter
from fluvial.particles.session_outputs import Parcel
from fluvial.particles.turns import LoopTurn
from fluvial.storage.particles import ParticleStore
from fluvial.stored import HandOver, OutboxRow
from fluvial.throttling import ThrottledLog
from fluvial.waiting import Event, later, now_s, others_have_a_turn

ATTEMPTS_QUIET: Final = 2
"""Initiators are told of a peer that cannot be reached after so many attempts: within a second, but not of each lost connection."""
LANE_DELIVERIES_MAX: Final = 16
"""Particles that are handed to one peer at the same time; the receiver stores them together."""
UNCOUNTED_BYTES: Final = 32_768
"""Of a delivery that is not counted while it is under way, if the peer is there and holds no others for long: all of them are then a part of the other memory."""
UNCOUNTED_ROWS: Final = 16
"""Rows of a lane that are not counted where the peer is there."""


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


class Outbox:
    """See the module's docstring.

    Args:
        store: where the rows are.
        carrier: how deliveries travel.
        reporter: tells initiators of peers that do not take their particles.
        detector: watches the peers that have them, or are being handed them.
        budget: where large deliveries under way are counted.
        weight: how much an initiator counts; see :class:`FairQueue`.
        clock, rng: time, and randomness for the pauses.
        metrics, log: as usual.
        throttled: for failures, of which a script can cause many.
    """

    def __init__(
        self,
        store: ParticleStore,
        carrier: Carrier,
        *,
        reporter: Reporter,
        detector: FailureDetector,
        budget: MemoryBudget,
        weight: Callable[[PeerId], int],
        clock: Clock,
        rng: random.Random,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
    ) -> None:
        self._store = store
        self._carrier = carrier
        self._reporter = reporter
        self._detector = detector
        self._budget = budget
        self._weight = weight
        self._clock = clock
        self._rng = rng
        self._log = log
        self._throttled = throttled
        self._lanes: dict[PeerId, DeliveryLane] = {}
        self._told = ToldToWait()
        self._schedule = LaneSchedule(self._serve, carrier.is_connected, carrier.is_looking_for, weight)
        self._memory = RowMemory(budget)
        self._tasks: LightTasks | None = None
        self._parcels: Parcels | None = None
        self._outcomes = OutcomeCounts(
            "fluvial_deliveries", "Hand-overs tried, by outcome", ["outcome"], registry=metrics
        )
        gauge = Gauge("fluvial_outbox_lanes", "Peers that have something to get", registry=metrics)
        gauge.set_function(lambda: len(self._lanes))

    async def start(self, tasks: LightTasks, parcels: Parcels, *, later: Container[ParticleKey]) -> None:
        """Go on with what the store has.

        Args:
            tasks: in which lanes are served.
            parcels: who has what is to be handed over.
            later: particles that go on when it is their turn, and of which nothing is handed over before: it would have to be read for each attempt.
        """
        self._tasks = tasks
        self._parcels = parcels
        self._schedule.start(tasks)
        turn = LoopTurn()
        for row in await self._store.outbox_rows(self._clock.now_ms()):
            if row.key not in later:
                self._put(row, row.initiator, Upstream(row.sender))
                await turn.over()

    def put(self, rows: Iterable[OutboxRow], particle: Particle, *, upstream: Upstream) -> None:
        """Deliver these of a particle that came from this upstream; they are stored already."""
        now_ms = self._clock.now_ms()
        for row in rows:
            if row.deadline_ms <= now_ms:
                continue
            lane = self._put(row, particle.initiator, upstream)
            if lane.away and lane.failures >= ATTEMPTS_QUIET:
                payer = self._budget.payer(particle.initiator, upstream)
                self._reporter.unreachable(particle, payer, lane.peer, lane.away)

    def check_room(self, peers: Iterable[PeerId], upstream: Upstream) -> None:
        """Raise Refused, ``busy``, if a crowd waits for one of these peers, and what came this way has its part of the places in line.

        For what is new, before anything of it is stored: what is taken in is handed on soon then, and whoever brings little always finds a place.
        """
        for peer in peers:
            if (lane := self._lanes.get(peer)) is not None and lane.is_full_for(upstream):
                raise self._told.refusal(upstream, peer, now_s())

    def check_told(self, upstream: Upstream) -> None:
        """Raise Refused, ``busy``, if what is new has just been refused to whoever brings it by :meth:`check_room`."""
        self._told.check(upstream, now_s())

    def holds(self, key: ParticleKey, peer: PeerId) -> bool:
        """Whether a particle is still to be delivered to a peer."""
        return (lane := self._lanes.get(peer)) is not None and key in lane.rows

    def wake(self, peer: PeerId) -> None:
        """Try now what waits for a peer: it has connected."""
        if (lane := self._lanes.get(peer)) is not None:
            self._schedule.wake(lane)

    # --- lanes

    def _put(self, row: OutboxRow, owner: PeerId, upstream: Upstream) -> DeliveryLane:
        if (lane := self._lanes.get(row.peer)) is None:
            lane = self._lanes[row.peer] = DeliveryLane(row.peer, owner, upstream, self._weight)
        entry = lane.put(row, owner, upstream)
        if len(lane.rows) > UNCOUNTED_ROWS or self._schedule.is_knock(lane):
            self._memory.count(entry)
        if lane.round is not None:
            self._work_beside(lane, entry.upstream)
        elif not lane.failures:
            self._schedule.add(lane)
        return lane

    async def _serve(self, lane: DeliveryLane) -> bool | None:
        """Try a lane until all is delivered or put off; False if something is not, None if nothing was tried."""
        tried = None
        try:
            while lane.has_turns(now_s()):
                if tried:  # perhaps only some were looked at
                    await others_have_a_turn()
                self._memory.forget(lane.begin(self._clock.now_ms(), now_s()))
                if not lane.rows:
                    break
                away = await self._try(lane, 1 if lane.failures else LANE_DELIVERIES_MAX)
                if away is not None:
                    lane.failed(now_s(), self._rng, away=away)
                    for entry in islice(lane.rows.values(), UNCOUNTED_ROWS):  # the others are counted already
                        self._memory.count(entry)
                    return False
                lane.took()
                tried = True
            lane.took()  # it may have been woken in vain
            return tried
        finally:
            if not lane.rows:
                del self._lanes[lane.peer]

    # --- attempts

    async def _try(self, lane: DeliveryLane, at_once: int) -> str | None:
        """Try each of a lane's rows once, so many at the same time.

        Returns:
            None if all were delivered; why the peer is away, if it is; the empty text if it is there, but something is left.
        """
        this = lane.round = DeliveryRound(at_once)
        this.comes()
        await self._work(lane, this)  # most lanes have one row, which needs no task
        while this.workers:  # of the others; another one may begin at the last moment
            this.over = Event()
            await this.over.wait()
        lane.round = None
        return this.away if this.failed else None

    def _work_beside(self, lane: DeliveryLane, upstream: Upstream | None = None) -> None:
        """Let another worker take what is in line: it does not wait for what is under way, which may be large.

        Args:
            lane: which.
            upstream: which way something came that is new in line.
        """
        this, now = lane.round, now_s()
        if this is None or this.away:
            return
        before = lane.in_line
        again_s = lane.enter_due(now)
        if this.stuck:
            this.stuck = lane.in_line == before and (upstream is None or not this.is_open_to(upstream))
        if this.held_back:
            this.held_back = lane.in_line == before and (upstream is None or not lane.is_quick(upstream))
        in_line = lane.in_line and not this.stuck
        for_all = this.places(now) > 0 and this.takes(1)
        for_quick = this.places_for_quick > 0 and not this.held_back and this.takes(1, quick=True)
        if in_line and (for_all or for_quick):
            assert self._tasks is not None, "the outbox was not started"
            this.comes()
            self._tasks.start(self._work(lane, this))
            return
        at_s = min(again_s, this.next_old_s) if in_line else again_s
        if this.timer is not None and this.timer.when() > at_s:
            this.timer.cancel()
            this.timer = None
        if this.timer is None and at_s < float("inf"):
            this.timer = later(at_s - now, partial(self._look_again, lane, this))

    def _look_again(self, lane: DeliveryLane, this: DeliveryRound) -> None:
        """A place is held for long, or a pause is over."""
        this.timer = None
        self._work_beside(lane)

    async def _work(self, lane: DeliveryLane, this: DeliveryRound) -> None:
        """A worker of a round, perhaps the root of a task: tries one row after another."""
        try:
            while (row := self._next_row(lane, this)) is not None:
                self._work_beside(lane)
                await self._try_row(lane, row, this)
        finally:
            this.leaves()
        if this.workers:
            self._work_beside(lane)

    def _next_row(self, lane: DeliveryLane, this: DeliveryRound) -> OutboxRow | None:
        """What a worker tries next, which has a place then; None if there is nothing for it."""
        now = now_s()
        if this.away:
            return None
        if this.places(now) >= 0 and this.takes(0):
            if (row := lane.turn(now, this.is_open_to)) is None:
                this.stuck = lane.in_line > 0
            else:
                this.begin(row.key, lane.upstream_of(row), now)
            return row
        if this.places_for_quick <= 0 or not this.takes(0, quick=True):
            return None
        row = lane.turn(now, lambda upstream: lane.is_quick(upstream) and this.is_open_to(upstream))
        this.held_back = row is None
        if row is not None:
            this.begin(row.key, lane.upstream_of(row), now, as_quick=True)
        return row

    async def _try_row(self, lane: DeliveryLane, row: OutboxRow, this: DeliveryRound) -> None:
        done, began_s = False, now_s()
        try:
            done = await self._deliver(lane, row)
        except Unreachable as error:
            if this.heard_s > began_s:  # it answers, but not to this one
                lane.put_off(row, now_s(), self._rng)
            else:
                this.away = error.message
        except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this delivery a pause, not the node
            self._outcomes.count("failed")
            self._throttled.note(
                "delivery_broken", type(error).__name__, level=ERROR, to=row.peer, error=str(error), exc_info=error
            )
            lane.put_off(row, now_s(), self._rng)
        finally:
            self._memory.forget(lane.tried(row, done=done, quick=this.end(row.key)))
        if done or lane.is_put_off(row, now_s()):
            return
        if this.old and not this.away:  # the round may go on for long
            lane.put_off(row, now_s(), self._rng)
        else:
            this.failed = True

    async def _deliver(self, lane: DeliveryLane, row: OutboxRow) -> bool:
        """One try; whether there is nothing left to try for this row.

        Raises:
            Unreachable: the peer is away.
        """
        assert self._parcels is not None, "the outbox was not started"
        parcel: Parcel | None = None
        try:
            # Before anything is read and encoded for it; initiators may have told addresses with their particles.
            if lane.failures >= ATTEMPTS_QUIET and lane.initiator_of(row) != lane.peer:
                await self._carrier.check_way(row.peer)
            parcel = await self._parcels.parcel(row.key, row.peer)
            # A particle that is gone is as good as delivered.
            receipt, handed = (Receipt(), None) if parcel is None else await self._hand_over_reserved(lane, row, parcel)
            if receipt.reason in (MEMORY, QUOTA) or (receipt.reason == "busy" and receipt.retry_ms):  # others may pass
                lane.put_off_all(row, now_s(), self._rng, retry_s=receipt.retry_ms / 1000)
            elif receipt.reason == MISSING:  # it has said what it lacks
                lane.put_off(row, now_s(), self._rng, mended=True)
            if receipt.temporary:
                return False
            self._store.delivered(row.key, row.peer, row.version, handed, failed=lane.has_failed(row))
            return True
        except DamagedParticle as error:
            self._failed(lane, row, parcel, error)
            self._store.delivered(row.key, row.peer, row.version, None, failed=True)
            return True  # there is nothing that could be handed over
        except StorageError as error:
            self._outcomes.count("storage")
            self._throttled.note("storage_failed", "outbox", level=ERROR, error=error.message)
            return False
        except FluvialError as error:
            if isinstance(error, Refused) and error.reason == MEMORY:  # here
                lane.put_off_all(row, now_s(), self._rng)
                return False
            is_full = isinstance(error, RemoteProtocolError) and lane.round is not None and lane.round.narrow(row.key)
            if is_full or isinstance(error, Refused | LocalProtocolError):
                lane.put_off(row, now_s(), self._rng)
            self._failed(lane, row, parcel, error)
            if isinstance(error, Unreachable):
                raise
            return False

    def _failed(self, lane: DeliveryLane, row: OutboxRow, parcel: Parcel | None, error: FluvialError) -> None:
        outcome = "unreachable" if isinstance(error, Unreachable) else "failed"
        self._outcomes.count(outcome)
        self._throttled.note(
            "delivery_failed",
            outcome,
            particle="" if parcel is None else parcel.delivery.header.id,
            to=row.peer,
            error=error.message,
            again_for_ms=row.deadline_ms - self._clock.now_ms(),
            peers=len(self._lanes),
        )
        if outcome == "failed" or max(lane.failures, lane.times_put_off(row)) + 1 >= ATTEMPTS_QUIET:
            self._tell_store(lane, row, outcome, error.message)
            if parcel is not None and outcome == "unreachable":
                payer = self._payer(lane, row)
                self._reporter.unreachable(parcel.delivery.particle, payer, row.peer, error.message)

    async def _hand_over_reserved(
        self, lane: DeliveryLane, row: OutboxRow, parcel: Parcel
    ) -> tuple[Receipt, HandOver | None]:
        """As :meth:`_hand_over`; bytes are counted meanwhile, if that may take long. Large ones, which peers may take long to read, wait for others. Raises Refused, ``memory``."""
        delivery = parcel.delivery
        assert lane.round is not None, "rows are tried in rounds"
        size = len(delivery.data) + len(delivery.script)
        is_large = size > UNCOUNTED_BYTES
        if not (is_large or lane.round.old or self._schedule.is_knock(lane)):
            return await self._hand_over(lane, row, parcel)
        with self._budget.reserved(self._payer(lane, row), COPIES * size):
            if not is_large:
                return await self._hand_over(lane, row, parcel)
            gate = lane.round.large
            await gate.enter(size, lane.upstream_of(row), lane.initiator_of(row))
            try:
                return await self._hand_over(lane, row, parcel)
            finally:
                gate.leave(size)

    async def _hand_over(self, lane: DeliveryLane, row: OutboxRow, parcel: Parcel) -> tuple[Receipt, HandOver | None]:
        """What the peer said, and how it was found if it has the particle now."""
        assert self._parcels is not None, "the outbox was not started"
        began = now_s()
        delivery, payer = parcel.delivery, self._payer(lane, row)
        self._detector.handing(row.key, row.peer, payer, deadline_ms=row.deadline_ms)
        is_there = False
        try:
            receipt, led = await self._carrier.carry(delivery)
            is_there = receipt.settled
            if lane.round is not None and not receipt.at_relay:
                lane.round.heard_s = now_s()
        except LocalProtocolError as error:  # it is too large, and will not shrink
            self._reporter.refused(delivery.particle, payer, row.peer, error.message)
            raise
        finally:
            if not is_there:
                self._detector.not_handed(row.key, row.peer)
        self._outcomes.count(receipt.label)
        if receipt.settled:
            relay = PeerId.parse(led.via) if led.way == "relay" else None
            self._detector.handed(row.key, row.peer, relay=relay)
            self._parcels.handed_over(row.key, row.peer, parcel)
            if lane.round is not None:
                lane.round.at_once = LANE_DELIVERIES_MAX  # it takes something again
                lane.round.widen()
            self._log.info(
                "particle_sent",
                particle=delivery.header.id,
                to=row.peer,
                hop=delivery.hops,
                way=led.way,
                via=led.via,
                bytes=len(delivery.data),
                seconds=round(now_s() - began, 6),
            )
            return receipt, HandOver(row.peer, self._clock.now_ms(), led.way, led.via)
        if receipt.reason == MISSING:
            self._parcels.lacks(row.key, row.peer, tuple(map(ContentId, receipt.lacks)))
        why = f"{receipt.reason}: {receipt.explanation}"
        by = PeerId.parse(led.via) if receipt.at_relay and led.way == "relay" else row.peer
        self._throttled.note(
            "delivery_refused",
            receipt.label,
            cause=row.peer,
            level=WARNING,
            particle=delivery.header.id,
            to=row.peer,
            by=by,
            error=receipt.explanation,
        )
        self._tell_store(lane, row, receipt.label, why)
        if not receipt.temporary:
            self._reporter.refused(delivery.particle, payer, row.peer, why, by=by)
        return receipt, None

    def _payer(self, lane: DeliveryLane, row: OutboxRow) -> Payer:
        return self._budget.payer(lane.initiator_of(row), lane.upstream_of(row))

    def _tell_store(self, lane: DeliveryLane, row: OutboxRow, kind: str, error: str) -> None:
        """For those who look at the store; nothing depends on it. Once for each kind of failure."""
        if lane.news(row.key, kind):
            self._store.attempt_failed(row.key, row.peer, error)
