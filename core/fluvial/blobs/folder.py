"""The folder of blobs: everything that touches the disk, as blocking functions that leave it right at any moment of a crash.

::

    ID               a complete content
    ID.tree          all nodes of its tree, concatenated; not there if the content is a single leaf
    ID.part          a download: a file of the content's size into which chunks are written as they come
    ID.pin.PART      an empty file: the part of this name needs the blob
    NAME.tmp         something that is being written; deleted at the next start
    .lock            held by the peer that uses the folder

A file gets its final name when it is complete and synced, and the tree gets its name before the content. A download remembers nothing but
the tree: which chunks are there is found out by hashing them, since after a power cut nothing else can be relied on.

Pins and times of use (the files' own) lie beside the contents, not in the database: they must agree with what the folder holds, also when
the database is on another machine or is restored from an older copy; and a pin is one file that is made or deleted, so it needs no transaction.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from fluvial.blob_id import ID_CHARACTERS, BlobId
from fluvial.blobs.files import disk_errors, set_time, write_all
from fluvial.blobs.layout import CHUNK_BYTES, NODE_BYTES_MAX, Layout
from fluvial.blobs.tree import BlobTree, root_layout
from fluvial.errors import LocalProtocolError, RemoteProtocolError, ResourceLimit, StorageError

PART_NAME_CHARACTERS_MAX: Final = 150
_TREE, _PARTIAL, _PIN, _TEMPORARY = ".tree", ".part", ".pin.", ".tmp"


class Found(msgspec.Struct, kw_only=True):
    """A blob that lies in the folder at the start."""

    blob: BlobId
    size: int
    used_ms: int
    complete: bool
    pins: set[str] = msgspec.field(default_factory=set)


class BlobFolder:
    """The files of one peer's blobs; every method blocks and raises StorageError if the disk fails.

    Args:
        path: the folder, made when the first content comes; None for a temporary one that goes when it is closed.
        free_bytes_min: what stays free on the disk.
    """

    def __init__(self, path: Path | None, *, free_bytes_min: int) -> None:
        self.path = path or Path(tempfile.gettempdir()) / f"fluvial-blobs-{uuid.uuid4().hex}"
        self._temporary: Final = path is None
        self._free_bytes_min = free_bytes_min
        self._lock: int | None = None

    # --- what is there

    def open(self) -> list[Found]:
        """Take the folder if it is there, delete what is left of interrupted work in it, and list the rest."""
        if not self.path.exists():
            return []
        self._take()
        with disk_errors(self.path):
            names = {entry.name for entry in os.scandir(self.path) if entry.is_file(follow_symlinks=False)}
            found: dict[str, Found] = {}
            for name in sorted(names):
                blob, partial = name.removesuffix(_PARTIAL), name.endswith(_PARTIAL)
                if _is_id(blob) and blob not in found and (one := self._look_at(BlobId(blob), partial=partial)):
                    found[blob] = one
            for name in names:
                owner, pin, part = name.partition(_PIN)
                holder = found.get(owner)
                if pin and holder is not None and holder.complete:
                    holder.pins.add(unquote(part))
                elif not self._belongs(name, found):
                    (self.path / name).unlink(missing_ok=True)
        return list(found.values())

    def close(self) -> None:
        """Let the folder go; a temporary one is deleted."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            if self._temporary:
                shutil.rmtree(
                    self.path, ignore_errors=True
                )  # what stays is the system's to clean up, as all temporary files

    def _take(self) -> None:
        """Be the only peer that uses the folder; it is made if it is not there."""
        if self._lock is not None:
            return
        with disk_errors(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise StorageError(
                f"{self.path}: another peer uses this folder",
                hint="each peer needs one of its own: `folder` in [blobs]",
            ) from error
        self._lock = lock

    def _look_at(self, blob: BlobId, *, partial: bool) -> Found | None:
        """A content or download whose files fit together; None if they do not."""
        status = (self._partial(blob) if partial else self._content(blob)).stat()
        used_ms = status.st_mtime_ns // 1_000_000
        found = Found(blob=blob, size=status.st_size, used_ms=used_ms, complete=not partial)
        if blob.is_leaf:
            return None if partial or found.size > CHUNK_BYTES else found
        try:
            with self._tree(blob).open("rb") as file:
                layout = root_layout(blob, file.read(NODE_BYTES_MAX))
                fits = os.fstat(file.fileno()).st_size == layout.tree_bytes
        except (FileNotFoundError, RemoteProtocolError):
            return None
        return found if fits and layout.size == found.size else None

    def _belongs(self, name: str, found: dict[str, Found]) -> bool:
        """Whether a file that is no pin stays: it is of a found blob, or not ours at all."""
        for suffix in (_TREE, _PARTIAL, ""):
            if name.endswith(suffix) and _is_id(name.removesuffix(suffix)):
                one = found.get(name.removesuffix(suffix))
                return one is not None and (suffix == _TREE or one.complete == (suffix == ""))
        owner, pin, _ = name.partition(_PIN)
        return not (name.endswith(_TEMPORARY) or (pin and _is_id(owner)))

    def path_of(self, blob: BlobId) -> Path:
        """Where a complete content lies."""
        return self._content(blob)

    def is_there(self, blob: BlobId) -> bool:
        """Whether a complete content lies where it should."""
        with disk_errors(self.path):
            return self._content(blob).is_file()

    def read(self, blob: BlobId, layout: Layout, number: int, offset: int, length: int) -> bytes:
        """A piece of a block of a complete blob: at most ``length`` bytes, nothing behind the end of the block.

        Raises:
            StorageError: the file is not there or cannot be read.
        """
        path = self._content(blob) if number >= layout.nodes else self._tree(blob)
        most = min(length, layout.block_bytes(number) - offset)
        with disk_errors(path), path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), most, layout.offset(number) + offset) if most > 0 else b""

    def prepare(self, size: int) -> None:
        """Before a content is written: see that the folder is there and ours, and that the disk can take it and keep its reserve.

        Raises:
            ResourceLimit: it cannot.
        """
        self._take()
        with disk_errors(self.path):
            free = shutil.disk_usage(self.path).free
        if free - size < self._free_bytes_min:
            raise ResourceLimit(
                f"the disk of {self.path} has {free:,} bytes free; {size:,} more would leave less than the "
                f"{self._free_bytes_min:,} that must stay free",
                hint="free some space, or lower `free_bytes_min` in [blobs]",
            )

    # --- complete contents

    def keep(self, temporary: Path, tree: BlobTree, *, used_ms: int) -> None:
        """Give a complete, synced temporary file its name."""
        with disk_errors(self.path):
            self._write_tree(tree)
            set_time(temporary, used_ms)
            temporary.replace(self._content(tree.blob))
            self._sync()

    def temporary(self) -> Path:
        """A new name for something that is being written."""
        return self.path / f"{uuid.uuid4().hex}{_TEMPORARY}"

    def delete(self, blob: BlobId) -> None:
        """Delete a content or a download, with its tree and its pins; the content first."""
        with disk_errors(self.path):
            for path in (self._content(blob), self._partial(blob), self._tree(blob)):
                path.unlink(missing_ok=True)
            for pin in self.path.glob(f"{blob}{_PIN}*"):
                pin.unlink(missing_ok=True)
            self._sync()

    def touch(self, blob: BlobId, *, used_ms: int) -> None:
        """Note when a content or a download was used."""
        with disk_errors(self.path):
            for path in (self._content(blob), self._partial(blob)):
                if path.exists():
                    set_time(path, used_ms)

    # --- pins

    def pin(self, blob: BlobId, part: str) -> None:
        """Note that a part needs a blob; durable on return. If that fails, nothing is noted."""
        path = self._pin(blob, part)
        with disk_errors(self.path):
            path.touch()
            try:
                self._sync()
            except OSError:
                path.unlink(missing_ok=True)
                raise

    def unpin(self, blob: BlobId, part: str) -> None:
        """Undo :meth:`pin`. If that fails, the pin stays."""
        path = self._pin(blob, part)
        with disk_errors(self.path):
            path.unlink(missing_ok=True)
            try:
                self._sync()
            except OSError:
                path.touch()
                raise

    # --- downloads

    def begin(self, tree: BlobTree) -> None:
        """Make the files of a download, for which the tree is known."""
        assert tree.layout is not None
        path = self._partial(tree.blob)
        with disk_errors(path):
            self._write_tree(tree)
            with path.open("wb") as file:
                file.truncate(tree.layout.size)

    def tree_of(self, blob: BlobId) -> BlobTree:
        """The tree of a content or a download that has one.

        Raises:
            RemoteProtocolError: the file is damaged.
        """
        path = self._tree(blob)
        with disk_errors(path):
            nodes = path.read_bytes()
        return BlobTree.parse(blob, nodes)

    def present(self, tree: BlobTree, chunks: range) -> set[int]:
        """The numbers of those blocks among some chunks of a download that are there and right."""
        layout = tree.layout
        assert layout is not None
        path = self._partial(tree.blob)
        with disk_errors(path), path.open("rb", buffering=0) as file:
            return {
                number
                for number in (layout.nodes + chunk for chunk in chunks)
                if tree.is_block(number, os.pread(file.fileno(), layout.below(number), layout.offset(number)))
            }

    def write(self, tree: BlobTree, number: int, block: bytes) -> bool:
        """Write a chunk of a download if it is the right one; whether it was."""
        if not tree.is_block(number, block):
            return False
        assert tree.layout is not None
        path = self._partial(tree.blob)
        with disk_errors(path), path.open("r+b", buffering=0) as file:
            write_all(file.fileno(), block, tree.layout.offset(number))
        return True

    def finish(self, tree: BlobTree, *, used_ms: int) -> None:
        """Turn a download with all its chunks into a complete content."""
        path = self._partial(tree.blob)
        with disk_errors(path):
            with path.open("r+b") as file:
                os.fsync(file.fileno())
            set_time(path, used_ms)
            path.replace(self._content(tree.blob))
            self._sync()

    def drop_partial(self, blob: BlobId) -> None:
        """Delete a download whose content came here in another way."""
        with disk_errors(self.path):
            self._partial(blob).unlink(missing_ok=True)

    # --- files

    def _content(self, blob: BlobId) -> Path:
        return self.path / blob

    def _tree(self, blob: BlobId) -> Path:
        return self.path / f"{blob}{_TREE}"

    def _partial(self, blob: BlobId) -> Path:
        return self.path / f"{blob}{_PARTIAL}"

    def _pin(self, blob: BlobId, part: str) -> Path:
        name = quote(part, safe="")
        if not 0 < len(name) <= PART_NAME_CHARACTERS_MAX:
            raise LocalProtocolError(
                f"{part[:80]!r} is no name under which a blob can be pinned: it is too long or empty"
            )
        return self.path / f"{blob}{_PIN}{name}"

    def _write_tree(self, tree: BlobTree) -> None:
        if nodes := tree.nodes:
            self._write_temporary(nodes).replace(self._tree(tree.blob))

    def _write_temporary(self, data: bytes) -> Path:
        path = self.temporary()
        with disk_errors(path), path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def _sync(self) -> None:
        """Make the names in the folder durable."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_id(text: str) -> bool:
    if len(text) != ID_CHARACTERS:
        return False
    try:
        BlobId.parse(text)
    except ValueError:
        return False
    return True
