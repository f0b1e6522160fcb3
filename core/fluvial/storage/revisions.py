"""Whether all tables are up to date, found without Alembic where they are: importing it and all migrations takes as long as the rest of opening.

The quick look may say no too often, never yes; after a no ``schema.py``, which knows exactly, is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, column, inspect, select, table

from fluvial.storage.new_database import make_tables
from fluvial.storage.tables import MIGRATIONS, VERSION_TABLE
from fluvial.tables import Tables

_ASSIGNED: Final = re.compile(r"^(down_)?revision\b[^=\n]*=\s*(.+?)\s*(?:#.*)?$", re.MULTILINE)
_TEXT: Final = re.compile(r"""(["'])([\w.-]+)\1""")


def newest(folder: Path) -> str | None:
    """The newest revision of a chain, read from the texts of its migrations; None if that is not plain to see."""
    revisions: set[str] = set()
    followed: set[str] = set()
    for path in folder.glob("*.py"):
        found: dict[str, str] = {}
        for down, value in _ASSIGNED.findall(path.read_text(encoding="utf-8", errors="replace")):
            if down in found or (value != "None" and not _TEXT.fullmatch(value)):
                return None
            found[down] = value.strip("\"'")
        if "" in found:
            revisions.add(found[""])
            followed.add(found.get("down_", "None"))
    heads = revisions - followed
    return heads.pop() if len(heads) == 1 else None


def migrate(connection: Connection, where: str, tables: Sequence[Tables] = ()) -> None:
    """Make or update all tables; see :func:`fluvial.storage.schema.migrate`."""
    if _up_to_date(connection, tables):
        return
    if not make_tables(connection, tables):
        from fluvial.storage import schema

        schema.migrate(connection, where, tables)


def check(connection: Connection, where: str, tables: Sequence[Tables] = ()) -> None:
    """Refuse tables that are not those of this version; see :func:`fluvial.storage.schema.check`."""
    if not _up_to_date(connection, tables):
        from fluvial.storage import schema

        schema.check(connection, where, tables)


def _up_to_date(connection: Connection, tables: Sequence[Tables]) -> bool:
    """Whether the revision in each version table is the newest of the migrations in its folder."""
    chains = [(VERSION_TABLE, MIGRATIONS / "versions"), *((one.version_table, one.migrations) for one in tables)]
    there = inspect(connection)
    for version_table, folder in chains:
        wanted = newest(folder)
        if wanted is None or not there.has_table(version_table):
            return False
        versions: list[str] = list(connection.scalars(select(column("version_num")).select_from(table(version_table))))
        if versions != [wanted]:
            return False
    return True
