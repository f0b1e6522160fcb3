"""Takes in failure notices: verifies, keeps and reports those about this peer's own particles, and passes on those for its clients."""

from __future__ import annotations

from collections.abc import Callable
from logging import DEBUG, ERROR, WARNING
from typing import Final, TypeAlias

import anyio
import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.clock import Clock
from fluvial.errors import DamagedParticle, FluvialError, Refused, RemoteProtocolError, StorageError, Unreachable
from fluvial.fairness import Payer, PushOut, Upstream
from fluvial.identity import PeerId
from fluvial.observers import Observers
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.keeper import Keeper
from fluvial.particles.limits import ParticleLimits
from fluvial.particles.notice import PROTOCOL, REASONS, Notice, SignedNotice, decode_notice
from fluvial.particles.rate_limiter import RateLimiter
from fluvial.particles.receipt import Receipt
from fluvial.throttling import ThrottledLog

Heard: TypeAlias = Callable[[Particle, Notice], None]
"""Called with each new notice about a particle of this peer, when it is durable."""

HELD_MS: Final = 60_000
"""How long a notice may wait at a relay for a client that is away."""
PASSED_ON_MAX: Final = 64
"""Notices that are passed on at the same time; of more than that the oldest gives way, of the client for which there are most, of whoever sends most."""


class NoticeInbox:
    """See the module's docstring.

    Args:
        me: this peer.
        limits: whether notices are taken, and how many from one peer.
        keeper: has the particles.
        carrier: passes on what is meant for a client of this relay.
        on_notice: called with each new notice.
        clock: the time.
        observers: are notified of each new notice.
        metrics: gets ``fluvial_failure_notices_received_total{outcome}``.
        log: a logger bound to the peer.
        throttled: for refusals, of which a sender can cause many.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        limits: ParticleLimits,
        keeper: Keeper,
        carrier: Carrier,
        on_notice: Heard,
        clock: Clock,
        observers: Observers,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
    ) -> None:
        self._throttled = throttled
        self._me = me
        self._on = limits.failure_notices
        self._rate_limiter: Final = RateLimiter[tuple[PeerId, PeerId | ParticleKey | None]](
            limits.failure_notices_per_minute
        )
        self._passed_on: Final = PushOut[anyio.CancelScope](PASSED_ON_MAX)
        self._keeper = keeper
        self._carrier = carrier
        self._on_notice = on_notice
        self._clock = clock
        self._observers = observers
        self._log = log
        self._outcomes = Counter(
            "fluvial_failure_notices_received",
            "Failure notices handed to this peer, by outcome",
            ["outcome"],
            registry=metrics,
        )

    async def receive(self, sender: PeerId, payload: bytes) -> Receipt:
        """Take in an encoded notice. Accepted means: kept here. Never raises for what a sender may have done."""
        try:
            signed = self._inspected(sender, payload)
            if signed.to != self._me.public_key:
                return self._counted("relayed", await self._pass_on(sender, signed, payload))
        except FluvialError as error:
            return self._refused(sender, error)
        return await self.hear(signed, sender=sender)

    async def hear(self, signed: SignedNotice, *, sender: PeerId | None = None) -> Receipt:
        """Take in a notice that is meant for this peer; without a sender it is this peer's own."""
        notice = signed.notice
        try:
            actor = await self._keeper.find(ParticleKey(notice.particle))
            if actor is None or actor.particle.initiator != self._me:
                raise Refused("this peer has begun no such particle", reason="unknown")
            if actor.particle.deadline_ms <= self._clock.now_ms():
                raise Refused("the particle's time is over", reason="expired")
            if not await actor.note(signed):
                return self._counted("repeated", Receipt())
        except FluvialError as error:
            return self._refused(sender or self._me, error)
        particle = actor.particle
        self._log.info(
            "failure_noticed",
            particle=particle.id,
            other=notice.peer_id,
            kind=notice.kind,
            code=notice.code,
            error=notice.message,
            at=notice.position,
            instruction=notice.instruction,
        )
        self._on_notice(particle, notice)
        self._observers.failure_noticed(particle, notice.peer_id, notice.code, notice.message)
        return self._counted("accepted", Receipt())

    def _inspected(self, sender: PeerId, payload: bytes) -> SignedNotice:
        """The notice, verified. Cheapest checks first, so that a flood costs this peer no signatures."""
        if not self._on:
            raise Refused("failure notices are switched off here", reason="off")
        signed = decode_notice(payload)
        if not self._rate_limiter.take((sender, self._about(signed)), anyio.current_time()):
            raise Refused(f"{sender} has sent too many failure notices", reason="busy")
        signed.verify()
        return signed

    def _about(self, signed: SignedNotice) -> PeerId | ParticleKey | None:
        """By what it is counted: whoever passes on much for others has no less for each of them. What is about nothing that is here is counted together."""
        if signed.to == self._me.public_key:
            key = ParticleKey(signed.notice.particle)
            return key if self._keeper.present.get(key) is not None else None
        to = PeerId.from_public_key(signed.to)
        return to if self._carrier.is_connected(to) else None

    async def _pass_on(self, sender: PeerId, signed: SignedNotice, payload: bytes) -> Receipt:
        """As a relay, hand a notice to a client that is connected; its receipt is the answer."""
        to, scope, receipt = PeerId.from_public_key(signed.to), anyio.CancelScope(), None
        if (other := self._passed_on.put(scope, Payer(Upstream(sender), to))) is not None:
            other.cancel()
        try:
            with scope:
                deadline_ms = self._clock.now_ms() + HELD_MS
                receipt = await self._carrier.pass_on(to, PROTOCOL, payload, sender=sender, deadline_ms=deadline_ms)
        except RemoteProtocolError as error:  # of the receiver, not of the sender
            raise Unreachable(error.message) from error
        finally:
            self._passed_on.remove(scope)
        if receipt is None:
            raise Refused("too many failure notices are being passed on, most of them yours", reason="busy")
        if not receipt.settled:
            raise Refused(receipt.explanation, reason=receipt.reason if receipt.reason in REASONS else "other")
        self._log.debug("failure_notice_relayed", to=to, other=signed.notice.peer_id)
        return receipt

    def _counted(self, outcome: str, receipt: Receipt) -> Receipt:
        self._outcomes.labels(outcome).inc()
        return receipt

    def _refused(self, sender: PeerId, error: FluvialError) -> Receipt:
        reason = _reason(error)
        if isinstance(error, StorageError):
            self._throttled.note("storage_failed", "notice", level=ERROR, error=error.message)
            error = FluvialError("the peer's storage failed")
        # Nobody is to blame for a notice that comes too late.
        self._throttled.note(
            "failure_notice_refused",
            reason,
            cause=sender,
            level=DEBUG if reason in ("busy", "expired") else WARNING,
            sender=sender,
            error=error.message,
        )
        return self._counted(reason, Receipt.refusal(reason, error.message))


def _reason(error: FluvialError) -> str:
    match error:
        case Refused():
            return error.reason if error.reason in REASONS else "other"
        case StorageError() | DamagedParticle():
            return "storage"
        case Unreachable():
            return "unreachable"
        case _:
            return "malformed"
