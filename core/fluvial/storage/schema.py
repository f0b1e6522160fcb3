"""Brings a database's tables up to date with Alembic, and refuses what this version does not understand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from fluvial.errors import StorageError
from fluvial.storage.tables import VERSION_TABLE

MIGRATIONS: Final = Path(__file__).parent / "migrations"

_ALEMBIC_LOCK: Final = threading.Lock()
"""Alembic keeps the migration that runs in module globals (``alembic.op``); several nodes of a process open stores at once."""


def migrate(connection: Connection, where: str) -> None:
    """Make or update all tables, within the transaction of ``connection``.

    Raises:
        StorageError: the database is newer than this version of fluvial, or belongs to another program.
    """
    with _ALEMBIC_LOCK:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        current, wanted = _revisions(connection, where, ScriptDirectory.from_config(config))
        if current == wanted:
            return
        if current is None and (tables := inspect(connection).get_table_names()):
            raise StorageError(
                f"{where}: it holds tables of another program ({', '.join(sorted(tables)[:3])}, …)",
                hint="give fluvial a database of its own",
            )
        if connection.dialect.name == "postgresql":
            # A migration may take its time.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        command.upgrade(config, "head")


def check(connection: Connection, where: str) -> None:
    """Refuse a database whose tables are not exactly those of this version; for those that may not migrate it.

    Raises:
        StorageError: it is older, newer or empty.
    """
    with _ALEMBIC_LOCK:
        current, wanted = _revisions(connection, where, ScriptDirectory(str(MIGRATIONS)))
    if current != wanted:
        raise StorageError(
            f"{where}: its tables are not up to date (revision {current or 'none'}, this version needs {wanted})",
            hint="start the node on it once with this version: that updates the tables",
        )


def _revisions(connection: Connection, where: str, scripts: ScriptDirectory) -> tuple[str | None, str | None]:
    """The database's revision and the newest one of the code."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    current = context.get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise StorageError(
            f"{where}: it was written by a newer version of fluvial (revision {current} is not known here)",
            hint="install that version or a later one; tables are never changed back",
        )
    return current, scripts.get_current_head()
