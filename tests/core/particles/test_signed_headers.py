"""A header that was verified is not verified again; a liar gets nothing out of that."""

from __future__ import annotations

import pytest
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from fluvial.particles.signed_headers import SignedHeaders
from msgspec.structs import replace

KEYS = KeyPair.from_secret(b"signer".ljust(32, b"\0"))


def particle(number: int = 0) -> Particle:
    return Particle.create(
        KEYS, "(null)", particle_id=f"p{number}", timestamp_ms=0, ttl_ms=1, max_hops=1, network="test"
    )


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the particles whose signatures are verified."""
    ids: list[str] = []
    verify = Particle.signed_by_initiator

    def noted(self: Particle, signed_bytes: bytes) -> bool:
        ids.append(self.id)
        return verify(self, signed_bytes)

    monkeypatch.setattr(Particle, "signed_by_initiator", noted)
    return ids


def test_a_header_is_verified_once(verified: list[str]) -> None:
    headers = SignedHeaders()
    assert [headers.is_signed(particle()) for _ in range(3)] == [True] * 3
    assert verified == ["p0"]


def test_another_signature_or_header_is_verified_anew(verified: list[str]) -> None:
    headers, right = SignedHeaders(), particle()
    assert headers.is_signed(right)
    forged = replace(right, signature=bytes(64))
    stolen = replace(right, header=particle(1).header)
    assert not any(headers.is_signed(one) for one in (forged, stolen, forged, stolen))
    assert headers.is_signed(right)
    assert verified == ["p0", "p0", "p1", "p0", "p1"]


def test_so_many_are_remembered_and_those_that_came_last(verified: list[str]) -> None:
    headers = SignedHeaders(most=2)
    for number in (0, 1, 0, 2, 0, 1):
        assert headers.is_signed(particle(number))
    assert verified == ["p0", "p1", "p2", "p1"]
