"""The room of blobs as a part of the node: answers other peers, runs downloads, and gives each part its view of the port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus
from prometheus_client import CollectorRegistry

from fluvial.blob_id import BlobId
from fluvial.blobs.download import Download
from fluvial.blobs.fetching import BlockFetcher
from fluvial.blobs.metrics import BlobMetrics
from fluvial.blobs.settings import BlobsSection
from fluvial.blobs.store import BlobStore
from fluvial.blobs.wire import PROTOCOL, REQUEST_BYTES_MAX, decode_request
from fluvial.blobs.work import FileWork
from fluvial.clock import Clock
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, ResourceLimit, StorageError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Capability, Directory, Peers
from fluvial.seats import Answer, Contributions, Part

SWEEP_S: Final = 600.0
"""How often interrupted downloads are checked for their age."""

REQUESTS_AT_ONCE: Final = 64
REQUESTS_PER_SENDER: Final = 8
"""Pieces that one peer may ask for at the same time; :data:`fluvial.blobs.fetching.PIECES_AT_ONCE` stays below."""

ROUNDS_MAX: Final = 3
"""How often a blob is fetched that is evicted before it was used."""


class BlobRoom(Part):
    """All blobs of a node.

    Args:
        own: the node's peer id.
        settings: ``[blobs]``.
        base_dir: where a relative folder starts.
        peers, directory: the ports.
        clock: dates the blobs and ends old downloads. metrics, log: of the node.
        on_change: called when the node's capabilities of kind ``blob`` have changed; quick, and never raises.
    """

    def __init__(
        self,
        own: PeerId,
        settings: BlobsSection,
        *,
        base_dir: Path,
        peers: Peers,
        directory: Directory,
        clock: Clock,
        metrics: CollectorRegistry,
        log: structlog.stdlib.BoundLogger,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._own = own
        self._settings = settings
        self._directory = directory
        self._log = log
        self._metrics = BlobMetrics(metrics)
        self._store = BlobStore(
            base_dir,
            settings,
            clock=clock,
            work=FileWork(),
            metrics=self._metrics,
            log=log,
            on_change=on_change,
        )
        self._fetcher = BlockFetcher(peers, metrics=self._metrics)
        self._downloads: dict[BlobId, Download] = {}
        self._tasks: TaskGroup | None = None

    # --- as a part

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Keep the folder in order and run downloads until cancelled.

        Raises:
            StorageError: the folder cannot be used.
        """
        try:
            await self._store.open()
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                try:
                    task_status.started()
                    while True:
                        await anyio.sleep(SWEEP_S)
                        await self._sweep()
                finally:
                    self._tasks = None
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await self._store.close()

    def contributions(self) -> Contributions:
        """One protocol, and the blobs that are kept as capabilities."""
        answer = Answer(
            protocol=PROTOCOL,
            by=self.answer,
            bytes_max=REQUEST_BYTES_MAX,
            at_once=REQUESTS_AT_ONCE,
            per_sender=REQUESTS_PER_SENDER,
        )
        return Contributions(answers=(answer,), capabilities=self.capabilities)

    def capabilities(self) -> Iterable[Capability]:
        """``blob:ID`` for what is kept: pinned blobs first, then the most recently used, up to ``announced_max``."""
        return [Capability("blob", blob) for blob in self._store.offered()]

    async def answer(self, sender: PeerId, payload: bytes) -> bytes:
        """A piece of a kept blob, for any peer that asks.

        Raises:
            RemoteProtocolError: this is no request, or the blob has no such block.
            Refused: the blob is not kept here, or it cannot be read.
        """
        outcome = "malformed"
        try:
            blob, request = decode_request(payload)
            outcome = "unknown"
            layout = self._store.layout(blob)
            if layout is None:
                raise Refused(f"the blob {blob} is not kept here", reason="unknown")
            outcome = "malformed"
            try:
                layout.place(request.block)
            except ValueError as error:
                raise RemoteProtocolError(str(error)) from error
            outcome = "storage"
            try:
                piece = await self._store.read(blob, layout, request.block, request.offset, request.length)
            except StorageError as error:  # what it says is for the operator alone
                self._log.error("blob_not_read", blob=blob, other=sender, error=error.message)
                raise Refused(f"the blob {blob} cannot be read here", reason="storage") from None
            outcome = "answered"
        finally:
            self._metrics.requests.labels(outcome=outcome).inc()
        self._metrics.served_bytes.inc(len(piece))
        return piece

    async def _sweep(self) -> None:
        try:
            await self._store.sweep()
        except StorageError as error:  # tried again at the next sweep; a caller that needs the room gets an error
            self._log.warning("blobs_not_swept", error=error.message)

    # --- for parts

    def for_part(self, name: str) -> PartBlobs:
        """The port of one part: what it puts and pins is pinned under its name."""
        return PartBlobs(self, self._store, name)

    async def fetch(self, blob: BlobId, *, bytes_max: int, hints: Sequence[PeerId], pin_for: str) -> Path:
        """See :meth:`fluvial.ports.Blobs.get`."""
        for _ in range(ROUNDS_MAX):
            layout = self._store.layout(blob)
            if layout is not None:
                _check_size(blob, layout.size, bytes_max)
                if (path := await self._store.use(blob, pin_for=pin_for)) is not None:
                    return path
            await self._download(blob, bytes_max=bytes_max, hints=hints)
        raise ResourceLimit(
            f"the blob {blob} was evicted each time before it was used",
            hint="raise `bytes_max` or `blobs_max` in [blobs]",
        )

    async def _download(self, blob: BlobId, *, bytes_max: int, hints: Sequence[PeerId]) -> None:
        """Wait for a download that others may wait for too; it goes on as long as anybody does."""
        while (download := self._downloads.get(blob)) is not None and download.is_ending:
            await download.ended.wait()  # what it has is taken up by the next one
        if self._store.layout(blob) is not None:
            return  # somebody put it meanwhile
        download = download or self._start(blob, bytes_max)
        download.join(hints, bytes_max=bytes_max)
        download.waiting += 1
        try:
            await download.sized.wait()
            if download.size is not None:
                _check_size(blob, download.size, bytes_max)
            await download.ended.wait()
        finally:
            download.waiting -= 1
            if download.waiting == 0:
                download.scope.cancel()
        if download.error is not None:
            raise _again(download.error) from download.error

    def _start(self, blob: BlobId, bytes_max: int) -> Download:
        if self._tasks is None:
            raise Unreachable(f"the blob {blob} cannot be fetched: this node is starting or stopping")
        if len(self._downloads) >= self._settings.downloads_max:
            raise ResourceLimit(
                f"{len(self._downloads)} downloads are in progress, no more are allowed",
                hint="try again later, or raise `downloads_max` in [blobs]",
            )
        download = Download(
            blob,
            own=self._own,
            bytes_max=bytes_max,
            timeout_s=self._settings.download_timeout_s,
            store=self._store,
            fetcher=self._fetcher,
            directory=self._directory,
            metrics=self._metrics,
            log=self._log,
        )
        self._downloads[blob] = download
        self._tasks.start_soon(self._run, download)
        return download

    async def _run(self, download: Download) -> None:
        try:
            await download.run()
        finally:
            del self._downloads[download.blob]


