"""The port ``blobs`` for parts that are tested without a node: contents in a folder, shared by all parts of one network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fluvial.errors import ResourceLimit, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import BlobId

_RAW_SHA256: Final = bytes.fromhex("01551220")


class KeptBlobs:
    """Keeps what is put, and gets it from others that a test has introduced.

    Args:
        folder: where the files lie; made when the first content comes.

    Attributes:
        others: whose contents can be had, by peer.
        pinned: what the part has pinned.
    """

    def __init__(self, folder: Path) -> None:
        self.others: dict[PeerId, KeptBlobs] = {}
        self.pinned: set[BlobId] = set()
        self._folder = folder / "blobs"

    async def put(self, data: Path | bytes) -> BlobId:
        """As :meth:`fluvial.ports.Blobs.put`."""
        content = data if isinstance(data, bytes) else _read(data)
        blob = self._keep(content)
        self.pinned.add(blob)
        return blob

    async def get(self, blob: BlobId, *, bytes_max: int, hints: Sequence[PeerId] = ()) -> Path:
        """As :meth:`fluvial.ports.Blobs.get`: from here, else from the hints, else from any other."""
        own = self._folder / blob
        if not _is_file(own):
            others = [self.others[peer] for peer in (*hints, *self.others) if peer in self.others]
            holder = next((other for other in others if _is_file(other._folder / blob)), None)
            if holder is None:
                raise Unreachable(f"nobody has {blob}")
            self._keep(_read(holder._folder / blob))
        if own.stat().st_size > bytes_max:
            raise ResourceLimit(f"{blob} has more than {bytes_max} bytes")
        return own

    async def pin(self, blob: BlobId) -> None:
        """As :meth:`fluvial.ports.Blobs.pin`."""
        if not _is_file(self._folder / blob):
            raise Unreachable(f"{blob} is not here")
        self.pinned.add(blob)

    async def unpin(self, blob: BlobId) -> None:
        """As :meth:`fluvial.ports.Blobs.unpin`."""
        self.pinned.discard(blob)

    def _keep(self, content: bytes) -> BlobId:
        digest = base64.b32encode(_RAW_SHA256 + hashlib.sha256(content).digest()).decode().rstrip("=").lower()
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"b{digest}").write_bytes(content)
        return BlobId(f"b{digest}")


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _is_file(path: Path) -> bool:
    return path.is_file()
