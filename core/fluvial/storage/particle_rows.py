"""How the values of ``fluvial.stored`` are made of rows."""

from __future__ import annotations

from typing import Any

from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError, StorageError
from fluvial.identity import PeerId
from fluvial.particle import Header, Particle, ParticleKey
from fluvial.stored import OutboxRow, ParticleState, ParticleSummary


def particle_of(row: Any) -> Particle:
    """The particle in a row of ``particles`` with its ``script``.

    Raises:
        StorageError: the bytes are not those that were stored.
    """
    particle = Particle(_header(row), row.signature, row.script.decode(errors="replace"))
    if particle.key != row.key or not particle.has_its_script():
        raise _damaged(row)
    return particle


def outbox_row_of(row: Any) -> OutboxRow:
    """The value of a row of ``outbox`` with the particle's deadline."""
    return OutboxRow(**{**row._asdict(), "key": ParticleKey(row.key), "peer": PeerId(row.peer)})


def initiator_of(row: Any) -> PeerId:
    """The initiator of the particle in a row of ``particles``; raises StorageError if the header is not what was stored."""
    return PeerId.from_public_key(_header(row).initiator)


def summary_of(row: Any) -> ParticleSummary:
    """The value of a row of ``particles`` with the number of peers ``waiting``.

    Raises:
        StorageError: the header is not what was stored.
    """
    header = _header(row)
    return ParticleSummary(
        key=ParticleKey(row.key),
        id=header.id,
        initiator=PeerId.from_public_key(header.initiator),
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


def _damaged(row: Any) -> StorageError:
    return StorageError(
        f"particle {row.key.hex()}: its stored bytes are damaged", hint="restore a backup of the database"
    )
