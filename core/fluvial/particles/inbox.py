"""Takes in what other peers hand over: inspected, authorized, verified, stored; refused ones end here with a reason."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from logging import DEBUG, ERROR, WARNING
from typing import Final

import structlog
from prometheus_client import CollectorRegistry

from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.content import ContentId
from fluvial.air.data.weight import weight_of_encoded
from fluvial.air.data.wire import decode_data
from fluvial.clock import Clock
from fluvial.errors import FluvialError, LocalProtocolError, Refused, RemoteProtocolError, StorageError, Unreachable
from fluvial.fairness import Upstream
from fluvial.guard.guarded import GuardedAuthorization
from fluvial.identity import PeerId
from fluvial.observers import Observers
from fluvial.outcome_counts import OutcomeCounts
from fluvial.particle import Delivery, Particle, decode_delivery
from fluvial.particles.actor import Actor
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.inspection import inspect
from fluvial.particles.keeper import Keeper
from fluvial.particles.limits import ParticleLimits
from fluvial.particles.memory import COPIES, MemoryBudget, Reservation
from fluvial.particles.processor import BYTES_ON_LOOP, Processor
from fluvial.particles.quota import DiskQuota
from fluvial.particles.receipt import ACCEPTANCE, ACCEPTED, MISSING, PROTOCOL, REASONS, Receipt, encode_receipt
from fluvial.particles.refusals import RefusalLog
from fluvial.particles.signed_headers import SignedHeaders
from fluvial.seats import ALLOWED, ContinuingAnswer, Decision, RefusingAnswer
from fluvial.throttling import ThrottledLog

OWN_REASONS_MAX: Final = 64
"""Words of the authorization's own that the metric carries."""


PASSED_ON_UNCOUNTED_BYTES: Final = 16_384
"""What is passed on and has no more bytes is not counted as its initiator's memory: the places for what is passed on bound it to 24 MiB."""
UNCOUNTED: Final = nullcontext()


class _RefusedThere(Refused):
    """The receiver has refused what this peer, its relay, passed on."""


