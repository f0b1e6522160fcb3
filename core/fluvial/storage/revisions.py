"""Whether all tables are up to date, found without Alembic where they are: importing it and all migrations takes as long as the rest of opening.

The quick look may say no too often, never yes; after a no ``schema.py``, which knows exactly, is asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluvial.prepared import SqlTransaction, Statement, Transaction
from fluvial.storage.tables import MIGRATIONS, VERSION_TABLE
from fluvial.tables import Tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

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


def check(connection: Connection, where: str, tables: Sequence[Tables] = ()) -> None:
    """Refuse tables that are not those of this version; see :func:`fluvial.storage.schema.check`."""
    if not is_up_to_date(SqlTransaction(connection), tables):
        from fluvial.storage import schema

        schema.check(connection, where, tables)


def is_up_to_date(transaction: Transaction, tables: Sequence[Tables]) -> bool:
    """Whether the revision in each version table is the newest of the migrations in its folder."""
    chains = [(VERSION_TABLE, MIGRATIONS / "versions"), *((one.version_table, one.migrations) for one in tables)]
    for version_table, folder in chains:
        wanted = newest(folder)
        if wanted is None or not transaction.has_table(version_table):
            return False
        versions = transaction.rows(Statement(f"SELECT version_num FROM {version_table}"))  # noqa: S608 - a name that Tables has checked
        if [version for (version,) in versions] != [wanted]:
            return False
    return True
