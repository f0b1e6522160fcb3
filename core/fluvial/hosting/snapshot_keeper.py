"""Writes snapshots in place of old blocks, in slices: between two of them everything else has a turn, and it takes at most a tenth of the time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import anyio
import anyio.lowlevel
from structlog.stdlib import BoundLogger

from fluvial.consensus.replay import snapshot_entries
from fluvial.consensus.snapshot_shelf import ProvenState
from fluvial.encoding import encode
from fluvial.hosting import snapshot_table
from fluvial.hosting.kept_blocks import KeptBlocks
from fluvial.ports import Database
from fluvial.prepared import Prepared

PARTS: Final = 4
"""Parts in one write: 160 KB."""
ROWS: Final = 200
"""Old blocks that are removed in one write."""
PAUSE_S: Final = 0.01
"""Between two writes, for those of others."""
REST: Final = 10
"""After a snapshot it rests for so many times as long as that took."""


class SnapshotKeeper:
    """See the module's docstring.

    Args:
        database: of the node.
        kept_blocks: below a snapshot, for others,
        kept_bytes: and so many bytes of blocks at most.
        log: of the host.
    """

    def __init__(self, database: Database, kept_blocks: int, kept_bytes: int, log: BoundLogger) -> None:
        self._database, self._kept_blocks, self._log = database, kept_blocks, log
        self._kept = KeptBlocks(kept_bytes)
        self._due: ProvenState | None = None
        self._fetched: tuple[ProvenState, Callable[[], None]] | None = None
        self._wake = anyio.Event()
        self._busy = False
        self._rests_until = 0.0

    def due(self, snapshot: ProvenState) -> None:
        """Write a snapshot, unless the last one has not ended, or ended just now."""
        if not self._busy and anyio.current_time() >= self._rests_until:
            self._due = snapshot
            self._wake.set()

    def install(self, snapshot: ProvenState, done: Callable[[], None]) -> None:
        """Write a snapshot that was fetched, as the beginning of the log, and say when that is durable."""
        self._fetched = snapshot, done
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            StorageError: the database failed.
        """
        newest = await self._database.read(Prepared(snapshot_table.newest))
        await self._tidy(newest)  # what an earlier run has left undone
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            began, self._busy = anyio.current_time(), True
            if self._fetched is not None:
                (snapshot, done), self._fetched, self._due = self._fetched, None, None
                await self._write(snapshot)
                done()
                await self._tidy(snapshot.header.height, fetched=True)
            elif self._due is not None:
                snapshot, self._due = self._due, None
                await self._write(snapshot)
                await self._tidy(snapshot.header.height)
            self._busy = False
            self._rests_until = anyio.current_time() + REST * (anyio.current_time() - began)
            if self._fetched is not None:
                self._wake.set()

    async def _write(self, snapshot: ProvenState) -> None:
        height = snapshot.header.height
        number = 0
        async for entries, last in _batches(snapshot):
            await self._database.write(
                Prepared(snapshot_table.put, height=height, number=number, entries=entries, last=last)
            )
            number += len(entries)
            await anyio.sleep(PAUSE_S)
        self._log.info("snapshot_written", height=height, parts=number)

    async def _tidy(self, newest: int, *, fetched: bool = False) -> None:
        """Keep one snapshot, and the last blocks up to it; none if the blocks up to it were fetched with it, which have gaps."""
        await self._remove(Prepared(snapshot_table.discard, keep=newest, rows_max=2 * PARTS))
        upto = newest if fetched else await self._surplus(newest)
        await self._remove(Prepared(snapshot_table.prune, upto=upto, rows_max=ROWS))

    async def _surplus(self, newest: int) -> int:
        """The height up to which blocks are too many, or too many bytes; those that were counted before are not looked at again."""
        while self._kept.height < newest:
            look = Prepared(snapshot_table.sizes, above=self._kept.height, upto=newest, rows_max=ROWS)
            found = await self._database.read(look)
            for height, size in found:
                self._kept.count(height, size)
            if not found:
                break
            await anyio.sleep(PAUSE_S)
        return self._kept.surplus(newest - self._kept_blocks)

    async def _remove(self, work: Prepared[bool]) -> None:
        while await self._database.write(work):  # noqa: ASYNC110 - the pause is for others
            await anyio.sleep(PAUSE_S)


async def _batches(snapshot: ProvenState) -> AsyncIterator[tuple[list[bytes], bool]]:
    """The parts of a snapshot, a few at a time, and whether these are the last; others have a turn after each part."""
    batch: list[bytes] = []
    for entry in snapshot_entries(snapshot.header, snapshot.proof, snapshot.state):
        if len(batch) == PARTS:
            yield batch, False
            batch = []
        batch.append(encode(entry))
        await anyio.lowlevel.checkpoint()
    yield batch, True
