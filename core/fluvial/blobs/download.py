"""One download: rounds of blocks from several sources at once, each block verified before it counts.

The first round fetches the root, from which the size is known; then come the further levels of nodes, one round each, then the chunks that
are not there yet. A source that lies, refuses, is too slow or cannot be reached is given up, for this download only. When no source is left,
or many chunks are, the directory is asked for further ones.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup

from fluvial.addresses import Contact
from fluvial.blob_id import BlobId
from fluvial.blobs.fetching import BlockFetcher
from fluvial.blobs.metrics import BlobMetrics
from fluvial.blobs.schedule import STEAL_AFTER_S, Schedule
from fluvial.blobs.store import BlobStore
from fluvial.blobs.tree import BlobTree
from fluvial.errors import FluvialError, ProtocolError, RemoteProtocolError, ResourceLimit, StorageError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import Capability, Directory

SOURCES_MAX: Final = 64
"""Peers that one download considers."""

SOURCES_AT_ONCE: Final = 4
"""Peers that are asked at the same time."""

STALLED_AFTER_S: Final = 5.0
"""After so many seconds without a block a source does not count as one of those asked: another one is asked besides it."""

FAR_S: Final = 0.25
"""A source that takes longer for a block is far: it makes room for one that was not tried yet, or that is at least twice as fast."""

TRIES: Final = 3
"""Failures one after the other until a source that cannot be reached is given up."""

PAUSE_S: Final = 0.5
"""Before the second try; each further pause is twice as long."""

LOOKUP_BLOCKS: Final = 16
"""With more chunks left than this (4 MiB), the directory is asked even while a hint answers."""

LOOKUP_TIMEOUT_S: Final = 30.0

Accept: TypeAlias = Callable[[int, bytes], Awaitable[bool]]
"""Takes a block; False if it is not the right one."""


class BlobSource(msgspec.Struct, eq=False):
    """A peer that may have the blob.

    Attributes:
        at: its id, or how it can be reached.
        failures: tries that failed since the last one that did not.
        delivered: blocks that were right.
        given_up: why nothing is expected of it any more; empty while it is tried.
        working: whether it is being asked now.
        since_s: when the block was asked for that it has not delivered yet, by the clock of the event loop.
        block_s: seconds that a block takes, of the last ones more than of earlier ones; 0 until it has delivered one.
    """

    at: PeerId | Contact
    failures: int = 0
    delivered: int = 0
    given_up: str = ""
    working: bool = False
    since_s: float = math.inf
    block_s: float = 0.0

    def has_delivered(self, took_s: float) -> None:
        """A block came, and is right."""
        self.block_s = took_s if not self.delivered else (self.block_s + took_s) / 2
        self.since_s = math.inf
        self.failures = 0
        self.delivered += 1

    @property
    def rank(self) -> tuple[bool, float]:
        """Near ones and those that were not tried come before far ones, the fastest first; equals in the order of the directory, heaviest first."""
        return (True, self.block_s) if self.block_s > FAR_S else (False, 0.0)

    @property
    def is_prompt(self) -> bool:
        """Whether it is being asked and does not stall."""
        return self.working and anyio.current_time() - self.since_s < STALLED_AFTER_S

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        return self.at.peer if isinstance(self.at, Contact) else self.at


class Download:
    """Fetches one blob for everybody who waits for it.

    Args:
        blob: which one.
        own: the peer that fetches.
        bytes_max: the largest content that any of those who wait takes.
        timeout_s: for everything.
        store: keeps what comes.
        fetcher: asks the sources.
        directory: knows further sources.
        metrics, log: of the room.

    Attributes:
        size: of the content, once it is known.
        error: why the download failed; None if it did not.
        sized: set when the size is known, or the download ended.
        ended: set when it ended.
        waiting: how many callers wait for it.
        scope: ends it when it is cancelled; what was fetched stays.
    """

    def __init__(
        self,
        blob: BlobId,
        *,
        own: PeerId,
        bytes_max: int,
        timeout_s: float,
        store: BlobStore,
        fetcher: BlockFetcher,
        directory: Directory,
        metrics: BlobMetrics,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self.blob: Final = blob
        self.size: int | None = None
        self.error: FluvialError | None = None
        self.sized: Final = anyio.Event()
        self.ended: Final = anyio.Event()
        self.waiting = 0
        self.scope: Final = anyio.CancelScope()
        self._own = own
        self._timeout_s = timeout_s
        self._store = store
        self._fetcher = fetcher
        self._directory = directory
        self._metrics = metrics
        self._log = log.bind(blob=blob)
        self._tree = BlobTree(blob, size_max=bytes_max)
        self._content = b""
        self._sources: dict[PeerId, BlobSource] = {}
        self._looked_up = False
        self._looking_up = False
        self._lookup_error = ""
        self._over = False
        self._failure: FluvialError | None = None
        self._change = anyio.Event()

    def join(self, hints: Iterable[PeerId | Contact], *, bytes_max: int) -> None:
        """A further caller wants the blob, perhaps with hints of its own."""
        self._tree.size_max = max(self._tree.size_max, bytes_max)
        for at in hints:
            source = BlobSource(at)
            if len(self._sources) < SOURCES_MAX and source.peer != self._own:
                self._sources.setdefault(source.peer, source)
        self._changed()

    @property
    def is_ending(self) -> bool:
        """Whether how it ends is settled: whoever wants the blob now waits for :attr:`ended`, and starts another download."""
        return self._over or self._failure is not None or self.scope.cancel_called

    async def run(self) -> None:
        """Fetch the blob; how it ended is in :attr:`error`."""
        outcome = "interrupted"
        try:
            with self.scope, anyio.move_on_after(self._timeout_s) as deadline:
                await self._fetch()
                outcome = "fetched"
            if deadline.cancelled_caught:
                self.error = Unreachable(
                    f"the blob {self.blob} did not come within {self._timeout_s:g} s",
                    hint="what has come is kept; ask again to go on",
                )
        except FluvialError as error:  # whatever failed: it costs this download, never the node
            self.error = error
            outcome = _OUTCOMES.get(type(error), "unreachable")
        finally:
            self._over = True
            with anyio.CancelScope(shield=True):
                await self._leave()
            if outcome != "fetched" and self.error is None:
                self.error = Unreachable(f"the download of {self.blob} was given up", hint="ask again to go on")
            self._metrics.downloads.labels(outcome=outcome).inc()
            peers = sum(source.delivered > 0 for source in self._sources.values())
            text = None if self.error is None else self.error.message
            self._log.info("blob_download_ended", outcome=outcome, bytes=self.size, peers=peers, error=text)
            self.sized.set()
            self.ended.set()

    async def _leave(self) -> None:
        try:
            await self._store.leave(self.blob)
        except StorageError as error:
            self.error = self.error or error

    # --- what is fetched

    async def _fetch(self) -> None:
        resumed = await self._store.resume(self.blob)
        if resumed is not None:
            size_max = self._tree.size_max
            self._tree, present = resumed
            self._check_size(size_max)
        else:
            await self._fetch_tree()
            present = set()
            if self.blob.is_leaf:
                await self._store.put(self._content)
                return
            if not await self._store.begin(self._tree):
                return
        layout = self._tree.layout
        assert layout is not None
        chunks = range(layout.nodes, layout.nodes + layout.chunks)
        await self._round([number for number in chunks if number not in present], self._take_chunk)
        await self._store.finish(self._tree)

    def _check_size(self, size_max: int) -> None:
        """An interrupted download may be larger than what is wanted this time."""
        assert self._tree.layout is not None
        self.size = self._tree.layout.size
        if self.size > size_max:
            raise ResourceLimit(f"the blob {self.blob} has {self.size:,} bytes; at most {size_max:,} are taken")
        self.sized.set()

    async def _fetch_tree(self) -> None:
        await self._round([0], self._take_root)
        layout = self._tree.layout
        assert layout is not None
        self.size = layout.size
        self.sized.set()
        for depth in range(layout.depth - 1, 0, -1):
            first = layout.first(depth)
            await self._round(range(first, first + layout.width(depth)), self._take_node)

    async def _take_root(self, number: int, block: bytes) -> bool:
        if not self._tree.is_block(number, block):
            return False
        if self.blob.is_leaf:
            self._tree.take_content(block)
            self._content = block
        else:
            self._tree.take_node(number, block)
        return True

    async def _take_node(self, number: int, block: bytes) -> bool:
        if not self._tree.is_block(number, block):
            return False
        self._tree.take_node(number, block)
        return True

    async def _take_chunk(self, number: int, block: bytes) -> bool:
        return await self._store.write(self._tree, number, block)

    # --- rounds

    async def _round(self, numbers: Sequence[int], accept: Accept) -> None:
        """Fetch some blocks, from all sources that there are.

        Raises:
            Unreachable: no source is left, and blocks are.
        """
        schedule: Schedule[PeerId] = Schedule(numbers)
        async with anyio.create_task_group() as tasks:
            while not schedule.is_done and self._failure is None:
                self._start_sources(tasks, schedule, accept)
                prompt = any(source.is_prompt for source in self._sources.values())
                if not self._looked_up and (not prompt or schedule.left > LOOKUP_BLOCKS):
                    self._looked_up = self._looking_up = True
                    tasks.start_soon(self._look_up)
                elif not self._looking_up and not any(source.working for source in self._sources.values()):
                    self._over = True
                    break
                with anyio.move_on_after(STALLED_AFTER_S):
                    await self._change.wait()
            tasks.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if not schedule.is_done:
            raise Unreachable(f"the blob {self.blob} is not to be had: {self._reasons()}")

    def _start_sources(self, tasks: TaskGroup, schedule: Schedule[PeerId], accept: Accept) -> None:
        usable = [source for source in self._sources.values() if not source.given_up]
        places = SOURCES_AT_ONCE - sum(source.is_prompt for source in usable)
        idle = sorted((source for source in usable if not source.working), key=lambda source: source.rank)
        for source in idle[: max(places, 0)]:
            source.working = True
            source.since_s = math.inf
            tasks.start_soon(self._work, source, schedule, accept)

    async def _work(self, source: BlobSource, schedule: Schedule[PeerId], accept: Accept) -> None:
        """Fetch blocks from one source until the round is done or the source is given up."""
        try:
            while not schedule.is_done and not source.given_up and self._failure is None:
                number = schedule.take(source.peer, now_s=anyio.current_time())
                if number is None:
                    with anyio.move_on_after(STEAL_AFTER_S):
                        await self._change.wait()
                elif await self._try(source, number, schedule, accept):
                    self._changed()
                    if self._makes_room(source):
                        break
                else:
                    schedule.give_back(number, source.peer)
                    self._changed()
                    if not source.given_up:
                        await anyio.sleep(PAUSE_S * 2 ** (source.failures - 1))
        finally:
            source.working = False
            self._changed()

    def _makes_room(self, source: BlobSource) -> bool:
        """Whether somebody who has no place now should have that of a source."""
        return source.block_s > FAR_S and any(
            other.block_s < source.block_s / 2
            for other in self._sources.values()
            if not other.working and not other.given_up
        )

    async def _try(self, source: BlobSource, number: int, schedule: Schedule[PeerId], accept: Accept) -> bool:
        """Fetch one block from one source; whether it came, from whomever."""
        layout = self._tree.layout
        length = None if layout is None else layout.block_bytes(number)
        source.since_s = anyio.current_time()
        try:
            block = await self._fetcher.fetch(source.at, self.blob, number, length)
        except TimeoutError:
            return self._failed(source, "slow", "it is too slow", tries=1)
        except Unreachable as error:
            return self._failed(source, "unreachable", error.message, tries=TRIES)
        except ProtocolError as error:  # it does not have the blob; or, if it had it before, it is busy
            return self._failed(source, "refused", error.message, tries=TRIES if source.delivered else 1)
        except FluvialError as error:  # this node could not ask it
            return self._failed(source, "failed", error.message, tries=TRIES)
        if not schedule.is_taken(number):
            return True
        try:
            right = await accept(number, block)
        except FluvialError as error:  # whatever the source, it would be the same
            self._failure = error
            return True
        if not right:
            return self._failed(source, "wrong", f"block {number} was not what it should be", tries=1)
        schedule.done(number)
        source.has_delivered(anyio.current_time() - source.since_s)
        return True

    def _failed(self, source: BlobSource, reason: str, explanation: str, *, tries: int) -> bool:
        source.failures += 1
        if source.failures >= tries:
            source.given_up = explanation
            self._metrics.sources_dropped.labels(reason=reason).inc()
            self._log.info("blob_source_dropped", other=source.peer, reason=reason, error=explanation)
        return False

    async def _look_up(self) -> None:
        """Ask the directory for further sources, once in a download."""
        try:
            with anyio.move_on_after(LOOKUP_TIMEOUT_S):
                found = await self._directory.find(Capability("blob", self.blob), limit=SOURCES_MAX)
                self.join((provider.contact for provider in found), bytes_max=0)
        except FluvialError as error:  # the sources that are known may do
            self._lookup_error = error.message
            self._log.warning("blob_lookup_failed", error=error.message)
        finally:
            self._looking_up = False
            self._changed()

    def _changed(self) -> None:
        self._change.set()
        self._change = anyio.Event()

    def _reasons(self) -> str:
        reasons = [f"{source.peer}: {source.given_up}" for source in list(self._sources.values())[:4]]
        if not self._sources:
            reasons.append("nobody is known who has it")
        elif len(self._sources) > 4:
            reasons.append(f"and {len(self._sources) - 4} more")
        if self._lookup_error:
            reasons.append(f"further sources could not be looked up: {self._lookup_error}")
        return "; ".join(reasons)


_OUTCOMES: Final = {ResourceLimit: "limit", StorageError: "storage", RemoteProtocolError: "malformed"}
