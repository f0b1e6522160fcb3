"""How many bytes of the database are whose: a running account, so that nobody has to ask the database; pure.

It is filled once, when a peer starts, and then told of everything that is written and removed. What a row takes on the disk is estimated
from above, from what it holds and from how a database lays rows out in pages; *reserved* is what is being written just now. Where the database can
say how much of its file is in use, it is asked from time to time (:meth:`DiskAccount.measured`), and the total follows it if the estimate was too low,
as far as that can be: tables of plugins are in the file as well, and may be larger than all particles.

Initiators are named by their public keys; what is of nobody, such as rows of an earlier version, by no bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fluvial.particle import Particle
from fluvial.stored import JournalEntry

PAGE_BYTES: Final = 4_096
"""Source: SQLite documentation, "Database File Format", sections 1.3.2 and 1.6: pages, and the chains of those that a long value takes."""

PARTICLE_BYTES: Final = 900
"""What a row of ``particles`` takes beside its header: columns, and entries of six indexes at a fill of two thirds."""
ENTRY_BYTES: Final = 160
"""The same for a journal entry beside its payload."""
OUTBOX_BYTES: Final = 600
SCRIPT_BYTES: Final = 120
STORY_BYTES: Final = 600
GUARD_BYTES: Final = 160

SCALE_MAX: Final = 3.0
"""The estimate is too low by no more than this: where rows are removed, SQLite keeps its pages a third full. Source: SQLite source, btree.c, ``balance``."""

NOBODY: Final = b""
"""Whose those bytes are that are nobody's."""


OUTBOX_INCLUDED: Final = 2
"""Deliveries of one write that are not counted: mostly their rows are there already, or gone in a moment."""


def row_bytes(content: int, beside: int) -> int:
    """The most that a row takes in its pages, in bytes.

    Args:
        content: bytes of its value.
        beside: what it takes besides; one of the constants above.
    """
    size = content + beside
    if size > PAGE_BYTES:
        return size + size // 500 + PAGE_BYTES
    return PAGE_BYTES // (PAGE_BYTES // size)


def entries_bytes(entries: Sequence[JournalEntry], peers: int) -> int:
    """What an addition to a particle takes in the account.

    Args:
        entries: what is appended to the journal.
        peers: how many must be handed the particle.
    """
    size = max(0, peers - OUTBOX_INCLUDED) * OUTBOX_BYTES
    for entry in entries:
        size += row_bytes(len(entry.payload), ENTRY_BYTES)
    return size


def particle_bytes(particle: Particle) -> int:
    """What a particle takes in the account before anything is in its journal, without its script."""
    return row_bytes(particle.header_bytes + 2 * len(particle.id), PARTICLE_BYTES)


def script_bytes(size: int) -> int:
    """What a script of so many bytes takes in the account."""
    return row_bytes(size, SCRIPT_BYTES)


class DiskAccount:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._of: dict[bytes, int] = {}
        self._stored = 0
        self._reserved = 0
        self._scale = 1.0

    @property
    def total(self) -> int:
        """Bytes of everybody, with those that are being written."""
        return int(self._stored * self._scale) + self._reserved

    def of(self, initiator: bytes) -> int:
        """Bytes of one initiator."""
        return self._of.get(initiator, 0)

    def fill(self, rows: Iterable[tuple[bytes, int]]) -> None:
        """What was there before this process; initiators with their bytes."""
        for initiator, size in rows:
            self.add(initiator, size)

    def reserve(self, size: int) -> None:
        """So much is being written from now on; a negative number is not any more."""
        self._reserved += size

    def add(self, initiator: bytes, size: int) -> None:
        """So much was written; a negative number was removed."""
        self._stored += size
        left = self._of.get(initiator, 0) + size
        if left > 0:
            self._of[initiator] = left
        else:
            self._of.pop(initiator, None)

    def measured(self, used: int) -> None:
        """The database says how many bytes of its file are in use."""
        scale = used / max(self._stored, 1) if used > PAGE_BYTES * 256 else 1.0
        self._scale = min(max(1.0, scale), SCALE_MAX)
