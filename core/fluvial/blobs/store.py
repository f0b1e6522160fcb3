"""The blobs of this peer: the catalog decides, the folder carries it out. All puts, pins, reads and downloads go through here."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import structlog

from fluvial.blob_id import BlobId
from fluvial.blobs.catalog import Catalog, CatalogEntry
from fluvial.blobs.files import STEP_BYTES, Copy, disk_errors
from fluvial.blobs.folder import BlobFolder
from fluvial.blobs.layout import CHUNK_BYTES, Layout
from fluvial.blobs.metrics import BlobMetrics
from fluvial.blobs.settings import BlobsSection
from fluvial.blobs.tree import BlobTree
from fluvial.blobs.work import FileWork
from fluvial.clock import Clock
from fluvial.errors import RemoteProtocolError, StorageError


class BlobStore:
    """All blobs in one folder, within the limits of ``[blobs]``.

    Args:
        base_dir: where a relative folder starts.
        settings: the limits.
        clock: for the times of use.
        work: runs the file operations.
        metrics, log: of the room.
        on_change: called when the set of kept blobs has changed; quick, and never raises.
    """

    def __init__(
        self,
        base_dir: Path,
        settings: BlobsSection,
        *,
        clock: Clock,
        work: FileWork,
        metrics: BlobMetrics,
        log: structlog.stdlib.BoundLogger,
        on_change: Callable[[], None],
    ) -> None:
        self._on_change = on_change
        path = base_dir / settings.folder if settings.folder else None
        self._folder = BlobFolder(path, free_bytes_min=settings.free_bytes_min)
        self._settings = settings
        self._clock = clock
        self._work: Final = work
        self._log = log
        self._evicted = metrics.evicted
        self._catalog = Catalog(
            bytes_max=settings.bytes_max, blobs_max=settings.blobs_max, unfinished_max=settings.downloads_max
        )
        self._changing = anyio.Lock()  # which files there are; contents are written without it
        self._pinning = anyio.Lock()  # pins, in memory and in the folder; whoever holds it never waits for `_changing`
        metrics.bytes.set_function(lambda: self._catalog.bytes)
        metrics.kept.set_function(lambda: sum(entry.complete for _, entry in self._catalog))
        metrics.unfinished.set_function(lambda: sum(not entry.complete for _, entry in self._catalog))

    async def open(self) -> None:
        """Find out what lies in the folder; raises StorageError if it cannot be used."""
        for found in await self._work.run(self._folder.open):
            entry = CatalogEntry(size=found.size, used_ms=found.used_ms, complete=found.complete, pins=found.pins)
            self._catalog.put(found.blob, entry)
        await self.sweep()

    async def close(self) -> None:
        """Let the folder go, when nobody works on it any more."""
        await self._work.run(self._folder.close)

    async def sweep(self) -> None:
        """Give up downloads that were interrupted too long ago."""
        keep_ms = int(self._settings.interrupted_keep_s * 1_000)
        async with self._changing:
            old = self._catalog.interrupted_before(self._clock.now_ms() - keep_ms)
            for blob in old:
                self._catalog.remove(blob)
            await self._delete(old)

    # --- complete blobs

    def layout(self, blob: BlobId) -> Layout | None:
        """The shape of a blob that is kept; None if it is not."""
        entry = self._catalog.kept(blob)
        return None if entry is None else Layout(entry.size)

    def offered(self) -> Sequence[BlobId]:
        """The blobs by which others may look this peer up."""
        return self._catalog.offered(self._settings.announced_max)

    async def use(self, blob: BlobId, *, pin_for: str = "") -> Path | None:
        """Where the content of a kept blob lies; None if it is not kept.

        Args:
            blob: which one.
            pin_for: the part that pins it from now on; empty for none.
        """
        if (entry := self._catalog.kept(blob)) is None:
            return None
        entry.used_ms = self._clock.now_ms()
        entry.claims += bool(pin_for)
        try:
            if not await self._is_there(blob, entry):
                return None
            await self._work.run(partial(self._folder.touch, blob, used_ms=entry.used_ms))
            if pin_for and not await self._pin(blob, entry, pin_for):
                return None
        finally:
            entry.claims -= bool(pin_for)
        return self._folder.path_of(blob)

    async def _is_there(self, blob: BlobId, entry: CatalogEntry) -> bool:
        """Whether a kept blob lies in the folder; if it does not, it is forgotten."""
        if await self._work.run(partial(self._folder.is_there, blob)):
            return True
        if self._catalog.get(blob) is entry:  # otherwise it was evicted meanwhile
            self._log.error("blob_lost", blob=blob, folder=str(self._folder.path))
            self._catalog.remove(blob)
            self._on_change()
        return False

    async def _pin(self, blob: BlobId, entry: CatalogEntry, part: str) -> bool:
        """Note a pin in the folder, then in memory; False if the blob was lost meanwhile."""
        async with self._pinning:
            if self._catalog.get(blob) is not entry:
                return False
            if part not in entry.pins:
                await self._work.run(partial(self._folder.pin, blob, part))
                entry.pins.add(part)
            return True

    async def unpin(self, blob: BlobId, part: str) -> None:
        """A part does not need a blob any more; if the disk fails, it stays pinned."""
        async with self._pinning:
            entry = self._catalog.kept(blob)
            if entry is not None and part in entry.pins:
                await self._work.run(partial(self._folder.unpin, blob, part))
                entry.pins.discard(part)

    async def read(self, blob: BlobId, layout: Layout, number: int, offset: int, length: int) -> bytes:
        """A piece of a block of a kept blob."""
        return await self._work.run(partial(self._folder.read, blob, layout, number, offset, length))

    async def put(self, data: Path | bytes, *, pin_for: str = "") -> BlobId:
        """Keep a content.

        Raises:
            ResourceLimit: there is no room for it.
            StorageError: it cannot be read or written, or changed meanwhile.
        """
        if isinstance(data, Path):
            source = await self._work.run(partial(_open, data))
            size = await self._work.run(lambda: source.seek(0, io.SEEK_END))
            await self._work.run(lambda: source.seek(0))
        else:
            source, size = io.BytesIO(data), len(data)
        with source:
            async with self._changing:
                await self._make_room(size)
                self._catalog.reserve(size)
            try:
                return await self._copy(source, size, pin_for)
            finally:
                self._catalog.release(size)

    async def _copy(self, source: BinaryIO, size: int, pin_for: str) -> BlobId:
        target = self._folder.temporary()
        copy = await self._work.run(partial(Copy, source, size, target))
        try:
            while await self._work.run(copy.step):
                pass
            tree = await self._work.run(copy.finish)
            async with self._changing:
                await self._keep(target, tree)
                if pin_for:
                    await self.use(tree.blob, pin_for=pin_for)
        finally:
            with anyio.CancelScope(shield=True):
                await self._work.run(copy.discard)
        return tree.blob

    async def _keep(self, temporary: Path, tree: BlobTree) -> None:
        """A temporary file becomes a kept blob, unless it is one already."""
        assert tree.layout is not None
        entry = self._catalog.get(tree.blob)
        if entry is not None and entry.complete and await self._is_there(tree.blob, entry):
            return
        now_ms = self._clock.now_ms()
        await self._work.run(partial(self._folder.keep, temporary, tree, used_ms=now_ms))
        self._catalog.put(tree.blob, CatalogEntry(size=tree.layout.size, used_ms=now_ms))
        self._on_change()
        if entry is not None and not entry.busy:
            await self._work.run(partial(self._folder.drop_partial, tree.blob))

    # --- downloads

    async def begin(self, tree: BlobTree) -> bool:
        """Make room and files for a download, for which all nodes are known; :meth:`leave` must follow.

        Returns:
            False if there is nothing to download: somebody put the blob meanwhile.

        Raises:
            ResourceLimit: there is no room for it.
            StorageError: the disk fails.
        """
        assert tree.layout is not None
        size = tree.layout.size
        async with self._changing:
            if self._catalog.kept(tree.blob) is not None:
                return False
            await self._make_room(size, unfinished=True)
            await self._work.run(partial(self._folder.begin, tree))
            entry = CatalogEntry(size=size, used_ms=self._clock.now_ms(), complete=False, busy=True)
            self._catalog.put(tree.blob, entry)
            return True

    async def resume(self, blob: BlobId) -> tuple[BlobTree, set[int]] | None:
        """An interrupted download: its tree, and the blocks that are there; None if there is none. :meth:`leave` must follow."""
        entry = self._catalog.get(blob)
        if entry is None or entry.complete:
            return None
        entry.busy = True
        try:
            tree = await self._work.run(partial(self._folder.tree_of, blob))
            present: set[int] = set()
            chunks = Layout(entry.size).chunks
            step = STEP_BYTES // CHUNK_BYTES
            for begin in range(0, chunks, step):
                some = range(begin, min(begin + step, chunks))
                present |= await self._work.run(partial(self._folder.present, tree, some))
        except (RemoteProtocolError, StorageError) as error:
            self._log.warning("blob_download_damaged", blob=blob, error=error.message)
            async with self._changing:
                if self._catalog.get(blob) is entry:  # otherwise somebody put it meanwhile
                    self._catalog.remove(blob)
                    await self._delete([blob])
            return None
        return tree, present

    async def write(self, tree: BlobTree, number: int, block: bytes) -> bool:
        """Check a chunk of a download and write it; False if it is not the right one."""
        return await self._work.run(partial(self._folder.write, tree, number, block))

    async def finish(self, tree: BlobTree) -> None:
        """All chunks of a download are there: it is a kept blob from now on."""
        async with self._changing:
            if self._catalog.kept(tree.blob) is not None:  # somebody put it meanwhile
                await self._work.run(partial(self._folder.drop_partial, tree.blob))
                return
            now_ms = self._clock.now_ms()
            await self._work.run(partial(self._folder.finish, tree, used_ms=now_ms))
            assert tree.layout is not None
            self._catalog.put(tree.blob, CatalogEntry(size=tree.layout.size, used_ms=now_ms))
            self._on_change()

    async def leave(self, blob: BlobId) -> None:
        """Nobody works on a download any more; what it has stays for the next time."""
        entry = self._catalog.get(blob)
        if entry is not None and entry.complete:
            await self._work.run(partial(self._folder.drop_partial, blob))  # perhaps somebody put it meanwhile
        elif entry is not None:
            entry.busy = False
            entry.used_ms = self._clock.now_ms()
            await self._work.run(partial(self._folder.touch, blob, used_ms=entry.used_ms))

    # --- room

    async def _make_room(self, size: int, *, unfinished: bool = False) -> None:
        await self._delete(self._catalog.make_room(size, unfinished=unfinished))
        await self._work.run(partial(self._folder.prepare, size))

    async def _delete(self, victims: Sequence[BlobId]) -> None:
        """Delete the files of entries that the catalog has forgotten."""
        if victims:
            self._on_change()
        for blob in victims:
            await self._work.run(partial(self._folder.delete, blob))
            self._evicted.inc()
            self._log.info("blob_evicted", blob=blob)


def _open(path: Path) -> BinaryIO:
    with disk_errors(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise StorageError(f"{path} is no regular file, so it cannot be put into the blobs")
        return path.open("rb")
