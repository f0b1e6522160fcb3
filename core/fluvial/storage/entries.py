"""What every store of particles checks before it writes, and what it says when it refuses; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.errors import ResourceLimit, StorageError
from fluvial.particle import ParticleKey
from fluvial.stored import JournalEntry

KIND_CHARACTERS_MAX: Final = 32
PAYLOAD_BYTES_MAX: Final = 64 * 2**20
"""Of one journal entry; far above a frame, so that nothing that arrived can fail to be stored."""

ERROR_CHARACTERS_MAX: Final = 500
"""Of an outbox row's last error; the rest is cut off."""


def check_entries(entries: Sequence[JournalEntry]) -> None:
    """Refuse entries that do not follow each other or are too large.

    Raises:
        StorageError: there is a gap.
        ResourceLimit: one is too large.
    """
    for offset, entry in enumerate(entries):
        if entry.seq != entries[0].seq + offset:
            raise StorageError(
                f"journal entry {entry.seq} does not follow {entries[offset - 1].seq}",
                hint="this is a bug of the caller",
            )
        if len(entry.payload) > PAYLOAD_BYTES_MAX or len(entry.kind) > KIND_CHARACTERS_MAX:
            raise ResourceLimit(
                f"journal entry {entry.seq} is too large: {len(entry.payload)} bytes, kind of {len(entry.kind)} characters",
                hint=f"{PAYLOAD_BYTES_MAX} bytes and {KIND_CHARACTERS_MAX} characters are allowed",
            )


class ParticleGone(StorageError):
    """The particle was never admitted, or was removed since it had died; nothing is wrong with the store."""


def not_here(key: ParticleKey) -> ParticleGone:
    """What is said of a particle that is not in the store."""
    return ParticleGone(f"particle {key.hex()} is not here", hint="admit it before recording anything about it")


def not_next(key: ParticleKey, seq: int, length: int) -> StorageError:
    """What is said of an entry with a number other than the length of the journal."""
    return StorageError(
        f"particle {key.hex()}: journal entry {seq} does not follow: {length} comes next",
        hint="two writers for one particle, or a bug of the caller",
    )
