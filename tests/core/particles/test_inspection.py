"""What is looked at before a particle is let in: every reason to refuse, and the edges next to them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from fluvial.errors import Refused
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, Particle
from fluvial.particles.inspection import inspect
from fluvial.particles.limits import ParticleLimits

KEYS = KeyPair.from_secret(b"initiator".ljust(32, b"."))
NOW_MS = 1_700_000_000_000
LIMITS = ParticleLimits(
    ttl_ms_max=60_000, clock_skew_ms_max=5_000, hops_max=10, script_bytes_max=100, data_bytes_max=200
)


def delivery(*, script: str = "(null)", hops: int = 1, data: bytes = b"", **changes: Any) -> Delivery:
    fields = {"particle_id": "p", "timestamp_ms": NOW_MS, "ttl_ms": 60_000, "max_hops": 10, "network": "test"}
    particle = Particle.create(KEYS, script, **(fields | changes))
    return Delivery(KEYS.public_key, hops, particle.header, particle.signature, script, data)


def refusal(what: Delivery, now_ms: int = NOW_MS) -> Refused | None:
    try:
        inspect(what, network="test", limits=LIMITS, now_ms=now_ms)
    except Refused as refused:
        return refused
    return None


@pytest.mark.parametrize(
    ("what", "now_ms", "reason", "message"),
    [
        (delivery(network="other"), NOW_MS, "network", "of network 'other', this peer of 'test'"),
        (delivery(), NOW_MS + 60_000, "expired", "expired 0 ms ago"),
        (delivery(ttl_ms=0), NOW_MS, "expired", "expired 0 ms ago"),
        (delivery(), NOW_MS + 70_000, "expired", "expired 10000 ms ago"),
        (
            delivery(timestamp_ms=NOW_MS + 5_001),
            NOW_MS,
            "future",
            "begins 5001 ms in the future, more than the 5000 ms",
        ),
        (delivery(ttl_ms=60_001), NOW_MS, "ttl", "ttl of 60001 ms is longer than 60000 ms"),
        (delivery(max_hops=11), NOW_MS, "hops", "11 hops, this peer allows 10"),
        (delivery(max_hops=3, hops=4), NOW_MS, "hops", "made 4 hops, 3 were allowed"),
        (delivery(script="x" * 101), NOW_MS, "size", "script has 101 bytes, 100 are allowed"),
        (delivery(script="ä" * 51), NOW_MS, "size", "script has 102 bytes, 100 are allowed"),
        (delivery(data=bytes(201)), NOW_MS, "size", "carries 201 bytes of data, 200 are allowed"),
        (
            msgspec.structs.replace(delivery(), script="(never)"),
            NOW_MS,
            "script_hash",
            "not the one that the initiator signed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_refused_with_the_reason(what: Delivery, now_ms: int, reason: str, message: str) -> None:
    refused = refusal(what, now_ms)
    assert refused is not None
    assert refused.reason == reason
    assert message in refused.message


@pytest.mark.parametrize(
    ("what", "now_ms"),
    [
        (delivery(), NOW_MS),
        (delivery(), NOW_MS + 59_999),
        (delivery(timestamp_ms=NOW_MS + 5_000), NOW_MS),
        (delivery(max_hops=10, hops=10), NOW_MS),
        (delivery(max_hops=0, hops=0), NOW_MS),
        (delivery(script="x" * 100), NOW_MS),
        (delivery(script="ä" * 50), NOW_MS),
        (delivery(data=bytes(200)), NOW_MS),
    ],
)
def test_at_the_limit_it_is_let_in(what: Delivery, now_ms: int) -> None:
    assert refusal(what, now_ms) is None


def test_expired_particle_comes_with_advice() -> None:
    refused = refusal(delivery(), NOW_MS + 60_000)
    assert refused is not None
    assert "longer ttl" in refused.hint


def test_cheapest_checks_come_first() -> None:
    everything = delivery(network="other", ttl_ms=90_000, max_hops=99, data=bytes(999))
    refused = refusal(everything, NOW_MS + 90_000)
    assert refused is not None
    assert refused.reason == "network"