class PartBlobs:
    """The port ``blobs`` of one part; see :class:`fluvial.ports.Blobs`."""

    def __init__(self, room: BlobRoom, store: BlobStore, part: str) -> None:
        self._room = room
        self._store = store
        self._part = part

    async def put(self, data: Path | bytes) -> BlobId:
        """Keep a content, pinned by this part."""
        return await self._store.put(data, pin_for=self._part)

    async def get(self, blob: BlobId, *, bytes_max: int, hints: Sequence[PeerId] = (), pin: bool = False) -> Path:
        """A file with the content, from here or from other peers."""
        pin_for = self._part if pin else ""
        return await self._room.fetch(blob, bytes_max=bytes_max, hints=hints, pin_for=pin_for)

    async def pin(self, blob: BlobId) -> None:
        """Keep a content that is here."""
        if await self._store.use(blob, pin_for=self._part) is None:
            raise Unreachable(f"the blob {blob} is not kept here, so it cannot be pinned", hint="get it first")

    async def unpin(self, blob: BlobId) -> None:
        """This part does not need it any more."""
        await self._store.unpin(blob, self._part)


def _check_size(blob: BlobId, size: int, bytes_max: int) -> None:
    if size > bytes_max:
        raise ResourceLimit(f"the blob {blob} has {size:,} bytes; at most {bytes_max:,} are taken")


def _again(error: FluvialError) -> FluvialError:
    """An error of a download for one of those who waited for it: each has a traceback of its own."""
    again = type(error).__new__(type(error), *error.args)
    again.__dict__.update(error.__dict__)
    return again
