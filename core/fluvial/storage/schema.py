"""Brings a database's tables up to date with Alembic, and refuses what this version does not understand.

There is a *chain* of migrations for core's tables and one for those of each plugin that has some (``fluvial.tables``), each with a version
table of its own. Chains do not know each other: a database whose revision of a plugin's chain nobody knows any more is still a good one.
All chains are brought up to date in one transaction, core's first.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text

from fluvial.errors import PluginError, StorageError
from fluvial.storage.failures import concerns_all, is_database_error, storage_error
from fluvial.storage.inventory import Inventory, foreign_references, take_inventory
from fluvial.storage.tables import MIGRATIONS, VERSION_TABLE
from fluvial.tables import Tables

_ALEMBIC_LOCK: Final = threading.Lock()
"""Alembic keeps the migration that runs in module globals (``alembic.op``); several nodes of a process open stores at once."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain of migrations: whose they are, where they lie, and where the revision is kept."""

    owner: str
    versions: Path
    version_table: str

    def scripts(self) -> ScriptDirectory:
        return ScriptDirectory(str(MIGRATIONS), version_locations=[str(self.versions)])

    def upgrade(self, connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", _escaped(MIGRATIONS))
        config.set_main_option("version_locations", _escaped(self.versions))
        config.set_main_option("path_separator", "newline")
        config.attributes.update(connection=connection, version_table=self.version_table)
        command.upgrade(config, "head")

    def current(self, connection: Connection) -> str | None:
        """The revision of the database."""
        context = MigrationContext.configure(connection, opts={"version_table": self.version_table})
        return context.get_current_revision()


_CORE: Final = _Chain("fluvial", MIGRATIONS / "versions", VERSION_TABLE)


def _chain_of(tables: Tables) -> _Chain:
    return _Chain(f"the plugin with the tables {tables.prefix}…", tables.migrations, tables.version_table)


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def migrate(connection: Connection, where: str, tables: Sequence[Tables] = ()) -> None:
    """Make or update all tables, within the transaction of ``connection``.

    Args:
        connection: the writer's.
        where: names the database in messages.
        tables: those of plugins; brought up to date in the order of their names.

    Raises:
        StorageError: the database is newer than this version of fluvial or of a plugin, or belongs to another program.
        PluginError: the migrations of a plugin fail, or make or change what is not the plugin's.
    """
    with _ALEMBIC_LOCK:
        _migrate_core(connection, where)
        for one in sorted(tables, key=lambda one: one.name):
            _migrate_plugin(connection, where, one)


def check(connection: Connection, where: str, tables: Sequence[Tables] = ()) -> None:
    """Refuse a database whose tables are not exactly those of this version; for those that may not migrate it.

    Tables of plugins that are not given are not looked at.

    Raises:
        StorageError: it is older, newer or empty.
        PluginError: there are no usable migrations for the tables of a plugin.
    """
    with _ALEMBIC_LOCK:
        for chain in (_CORE, *map(_chain_of, tables)):
            current, wanted = _revisions(connection, where, chain)
            if current != wanted:
                raise StorageError(
                    f"{where}: the tables of {chain.owner} are not up to date "
                    f"(revision {current or 'none'}, this version needs {wanted})",
                    hint="start the node on it once with this version: that updates the tables",
                )


def _migrate_core(connection: Connection, where: str) -> None:
    current, wanted = _revisions(connection, where, _CORE)
    if current == wanted:
        return
    if current is None and (found := inspect(connection).get_table_names()):
        raise StorageError(
            f"{where}: it holds tables of another program ({', '.join(sorted(found)[:3])}, …)",
            hint="give fluvial a database of its own",
        )
    _allow_time(connection)
    _CORE.upgrade(connection)


def _migrate_plugin(connection: Connection, where: str, tables: Tables) -> None:
    """Run the migrations of one plugin, if there are new ones, and look at what they did."""
    chain = _chain_of(tables)
    current, wanted = _revisions(connection, where, chain)
    if current == wanted:
        return
    before = take_inventory(connection)
    if current is None and (found := [item.name for item in before if item.of.startswith(tables.prefix)]):
        raise PluginError(
            f"{where}: {', '.join(sorted(found)[:3])} … are there, but {chain.owner} has not made them",
            hint="another plugin of this name was here before: give one of them a database of its own",
        )
    _allow_time(connection)
    try:
        chain.upgrade(connection)
    except BaseException as error:  # the plugin boundary: whatever a migration raises, SystemExit included
        if is_database_error(error) and concerns_all(error):
            raise storage_error(error, where) from error
        raise PluginError(
            f"{where}: the migrations of {chain.owner} fail: {_in_one_line(error)}",
            hint=f"tell its author; they lie in {tables.migrations}; nothing was changed",
        ) from error
    _verify(connection, where, tables, chain, before)


def _verify(connection: Connection, where: str, tables: Tables, chain: _Chain, before: Inventory) -> None:
    after = take_inventory(connection)
    changed = {item for item in before.keys() | after.keys() if before.get(item) != after.get(item)}
    foreign = sorted(f"{item.kind} {item.name}" for item in changed if not item.of.startswith(tables.prefix))
    if foreign:
        raise PluginError(
            f"{where}: {chain.owner} makes or changes what is not its own: {', '.join(foreign)[:200]}",
            hint=f"everything that its migrations make must begin with {tables.prefix!r}; tell its author",
        )
    if pointing := foreign_references(connection, tables.prefix):
        raise PluginError(
            f"{where}: {chain.owner} has foreign keys to tables of others: {', '.join(pointing)[:200]}",
            hint="keep the key as a plain column; tell its author",
        )


def _revisions(connection: Connection, where: str, chain: _Chain) -> tuple[str | None, str | None]:
    """The database's revision and the newest one of the code."""
    try:
        scripts = chain.scripts()
        known = {script.revision for script in scripts.walk_revisions()}
        wanted = scripts.get_current_head()
    except BaseException as error:  # the plugin boundary: migrations are modules, and reading them runs them
        raise PluginError(
            f"the migrations of {chain.owner} in {chain.versions} cannot be read: {_in_one_line(error)}",
            hint="tell its author",
        ) from error
    if wanted is None:
        raise PluginError(f"there are no migrations of {chain.owner} in {chain.versions}", hint="tell its author")
    current = chain.current(connection)
    if current is not None and current not in known:
        raise StorageError(
            f"{where}: it was written by a newer version of {chain.owner} (revision {current} is not known here)",
            hint="install that version or a later one; tables are never changed back",
        )
    return current, wanted


def _allow_time(connection: Connection) -> None:
    """A migration may take its time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))


def _in_one_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    kind = "" if isinstance(error, CommandError) else f"{type(cause).__name__}: "
    return " ".join(f"{kind}{cause}".split())[:300]
