"""What all connections of a node have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import structlog
from fluvial.identity import PeerId
from fluvial.seats import Receive
from fluvial.throttling import ThrottledLog
from fluvial.timer_wheel import TimerWheel

from fluvial_transport_tcp.accounts import WasteRates, WorkAccount
from fluvial_transport_tcp.intake import Intake
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.leftovers import Leftovers
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.pacing import PrefixRates
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.workers import WorkerPool

DRAIN_SLACK_S: Final = 5.0
"""A leaving connection is given the time that handling a message may take, and this."""


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """One for all connections.

    Attributes:
        options: the limits.
        receive: handles what comes in.
        intake: what they hold of others' messages together.
        rates: how fast they are read.
        waste: what may come to nothing of what they send.
        pool: whose tasks handle what comes in.
        rounds: how much of it is begun at once.
        payer: the account of a peer that has begun something here: of its connection, or one that does not matter.
        wheel: when requests that are not answered are given up.
        leftovers: what is still to be written though nobody waits for it.
        metrics: where things are counted.
        log: for what this node does itself.
        throttled: for what others can make it log.
    """

    options: Options
    receive: Receive
    intake: Intake
    rates: PrefixRates
    waste: WasteRates
    pool: WorkerPool
    rounds: WorkRounds
    payer: Callable[[PeerId], WorkAccount]
    wheel: TimerWheel
    leftovers: Leftovers
    metrics: Metrics
    log: structlog.stdlib.BoundLogger
    throttled: ThrottledLog

    def keep_alive(self, now: float) -> KeepAlive:
        """The marks of a connection that begins now."""
        return KeepAlive(
            now,
            keepalive_s=self.options.keepalive_s,
            silence_max_s=self.options.silence_max_s,
            frame_max_s=self.options.frame_timeout_s,
            leaving_max_s=self.options.handling_timeout_s + DRAIN_SLACK_S,
        )
