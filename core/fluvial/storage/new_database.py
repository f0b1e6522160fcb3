"""All tables of a new SQLite database at once, instead of migration after migration.

Where all migrations lead to from an empty database is always the same. So a process runs them once, in a database in memory, and keeps the
statements that make the same tables; each further new database costs a hundredth of that. What fails there is left to the way of every other
database (``schema.py``), which says what went wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from fluvial.errors import PluginError
from fluvial.storage import schema, sqlite
from fluvial.storage.tables import MIGRATIONS
from fluvial.tables import Tables

_MADE_OF: Final = ("CREATE ", "INSERT ")


def make_tables(connection: Connection, tables: Sequence[Tables]) -> bool:
    """Make all tables, if the database is of SQLite and empty, and if the migrations do nothing but make tables and rows.

    Args:
        connection: the writer's, in its transaction.
        tables: those of plugins.

    Returns:
        Whether the tables are there now; otherwise nothing was done.
    """
    if connection.dialect.name != "sqlite" or connection.exec_driver_sql("SELECT 1 FROM sqlite_master").first():
        return False
    chains = tuple(sorted(tables, key=lambda one: one.name))
    texts = tuple(_texts(folder) for folder in (MIGRATIONS / "versions", *(one.migrations for one in chains)))
    try:
        statements = _statements(chains, texts)
    except PluginError:
        return False
    for statement in statements:
        connection.exec_driver_sql(statement)
    return bool(statements)


def _texts(folder: Path) -> tuple[bytes, ...]:
    """The migrations of a chain: when one of them changes, so may the tables."""
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.py")))


@lru_cache(maxsize=16)
def _statements(chains: tuple[Tables, ...], texts: tuple[tuple[bytes, ...], ...]) -> tuple[str, ...]:
    """What makes all tables with the rows that migrations have put into them; empty if that is not all that they did.

    Raises:
        PluginError: see :func:`fluvial.storage.schema.migrate`.
    """
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
