"""A database opened for reading alone by code that is not asynchronous: commands and checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection

from fluvial.storage.connecting import connect
from fluvial.storage.failures import is_database_error, storage_error
from fluvial.storage.revisions import check
from fluvial.tables import Tables


@contextmanager
def reading(
    url: str, *, base_dir: Path, tables: Sequence[Tables] = (), busy_timeout_s: float = 5.0
) -> Iterator[Connection]:
    """A connection that cannot write; all its queries see one snapshot. Works while another process, the node, writes.

    Args:
        url: see :func:`fluvial.storage.store.open_store`.
        base_dir: the folder of ``fluvial.toml``.
        tables: those of plugins that must be up to date too.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.

    Raises:
        ConfigError: the URL is not understood.
        StorageError: the database cannot be opened, its tables are of another version, or a query failed in the block.
    """
    backend = connect(url, base_dir=base_dir, read_only=True, busy_timeout_s=busy_timeout_s)
    try:
        with backend.reader.begin() as connection:
            check(connection, backend.where, tables)
            yield connection
    except Exception as error:
        if is_database_error(error):
            raise storage_error(error, backend.where) from error
        raise
    finally:
        backend.close()