class Inbox:
    """See the module's docstring.

    Args:
        me: this peer.
        network: its network.
        limits: what it accepts.
        keeper: has the particles.
        budget: who holds how much memory.
        processor: shares the peer's time among them.
        quota: who may write to the disk.
        carrier: for what is meant for a peer that this one is the relay of.
        authorization: the seat.
        clock, observers, metrics, log: as usual; metrics get ``fluvial_particles_total{outcome}``.
        throttled: for refusals, of which a sender can cause many.
        refusals: remembers them.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        network: str,
        limits: ParticleLimits,
        keeper: Keeper,
        budget: MemoryBudget,
        processor: Processor,
        quota: DiskQuota,
        carrier: Carrier,
        authorization: GuardedAuthorization,
        clock: Clock,
        observers: Observers,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
        refusals: RefusalLog,
    ) -> None:
        self._key = me.public_key
        self._refusals = refusals
        self._network = network
        self._limits = limits
        self._keeper = keeper
        self._budget = budget
        self._processor = processor
        self._quota = quota
        self._carrier = carrier
        self._authorization = authorization
        self._clock = clock
        self._observers = observers
        self._log = log
        self._throttled = throttled
        self._own_reasons: set[str] = set()
        self._signed = SignedHeaders()
        self._outcomes = OutcomeCounts(
            "fluvial_particles", "Particles handed to this peer, by outcome", ["outcome"], registry=metrics
        )

    async def answer(self, sender: PeerId, payload: bytes) -> bytes:
        """Take in an encoded delivery; the encoded receipt. Accepted means: durable here. Never raises for what a sender may have done."""
        particle_id, passing_on = "", False
        try:
            delivery = decode_delivery(payload)
            particle_id, passing_on = delivery.header.id, delivery.to != self._key
            particle = delivery.particle
            if (decision := self._inspected(sender, delivery, particle)) is not ALLOWED:
                _check(decision if isinstance(decision, Decision) else await decision)
            begun_by: PeerId | None = None
            if passing_on:
                outcome = await self._pass_on(sender, delivery, particle, payload)
            else:
                outcome, begun_by = await self._take_in(sender, delivery, particle, payload)
        except FluvialError as error:
            return answer_of(self._failed(sender, particle_id, error, passing_on=passing_on))
        self._outcomes.count(outcome)
        return answer_of(ACCEPTANCE) if begun_by is None else _continuing(begun_by)

    def _inspected(self, sender: PeerId, delivery: Delivery, particle: Particle) -> Decision | Awaitable[Decision]:
        """What the authorization says of a delivery with which everything else is right."""
        inspect(delivery, network=self._network, limits=self._limits, now_ms=self._clock.now_ms())
        if delivery.to == self._key:
            self._keeper.check_door(particle, Upstream(sender, delivery.branch))
        if not self._signed.is_signed(particle):
            raise Refused(f"the signature is not that of {particle.initiator}", reason="signature")
        return self._authorization.admit(particle, sender)

    def _failed(self, sender: PeerId, particle_id: str, error: FluvialError, *, passing_on: bool) -> Receipt:
        """The receipt of a delivery that came to nothing."""
        refused = partial(self._refused, sender, particle_id)
        match error:
            case Refused():
                there = isinstance(error, _RefusedThere)
                at_relay = passing_on and not there
                return refused(error.reason, error, retry_ms=error.retry_ms, at_relay=at_relay, foreign=there)
            case MissingError():
                return refused(MISSING, error, error.contents)
            case RemoteProtocolError():
                return refused("malformed", error)
            case Unreachable():
                return refused("unreachable", error)
            case StorageError():
                self._throttled.note(
                    "storage_failed", "delivery", level=ERROR, particle=particle_id, error=error.message
                )
                return refused("storage", FluvialError("the peer's storage failed"))
            case _:
                self._throttled.note(
                    "particle_failed", "delivery", cause=sender, level=ERROR, particle=particle_id, error=error.message
                )
                return refused("broken", FluvialError("this peer failed"))

    async def _take_in(
        self, sender: PeerId, delivery: Delivery, particle: Particle, payload: bytes
    ) -> tuple[str, PeerId | None]:
        """The outcome, for the metric; and if the particle waits here for what the sender has brought, and somebody else had brought it, who that is."""
        upstream = Upstream(sender, delivery.branch)
        here = self._keeper.present.get(particle.key)  # then it uses the shares of those who brought it first
        self._check_disk(particle, upstream, here)
        payer = self._budget.payer(particle.initiator, upstream) if here is None else here.payer
        with self._budget.reserved(payer, COPIES * len(payload)) as reserved:
            known = await self._known(particle, delivery.data, reserved, upstream=upstream)
            actor = await self._keeper.admit(particle, upstream=upstream, hops=delivery.hops)
            begun_by = actor.begun_by(sender)
            fresh = await actor.merge(known, upstream=upstream, hops=delivery.hops)
        if not fresh:
            self._throttled.note(
                "particle_repeated", "known", cause=sender, particle=particle.id, sender=sender, bytes=len(payload)
            )
            return "repeated", None
        self._observers.particle_received(particle, sender)
        self._log.info(
            "particle_accepted",
            particle=particle.id,
            sender=sender,
            hop=delivery.hops,
            bytes=len(payload),
            signatures=len(known.batches) + 1,
        )
        return "accepted", begun_by

    def _check_disk(self, particle: Particle, upstream: Upstream, here: Actor | None) -> None:
        """Raise Refused, ``quota``, if nothing of a particle is to be written that comes this way.

        Whoever brings back what is here need not have brought it, and may have brought much else: what is here uses the share of those who brought it first.
        """
        if here is not None:
            self._quota.check_under_way(particle.initiator, here.upstream)
        elif self._keeper.is_here(particle):
            # Who brought it is in the store, and is asked for when something is written.
            self._quota.check_rate(particle.initiator)
        else:
            self._quota.check(particle.initiator, upstream)

    async def _known(self, particle: Particle, data: bytes, reserved: Reservation, *, upstream: Upstream) -> Known:
        """What came, decoded.

        Raises:
            RemoteProtocolError: it is malformed.
            Refused: ``size``, it would take too much memory for one particle; ``memory``, for its initiator.
        """
        most = self._limits.memory_bytes_max
        if len(data) <= BYTES_ON_LOOP:
            reserved.grow(_weighed(data, most))
            return decode_data(particle.key, data)
        weight = await self._processor.off_loop(particle.initiator, lambda: _weighed(data, most), upstream=upstream)
        reserved.grow(weight)
        return await self._processor.off_loop(
            particle.initiator, lambda: decode_data(particle.key, data), upstream=upstream
        )

    async def _pass_on(self, sender: PeerId, delivery: Delivery, particle: Particle, payload: bytes) -> str:
        """As a relay: to a peer that keeps a connection to this one; its receipt decides."""
        to = PeerId.from_public_key(delivery.to)
        counted: AbstractContextManager[object] = UNCOUNTED
        if len(payload) > PASSED_ON_UNCOUNTED_BYTES:
            payer = self._budget.payer(particle.initiator, Upstream(sender, delivery.branch))
            counted = self._budget.reserved(payer, COPIES * len(payload))
        try:
            with counted:
                receipt = await self._carrier.pass_on(
                    to, PROTOCOL, payload, sender=sender, deadline_ms=particle.deadline_ms
                )
        except RemoteProtocolError as error:  # of the receiver, not of the sender
            raise Unreachable(error.message) from error
        except LocalProtocolError as error:
            raise _RefusedThere(error.message, reason="size") from error
        if receipt.reason == MISSING:
            raise MissingError(receipt.explanation, contents=tuple(map(ContentId, receipt.lacks)))
        if not receipt.settled:
            raise _RefusedThere(receipt.explanation, reason=receipt.reason, retry_ms=receipt.retry_ms)
        self._log.debug("particle_relayed", particle=particle.id, to=to)
        return "relayed"

    def _refused(
        self,
        sender: PeerId,
        particle_id: str,
        reason: str,
        error: FluvialError,
        lacks: Sequence[bytes] = (),
        retry_ms: int = 0,
        *,
        at_relay: bool = False,
        foreign: bool = False,
    ) -> Receipt:
        """A refusal, noted; ``foreign`` is a reason in the words of somebody else, which do not become labels."""
        label = Receipt(reason).label if foreign else self._label(reason)
        self._outcomes.count(label)
        self._observers.particle_refused(sender, particle_id, label if foreign else reason)
        self._refusals.note(particle_id, "particle", sender, reason, error.message, self._clock.now_ms())
        self._throttled.note(
            "particle_refused",
            label,
            cause=sender,
            level=DEBUG if reason == "replay" else WARNING,
            particle=particle_id,
            sender=sender,
            error=error.message,
        )
        return Receipt.refusal(reason, error.message, lacks, retry_ms, at_relay=at_relay)

    def _label(self, reason: str) -> str:
        """The reason as a metric's label: an authorization's own words are so many, and then ``other``."""
        if reason not in REASONS and reason not in self._own_reasons:
            if len(self._own_reasons) >= OWN_REASONS_MAX:
                return "other"
            self._own_reasons.add(reason)
        return reason


def answer_of(receipt: Receipt) -> bytes:
    """A receipt as the answer to a delivery or a notice; one that was refused was of no use, unless it may be taken later.

    Who hands over what others have written cannot know that they have no room here.
    """
    data = encode_receipt(receipt)
    return data if receipt.reason == ACCEPTED or receipt.temporary else RefusingAnswer(data)


def _check(decision: Decision) -> None:
    """Raise Refused with what the authorization says against it."""
    if not decision.allowed:
        raise Refused(decision.explanation, reason=decision.reason)


def _continuing(begun_by: PeerId) -> bytes:
    answer = ContinuingAnswer(answer_of(ACCEPTANCE))
    answer.begun_by = begun_by
    return answer


def _weighed(data: bytes, most: int) -> int:
    """What data take in memory, at least 1; raises Refused, ``size``, if that is more than one particle may have."""
    weight = weight_of_encoded(data, most)
    if weight > most:
        raise Refused(
            f"what came with the particle would take more than {most:,} bytes of memory, which is what this peer allows",
            reason="size",
        )
    return max(weight, 1)
