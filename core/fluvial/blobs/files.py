"""Single files of the blobs: errors of the disk as ours, and the copy of a content on its way into the folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.blobs.tree import BlobTree, ChunkHasher
from fluvial.errors import StorageError

STEP_BYTES: Final = 16 * CHUNK_BYTES
"""How much one call copies or hashes, 4 MiB: a few milliseconds, after which a cancelled caller may stop."""


class Copy:
    """A content on its way into the folder: read, hashed and written step by step.

    Args:
        source: where it comes from.
        size: how many bytes it has; another number found while reading is an error.
        target: the temporary file.
    """

    def __init__(self, source: BinaryIO, size: int, target: Path) -> None:
        self._source = source
        self._size = size
        self._hasher = ChunkHasher()
        self._path = target
        with disk_errors(target):
            self._file = target.open("xb")

    def step(self) -> bool:
        """Copy the next :data:`STEP_BYTES`; whether there is more."""
        try:
            data = self._source.read(STEP_BYTES)
        except OSError as error:
            raise StorageError(f"the content of a blob cannot be read: {error}") from error
        self._hasher.update(data)
        if self._hasher.size > self._size or (not data and self._hasher.size < self._size):
            raise StorageError("the file changed while it was copied into the blobs", hint="put it again")
        with disk_errors(self._path):
            self._file.write(data)
        return bool(data)

    def finish(self) -> BlobTree:
        """Sync what was written; the tree of the content."""
        with disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return self._hasher.tree()

    def discard(self) -> None:
        """Delete the temporary file, if it still has its temporary name."""
        with disk_errors(self._path):
            self._file.close()
            self._path.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns the errors of the operating system into StorageError."""
    try:
        yield
    except OSError as error:
        hint = "the user that runs this must be allowed to read and write there"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space on the disk, or give the user that runs this a larger quota"
        elif error.errno == errno.EIO:
            hint = "check the disk and the system's log"
        elif error.errno == errno.ENOENT:
            hint = "something else deleted the file; nothing but the peer should write to this folder"
        raise StorageError(f"{path}: {error.strerror or error}", hint=hint) from error


def set_time(path: Path, time_ms: int) -> None:
    """Note when a file was used, in milliseconds since 1970."""
    os.utime(path, ns=(time_ms * 1_000_000, time_ms * 1_000_000))


def write_all(handle: int, data: bytes, offset: int) -> None:
    """Write at an offset; ``pwrite`` may write less than it was given."""
    view = memoryview(data)
    while view:
        written = os.pwrite(handle, view, offset)
        view, offset = view[written:], offset + written
