"""Opens what a peer keeps: a database, or for a peer that keeps nothing memory; then nothing of SQL is loaded unless a part asks for its database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import anyio
import structlog
from prometheus_client import CollectorRegistry

from fluvial.findings import Finding
from fluvial.ports import Database
from fluvial.prepared import Prepared
from fluvial.storage.particles import ParticleStore
from fluvial.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fluvial.storage.store import Store

T = TypeVar("T")

IN_MEMORY: Final = "memory://"
"""The URL of a peer that keeps nothing."""


class Keeping(Protocol):
    """Everything that a peer keeps."""

    @property
    def particles(self) -> ParticleStore:
        """Particles, their journals and outboxes."""
        ...

    def part(self, name: str) -> Database:
        """The port ``Database`` for the part of this name."""
        ...

    def health(self) -> Iterable[Finding]:
        """What is wrong with what it is kept in, if anything is."""
        ...


@asynccontextmanager
async def keeping(
    url: str,
    *,
    base_dir: Path,
    tables: Sequence[Tables],
    inline: bool,
    log_bytes: int,
    metrics: CollectorRegistry,
    log: structlog.stdlib.BoundLogger,
) -> AsyncIterator[Keeping]:
    """What a peer keeps, for the time of a block; see :func:`fluvial.storage.store.open_store` for the arguments and what it raises.

    Args:
        url: ``memory://`` besides those of databases.
        base_dir: where relative files lie.
        tables: those of the plugins that are in use.
        inline: work on the event loop's thread.
        log_bytes: the size beyond which SQLite's log is cut.
        metrics: gets the store's metrics.
        log: where trouble is reported.
    """

    def opened(database: str) -> AbstractAsyncContextManager[Store]:
        from fluvial.storage.store import open_store

        return open_store(
            database, base_dir=base_dir, tables=tables, inline=inline, log_bytes=log_bytes, metrics=metrics, log=log
        )

    if url != IN_MEMORY:
        async with opened(url) as store:
            yield store
        return
    async with AsyncExitStack() as stack:
        yield _InMemory(stack, lambda: opened("sqlite://"))


class _InMemory:
    """Nothing on the disk; parts that ask for a database get one in memory, which is opened when the first of them uses it."""

    def __init__(self, stack: AsyncExitStack, opened: Callable[[], AbstractAsyncContextManager[Store]]) -> None:
        from fluvial.storage.in_memory import InMemoryParticles  # most peers have a database

        self.particles: ParticleStore = InMemoryParticles()
        self._stack = stack
        self._opened = opened
        self._opening = anyio.Lock()
        self._store: Store | None = None

    def part(self, name: str) -> Database:
        """See :class:`Keeping`."""
        return _LateDatabase(self, name)

    def health(self) -> Iterable[Finding]:
        """See :class:`Keeping`; memory does not fail."""
        return ()

    async def store(self) -> Store:
        """The database of the parts."""
        async with self._opening:
            if self._store is None:
                self._store = await self._stack.enter_async_context(self._opened())
            return self._store


class _LateDatabase:
    """The port ``Database`` of one part."""

    def __init__(self, memory: _InMemory, name: str) -> None:
        self._memory = memory
        self._name = name

    async def write(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """See ``Database``."""
        return await (await self._memory.store()).part(self._name).write(work)

    async def read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """See ``Database``."""
        return await (await self._memory.store()).part(self._name).read(work)
