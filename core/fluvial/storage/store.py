"""The store: one database with all its table groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fluvial.storage.database import Database, open_database
from fluvial.storage.particles import ParticleStore


class Store:
    """Everything a peer keeps; made by :func:`open_store`.

    Attributes:
        database: for table groups that come from elsewhere.
        particles: particles, their journals and outboxes.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.particles = ParticleStore(database)


@asynccontextmanager
async def open_store(
    url: str, *, base_dir: Path, read_only: bool = False, busy_timeout_s: float = 5.0
) -> AsyncIterator[Store]:
    """Open a peer's store, making or updating its tables; closed with everything committed when the block ends.

    Args:
        url: ``sqlite:///fluvial.db`` (relative to ``base_dir``), ``sqlite:////absolute.db``, ``sqlite://`` (in memory) or
            ``postgresql+psycopg://user@host/database``.
        base_dir: the folder of ``fluvial.toml``.
        read_only: neither migrate nor write; works while another process, the node, writes.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.

    Raises:
        ConfigError: the URL is not understood.
        StorageError: the database cannot be reached or opened, another process writes to it, its tables are of a newer version or
            (``read_only``) of an older one.
    """
    async with open_database(url, base_dir=base_dir, read_only=read_only, busy_timeout_s=busy_timeout_s) as database:
        yield Store(database)
