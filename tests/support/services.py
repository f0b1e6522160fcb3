"""Services and seats as a node has them, without the node."""

from __future__ import annotations

from random import Random

import structlog
from fluvial.clock import Clock
from fluvial.guard.guard import Guard
from fluvial.guard.guarded import GuardedExecution
from fluvial.identity import KeyPair
from fluvial.seats import Execution
from fluvial.services import Accounts, ServiceLimits, Services
from prometheus_client import CollectorRegistry

KEYS = KeyPair.from_secret(b"\x01" * 32)


def make_guard(metrics: CollectorRegistry | None = None) -> Guard:
    """A guard that logs where all tests log."""
    return Guard(log=structlog.get_logger(), metrics=metrics or CollectorRegistry(), rng=Random(1))


def make_services(
    metrics: CollectorRegistry, clock: Clock, limits: ServiceLimits, execution: Execution | None = None
) -> Services:
    """Services as a node has them, with somebody in the seat of execution or not."""
    log = structlog.get_logger()
    guard = make_guard(metrics)
    seat = None
    if execution is not None:
        seat = GuardedExecution(guard, "execution")
        seat.take(execution, "the-execution")
    return Services(
        peer=KEYS.peer_id,
        accounts=Accounts(metrics=metrics, clock=clock),
        log=log,
        guard=guard,
        execution=seat,
        limits=limits,
    )
