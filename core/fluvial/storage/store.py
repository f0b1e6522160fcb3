"""The store: one database with all its table groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from fluvial.findings import Finding
from fluvial.storage.committer import LOG_BYTES
from fluvial.storage.condition import Condition
from fluvial.storage.database import SharedDatabase, open_database
from fluvial.storage.parts import PartDatabase, PartDatabases
from fluvial.storage.sql_particles import SqlParticles
from fluvial.tables import Tables


class Store:
    """Everything a peer keeps; made by :func:`open_store`.

    Attributes:
        database: for table groups that come from elsewhere.
        particles: particles, their journals and outboxes.
    """

    def __init__(self, database: SharedDatabase, parts: PartDatabases) -> None:
        self.database = database
        self.particles = SqlParticles(database)
        self._parts = parts

    def part(self, name: str) -> PartDatabase:
        """The port ``Database`` for the part of this name."""
        return self._parts.of(name)

    def health(self) -> Iterator[Finding]:
        """What is wrong with the database, if anything is."""
        return self.database.condition.health()


@asynccontextmanager
async def open_store(
    url: str,
    *,
    base_dir: Path,
    tables: Sequence[Tables] = (),
    read_only: bool = False,
    inline: bool = False,
    busy_timeout_s: float = 5.0,
    log_bytes: int = LOG_BYTES,
    metrics: CollectorRegistry | None = None,
    log: structlog.stdlib.BoundLogger | None = None,
) -> AsyncIterator[Store]:
    """Open a peer's store, making or updating its tables; closed with everything committed when the block ends.

    Args:
        url: ``sqlite:///fluvial.db`` (relative to ``base_dir``), ``sqlite:////absolute.db``, ``sqlite://`` (in memory) or
            ``postgresql+psycopg://user@host/database``.
        base_dir: the folder of ``fluvial.toml``.
        tables: those of the plugins that are in use; core's are made or updated first, then these by name, in one transaction. Tables of
            other plugins may be there, and stay as they are.
        read_only: neither migrate nor write; works while another process, the node, writes.
        inline: read and write on the event loop's thread, one after the other, and start no threads; for simulations.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.
        log_bytes: the size beyond which SQLite's log is cut.
        metrics: gets the store's metrics; none are kept without.
        log: where parts that hold up others, and failures and the loss of the database, are reported.

    Raises:
        ConfigError: the URL is not understood.
        StorageError: the database cannot be reached or opened, another process writes to it, its tables are of a newer version or
            (``read_only``) of an older one.
        PluginError: the migrations of a plugin fail, or make or change what is not the plugin's; nothing was changed then.
    """
    told: structlog.stdlib.BoundLogger = structlog.get_logger() if log is None else log
    opening = open_database(
        url,
        base_dir=base_dir,
        tables=tables,
        read_only=read_only,
        inline=inline,
        busy_timeout_s=busy_timeout_s,
        log_bytes=log_bytes,
        condition=Condition(told),
    )
    async with opening as database:
        parts = PartDatabases(database, metrics=CollectorRegistry() if metrics is None else metrics, log=told)
        yield Store(database, parts)
