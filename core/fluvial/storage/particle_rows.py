"""How the values of ``fluvial.stored`` are made of rows."""

from __future__ import annotations

from typing import Any

from fluvial.encoding import decode
from fluvial.errors import DamagedParticle, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.particle import Header, Particle, ParticleKey
from fluvial.stored import OutboxRow, ParticleState, ParticleSummary


def particle_of(row: Any) -> Particle:
    """The particle in a row of ``particles`` with its ``script``.

    Raises:
        DamagedParticle: the bytes are not those that were stored.
    """
    particle = Particle(_header(row), row.signature, row.script.decode(errors="replace"))
    if particle.key != row.key or not particle.has_its_script():
        raise _damaged(row)
    return particle


def outbox_row_of(row: Any) -> OutboxRow:
    """The value of a row of ``outbox`` with what it needs of the particle's."""
    return OutboxRow(
        key=ParticleKey(row.key),
        peer=PeerId(row.peer),
        version=row.version,
        since_ms=row.since_ms,
        attempts=row.attempts,
        last_error=row.last_error,
        deadline_ms=row.deadline_ms,
        initiator=PeerId.from_public_key(row.initiator),
        sender=PeerId(row.sender),
    )


def initiator_of(row: Any) -> PeerId:
    """The initiator of the particle in a row of ``particles``; the sender, if the header is not what was stored."""
    try:
        return PeerId.from_public_key(_header(row).initiator)
    except DamagedParticle:
        return PeerId(row.sender)


def summary_of(row: Any) -> ParticleSummary:
    """The value of a row of ``particles`` with the number of peers ``waiting``; of a header that is not what was stored the id as it is searched for, and the sender."""
    try:
        particle_id = _header(row).id
    except DamagedParticle:
        particle_id = row.id
    return ParticleSummary(
        key=ParticleKey(row.key),
        id=particle_id,
        initiator=initiator_of(row),
        sender=PeerId(row.sender),
        hops=row.hops,
        received_at_ms=row.received_at_ms,
        deadline_ms=row.deadline_ms,
        state=ParticleState(row.state),
        entries=row.entries,
        waiting=row.waiting,
    )


def _header(row: Any) -> Header:
    try:
        return decode(row.header, Header, what="particle header")
    except RemoteProtocolError as error:
        raise _damaged(row) from error


def _damaged(row: Any) -> DamagedParticle:
    return DamagedParticle(
        f"particle {row.key.hex()}: its stored bytes are damaged",
        hint="it is lost here, and others are not; if there are more of them, check the disk",
    )
