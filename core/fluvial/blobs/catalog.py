"""The blobs in the folder, and which of them must be deleted to make room. Pure: the shell carries out on the files what is decided here.

An entry is *kept* (complete) or *unfinished* (a download, in progress or interrupted). It counts with all its bytes from the moment when
it is reserved. When room is needed, these go, in this order: interrupted downloads, the oldest first; then kept blobs that no part has
pinned, the least recently used first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from fluvial.blob_id import BlobId
from fluvial.blobs.layout import Layout
from fluvial.errors import ResourceLimit


class CatalogEntry(msgspec.Struct, kw_only=True):
    """A blob in the folder.

    Attributes:
        size: of its content, in bytes.
        used_ms: when this peer last used it, in milliseconds since 1970; of an unfinished one, when it was last worked on.
        complete: whether it is kept; otherwise it is unfinished.
        busy: whether it is being downloaded or put now.
        claims: how many are about to pin it; it stays meanwhile.
        pins: the parts that need it, as they are noted in the folder.
    """

    size: int
    used_ms: int
    complete: bool = True
    busy: bool = False
    claims: int = 0
    pins: set[str] = msgspec.field(default_factory=set)

    @property
    def bytes(self) -> int:
        """What it takes on the disk: content and tree."""
        return self.size + Layout(self.size).tree_bytes


class Catalog:
    """The entries, within limits.

    Args:
        bytes_max: most bytes of all entries.
        blobs_max: most entries.
        unfinished_max: most of them that are unfinished.
    """

    def __init__(self, *, bytes_max: int, blobs_max: int, unfinished_max: int) -> None:
        self._entries: dict[BlobId, CatalogEntry] = {}
        self._bytes_max: Final = bytes_max
        self._blobs_max: Final = blobs_max
        self._unfinished_max: Final = unfinished_max
        self.bytes = 0
        """The bytes of all entries and reservations."""
        self._reserved = 0

    def get(self, blob: BlobId) -> CatalogEntry | None:
        """The entry of a blob, kept or unfinished."""
        return self._entries.get(blob)

    def kept(self, blob: BlobId) -> CatalogEntry | None:
        """The entry of a blob that is complete."""
        entry = self._entries.get(blob)
        return entry if entry is not None and entry.complete else None

    def __iter__(self) -> Iterator[tuple[BlobId, CatalogEntry]]:
        return iter(self._entries.items())

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, blob: BlobId, entry: CatalogEntry) -> None:
        """Enter a blob for which room was made, or that lies in the folder at the start; it replaces the one of the same id."""
        self.remove(blob)
        self._entries[blob] = entry
        self.bytes += entry.bytes

    def remove(self, blob: BlobId) -> None:
        """Forget a blob."""
        if (entry := self._entries.pop(blob, None)) is not None:
            self.bytes -= entry.bytes

    def reserve(self, size: int) -> None:
        """Count a content whose id is not known yet, and for which room was made; until :meth:`release`."""
        self.bytes += CatalogEntry(size=size, used_ms=0).bytes
        self._reserved += 1

    def release(self, size: int) -> None:
        """Undo :meth:`reserve`."""
        self.bytes -= CatalogEntry(size=size, used_ms=0).bytes
        self._reserved -= 1

    def make_room(self, size: int, *, unfinished: bool = False) -> list[BlobId]:
        """Forget as many entries as must go for one more; the caller deletes their files.

        Args:
            size: of the further content, in bytes.
            unfinished: whether it is a download.

        Raises:
            ResourceLimit: it does not fit, whatever goes; nothing was forgotten then.
        """
        entry = CatalogEntry(size=size, used_ms=0)
        over_bytes = self.bytes + entry.bytes - self._bytes_max
        over_blobs = len(self._entries) + self._reserved + 1 - self._blobs_max
        over_downloads = self._unfinished() + 1 - self._unfinished_max if unfinished else 0
        victims: list[BlobId] = []
        for blob, victim in self._may_go():
            if over_bytes <= 0 and over_blobs <= 0 and over_downloads <= 0:
                break
            if over_bytes <= 0 and over_blobs <= 0 and victim.complete:
                break  # only downloads are too many
            victims.append(blob)
            over_bytes -= victim.bytes
            over_blobs -= 1
            over_downloads -= not victim.complete
        if over_downloads > 0:
            raise ResourceLimit(
                f"{self._unfinished_max} downloads are in progress, no more are allowed",
                hint="try again later, or raise `downloads_max` in [blobs]",
            )
        if over_bytes > 0 or over_blobs > 0:
            raise ResourceLimit(
                f"there is no room for {size:,} more bytes: {len(self._entries):,} blobs of at most {self._blobs_max:,} have "
                f"{self.bytes:,} bytes of at most {self._bytes_max:,}, and what can go is not enough",
                hint="unpin blobs, or raise `bytes_max` or `blobs_max` in [blobs]",
            )
        for blob in victims:
            self.remove(blob)
        return victims

    def interrupted_before(self, time_ms: int) -> list[BlobId]:
        """The downloads that nobody has worked on since a time."""
        return [
            blob
            for blob, entry in self._entries.items()
            if not entry.complete and not entry.busy and entry.used_ms < time_ms
        ]

    def offered(self, most: int) -> list[BlobId]:
        """The blobs by which others may look this peer up: pinned ones first, then the most recently used."""
        kept = [(bool(entry.pins), entry.used_ms, blob) for blob, entry in self._entries.items() if entry.complete]
        return [blob for _, _, blob in sorted(kept, reverse=True)[:most]]

    def _unfinished(self) -> int:
        return sum(not entry.complete for entry in self._entries.values())

    def _may_go(self) -> list[tuple[BlobId, CatalogEntry]]:
        free = [
            (blob, entry) for blob, entry in self._entries.items() if not (entry.busy or entry.claims or entry.pins)
        ]
        return sorted(free, key=lambda one: (one[1].complete, one[1].used_ms))
