"""A peer's services, and a short way to call them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from fluvial.clock import ManualClock
from fluvial.effectors import Call, Tetraplet
from fluvial.identity import KeyPair, PeerId
from fluvial.services import ServiceLimits, Services
from prometheus_client import CollectorRegistry

from tests.support.services import KEYS, make_services

STRANGER = KeyPair.from_secret(b"\x02" * 32)


@pytest.fixture(scope="module", autouse=True)
def quick(plain_logs: None) -> None:
    """All tests of this room."""


@pytest.fixture
def keys() -> KeyPair:
    return KEYS


@pytest.fixture
def stranger() -> PeerId:
    return STRANGER.peer_id


@pytest.fixture
def metrics() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_123)


@pytest.fixture
def limits() -> ServiceLimits:
    return ServiceLimits()


@pytest.fixture
async def services(metrics: CollectorRegistry, clock: ManualClock, limits: ServiceLimits) -> AsyncIterator[Services]:
    async with make_services(metrics, clock, limits) as there:
        yield there


def make_call(
    name: str,
    *arguments: Any,
    initiator: PeerId = KEYS.peer_id,
    particle: str = "particle-1",
    tetraplets: Sequence[Sequence[Tetraplet]] = (),
) -> Call:
    service, _, function = name.rpartition(".")
    return Call(
        particle_id=particle,
        initiator=initiator,
        service=service,
        function=function,
        arguments=list(arguments),
        tetraplets=tetraplets,
        timestamp_ms=1_700_000_000_000,
        ttl_ms=10_000,
    )


@dataclass
class Ask:
    """``await ask("op.identity", 1)``"""

    services: Services

    def __call__(self, name: str, *arguments: Any, **more: Any) -> Awaitable[Any]:
        return self.services.call(make_call(name, *arguments, **more))


@pytest.fixture
def ask(services: Services) -> Ask:
    return Ask(services)


@pytest.fixture
def call() -> Callable[..., Call]:
    return make_call


@pytest.fixture
def counted(metrics: CollectorRegistry) -> Callable[[str, str], float]:
    """How many calls the metrics have for a kind and an outcome."""

    def count(kind: str, outcome: str) -> float:
        labels = {"service_kind": kind, "outcome": outcome}
        return metrics.get_sample_value("fluvial_service_calls_total", labels) or 0.0

    return count
