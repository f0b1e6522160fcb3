"""Tells initiators that this peer cannot go on with their particles; each error once, not too often, one attempt each.

Nothing is stored and nothing is tried again: a notice that does not arrive is lost, and the initiator learns of the failure when the
particle's time is over, as without it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import anyio
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.air.machine.errors import AirError
from fluvial.clock import Clock
from fluvial.encoding import encode
from fluvial.errors import FluvialError, Unreachable
from fluvial.fairness import Payer, PushOut
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Header, Particle
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.limits import ParticleLimits
from fluvial.particles.notice import (
    REASONS,
    Kind,
    Notice,
    SignedNotice,
    bare_reason,
    encode_notice,
    kind_of_error,
    make_notice,
    refusal_text,
)
from fluvial.particles.rate_limiter import RateLimiter
from fluvial.particles.receipt import Receipt
from fluvial.throttling import ThrottledLog

SENDING_S_MAX: Final = 10.0
"""For one notice, all ways to the initiator together."""
SENDING_MAX: Final = 256
"""Notices on their way at the same time; of more than that the oldest of whoever brought the flows of most of them gives way."""
REMEMBERED_MAX: Final = 10_000
"""Notices that are not sent a second time."""

Hear: TypeAlias = Callable[[SignedNotice], Awaitable[Receipt]]
"""How this peer takes a notice about a particle of its own."""


class Reporter:
    """See the module's docstring.

    Args:
        keys: this peer's.
        limits: whether notices are sent, and how many.
        carrier: how they travel.
        clock, metrics, log: as usual; metrics get ``fluvial_failure_notices_sent_total{outcome}``.
        throttled: for notices that are not sent, of which a script can cause many.
    """

    def __init__(
        self,
        keys: KeyPair,
        *,
        limits: ParticleLimits,
        carrier: Carrier,
        clock: Clock,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
    ) -> None:
        self._keys = keys
        self._on = limits.failure_notices
        self._rate_limiter = RateLimiter[PeerId](limits.failure_notices_per_minute)
        self._carrier = carrier
        self._clock = clock
        self._log = log
        self._throttled = throttled
        self._said: OrderedDict[bytes, None] = OrderedDict()
        self._sending: Final = PushOut[anyio.CancelScope](SENDING_MAX)
        self._tasks: anyio.abc.TaskGroup | None = None
        self._hear: Hear | None = None
        self._outcomes = Counter(
            "fluvial_failure_notices_sent", "Failure notices to initiators, by outcome", ["outcome"], registry=metrics
        )

    def start(self, tasks: anyio.abc.TaskGroup, hear: Hear) -> None:
        """Notices are sent in ``tasks``; those about this peer's own particles are given to ``hear``."""
        self._tasks = tasks
        self._hear = hear

    def failed(self, particle: Particle, payer: Payer, error: AirError) -> None:
        """A run of a particle has ended with an error. The initiator itself knows what its own runs came to."""
        if particle.initiator != self._keys.peer_id:
            self._report(particle, payer, kind_of_error(error), error.message, error)

    def broken(self, particle: Particle, payer: Payer, error: FluvialError) -> None:
        """The peer's own state of a particle cannot be used any more, or has come to a limit."""
        self._report(particle, payer, "broken", error.message)

    def refused(self, particle: Particle, payer: Payer, peer: PeerId, why: str, *, by: PeerId | None = None) -> None:
        """A peer does not get a particle, and will not get it later either, since it or a relay on the way (``by``) refuses it."""
        if particle.initiator != peer:
            self._report(particle, payer, "refused", refusal_text(peer, by or peer, why))

    def unreachable(self, particle: Particle, payer: Payer, peer: PeerId, why: str) -> None:
        """A peer cannot be reached so far; it is tried further."""
        if particle.initiator != peer:
            text = f"{peer} cannot be reached so far: {bare_reason(peer, why)}"
            self._report(particle, payer, "unreachable", text)

    def suspected(self, particle: Particle, payer: Payer, peer: PeerId, why: str, *, there: bool) -> None:
        """A peer that has a particle (``there``), or is being handed it, gives no sign of life so far; ``why`` is the end of the sentence."""
        if particle.initiator != peer:
            begun = "has the particle, but" if there else "has not taken the particle so far:"
            self._report(particle, payer, "unreachable", f"{peer} {begun} {why}")

    def impossible(self, particle: Particle, payer: Payer, name: str) -> None:
        """A particle must go to a peer whose name is no peer id."""
        self._report(particle, payer, "impossible", f"{name!r} is no peer id")

    def _report(
        self, particle: Particle, payer: Payer, kind: Kind, message: str, error: AirError | None = None
    ) -> None:
        now_ms = self._clock.now_ms()
        if not self._on or self._tasks is None or particle.deadline_ms <= now_ms:
            return
        notice = make_notice(particle.key, self._keys.peer_id, kind, message, at_ms=now_ms, error=error)
        if (name := _name(notice)) in self._said:
            return
        if not self._rate_limiter.take(particle.initiator, anyio.current_time()):
            self._not_reported("limited", particle.header, "there were too many", notice)
            return
        self._said[name] = None
        if len(self._said) > REMEMBERED_MAX:
            self._said.popitem(last=False)
        scope = anyio.CancelScope()
        if (other := self._sending.put(scope, payer)) is not None:
            other.cancel()
        # Not with the particle, whose script may be large.
        self._tasks.start_soon(self._send, particle.header, particle.deadline_ms, notice, scope)

    async def _send(self, header: Header, deadline_ms: int, notice: Notice, scope: anyio.CancelScope) -> None:
        """The root of a notice's task."""
        initiator = PeerId.from_public_key(header.initiator)
        receipt = Receipt("unreachable", "there was no answer in time")
        try:
            with scope, anyio.move_on_after(min(SENDING_S_MAX, (deadline_ms - notice.at_ms) / 1000)):
                receipt = await self._tell(header, SignedNotice.sign(initiator, notice, self._keys))
        except FluvialError as error:
            receipt = Receipt("unreachable" if isinstance(error, Unreachable) else "failed", error.message)
        finally:
            self._sending.remove(scope)
        if scope.cancelled_caught:
            self._not_reported("limited", header, "there were too many at one time", notice)
        elif receipt.settled:
            self._outcomes.labels("accepted").inc()
            self._log.info("failure_reported", particle=header.id, to=initiator, notice=str(notice))
        else:
            reason = receipt.reason if receipt.reason in REASONS | {"failed"} else "other"
            self._not_reported(reason, header, f"{receipt.reason}: {receipt.explanation}", notice)

    def _not_reported(self, reason: str, header: Header, error: str, notice: Notice) -> None:
        self._outcomes.labels(reason).inc()
        self._throttled.note(
            "failure_not_reported",
            reason,
            particle=header.id,
            to=PeerId.from_public_key(header.initiator),
            error=error,
            notice=str(notice),
        )

    async def _tell(self, header: Header, signed: SignedNotice) -> Receipt:
        if header.initiator == self._keys.public_key:
            assert self._hear is not None, "the reporter was not started"
            return await self._hear(signed)
        return await self._carrier.tell(header, encode_notice(signed))


def _name(notice: Notice) -> bytes:
    return hashlib.sha256(encode(msgspec.structs.replace(notice, at_ms=0))).digest()
