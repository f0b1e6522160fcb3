"""All tables of a new SQLite database at once, instead of migration after migration.

Where all migrations lead to from an empty database is always the same. Each chain may keep that beside its migrations (``snapshots.py``). If one
does not, a process runs all migrations once, in a database in memory, and keeps the statements that make the same tables; each further new
database costs a hundredth of that. What fails there is left to the way of every other database (``schema.py``), which says what went wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from fluvial.errors import PluginError
from fluvial.prepared import Transaction
from fluvial.storage.snapshots import read_snapshot
from fluvial.storage.sqlite_links import SqliteTransaction
from fluvial.storage.tables import MIGRATIONS
from fluvial.tables import Tables

_CORE_VERSIONS: Final = MIGRATIONS / "versions"
_MADE_OF: Final = ("CREATE ", "INSERT ")


def make_tables(transaction: Transaction, tables: Sequence[Tables]) -> bool:
    """Make all tables, if the database is of SQLite and empty, and if the migrations do nothing but make tables and rows.

    Args:
        transaction: the writer's.
        tables: those of plugins.

    Returns:
        Whether the tables are there now; otherwise nothing was done.
    """
    if not isinstance(transaction, SqliteTransaction):
        return False
    driver = transaction.driver
    if driver.execute("SELECT 1 FROM sqlite_master").fetchall():
        return False
    chains = tuple(sorted(tables, key=lambda one: one.name))
    for statement in (statements := _kept(chains) or _made_once(chains)):
        driver.execute(statement)
    return bool(statements)


def statements_of(tables: Tables | None) -> tuple[str, ...]:
    """What makes all tables of a plugin, or those of core, as its migrations do; for its snapshot.

    Raises:
        PluginError: see :func:`fluvial.storage.schema.migrate`.
    """
    core = _statements((), _texts(()))
    if tables is None:
        return core
    return tuple(one for one in _statements((tables,), _texts((tables,))) if one not in core)


def _kept(chains: tuple[Tables, ...]) -> tuple[str, ...]:
    """The statements of all snapshots, core's first; empty if a chain has none."""
    found = [read_snapshot(_CORE_VERSIONS), *(read_snapshot(one.migrations, one.prefix) for one in chains)]
    return tuple(chain.from_iterable(found)) if all(found) else ()


def _made_once(chains: tuple[Tables, ...]) -> tuple[str, ...]:
    try:
        return _statements(chains, _texts(chains))
    except PluginError:
        return ()


def _texts(chains: tuple[Tables, ...]) -> tuple[tuple[bytes, ...], ...]:
    """All migrations, by chain: when one of them changes, so may the tables."""
    folders = (_CORE_VERSIONS, *(one.migrations for one in chains))
    return tuple(tuple(path.read_bytes() for path in sorted(folder.glob("*.py"))) for folder in folders)


@lru_cache(maxsize=16)
def _statements(chains: tuple[Tables, ...], texts: tuple[tuple[bytes, ...], ...]) -> tuple[str, ...]:
    """What makes all tables with the rows that migrations have put into them; empty if that is not all that they did.

    Raises:
        PluginError: see :func:`fluvial.storage.schema.migrate`.
    """
    from fluvial.storage import schema, sqlite  # Alembic takes as long to import as the rest of opening

    backend = sqlite.in_memory(read_only=False)
    try:
        with backend.reader.begin() as connection:
            schema.migrate(connection, "sqlite://", chains)
            link = connection.connection.driver_connection
            assert isinstance(link, sqlite3.Connection)
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("user_version", "application_id")
            ]
            _, *statements, _ = link.iterdump()  # without its BEGIN and COMMIT
    finally:
        backend.close()
    plain = not any(pragmas) and all(one.startswith(_MADE_OF) for one in statements)
    return tuple(statements) if plain else ()
