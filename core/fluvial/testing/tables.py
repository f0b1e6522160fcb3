"""The conformance kit for tables of plugins, and a database for tests of what works with them.

::

    class TestTables(TablesConformance):
        @pytest.fixture
        def tables(self):
            return TABLES

        @pytest.fixture
        def metadata(self):
            return metadata

    async def test_an_edge_is_kept():
        async with part_database(TABLES) as database:
            ...

It runs the migrations on SQLite and on PostgreSQL. For the latter the environment variable ``FLUVIAL_TEST_POSTGRESQL`` names an *empty* database
that may be emptied again (``postgresql+psycopg://user@host/database``), or the fixture ``postgresql_url`` gives one; without either those tests
are skipped.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, make_url, text

from fluvial.prepared import Prepared, Transaction
from fluvial.storage import PartDatabase, Store, open_store
from fluvial.storage.inventory import Inventory, take_inventory
from fluvial.tables import Tables

T = TypeVar("T")

POSTGRESQL_VARIABLE: Final = "FLUVIAL_TEST_POSTGRESQL"

_ON_TABLES: Final = frozenset(
    {
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_UPDATE,
        sqlite3.SQLITE_DELETE,
    }
)
_HARMLESS: Final = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE, sqlite3.SQLITE_SAVEPOINT}
)


@pytest.mark.anyio
class TablesConformance:
    """What the tables of every plugin must do. The fixture to give is ``tables``; with ``metadata`` the kit compares it, too."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Fluvial runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def tables(self) -> Tables:
        """The declaration under test."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `tables`")

    @pytest.fixture
    def metadata(self) -> MetaData | None:
        """The tables as the code knows them; None if it does not use SQLAlchemy's."""
        return None

    @pytest.fixture
    def postgresql_url(self) -> Iterator[str]:
        """An empty database on a PostgreSQL server."""
        url = os.environ.get(POSTGRESQL_VARIABLE)
        if not url:
            pytest.skip(f"no PostgreSQL: {POSTGRESQL_VARIABLE} is not set, and the fixture `postgresql_url` not given")
        yield url
        _empty(url)

    @pytest.fixture(params=["sqlite", "postgresql"])
    def url(self, request: pytest.FixtureRequest) -> str:
        """An empty database of each kind."""
        if request.param == "sqlite":
            return "sqlite:///peer.db"
        found: str = request.getfixturevalue("postgresql_url")
        return found

    async def test_its_tables_are_made(self, url: str, tmp_path: Path, tables: Tables) -> None:
        """The migrations run on an empty database; the node itself refuses whatever has not the prefix."""
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            made = _own(await _inventory(store), tables)
        names = {item.name for item in made if item.kind == "table"}
        assert names - {tables.version_table}, "the migrations make no table"
        assert tables.version_table in names, "the revision is kept nowhere"

    async def test_a_second_start_changes_nothing(self, url: str, tmp_path: Path, tables: Tables) -> None:
        """What is up to date stays as it is, and can be opened for reading alone."""
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            before = await _inventory(store)
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            assert await _inventory(store) == before
        async with open_store(url, base_dir=tmp_path, tables=[tables], read_only=True) as store:
            assert await _inventory(store) == before

    async def test_a_node_that_was_there_before_it_takes_it_in(self, url: str, tmp_path: Path, tables: Tables) -> None:
        """The migrations run on a database that a node without the plugin has used."""
        async with open_store(url, base_dir=tmp_path) as store:
            before = await _inventory(store)
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            after = await _inventory(store)
        assert {item: after[item] for item in before} == before, "what was there has changed"

    async def test_its_tables_outlive_it(self, url: str, tmp_path: Path, tables: Tables) -> None:
        """Uninstalled, the node starts and the tables stay; installed again, they are taken as they are."""
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            before = await _inventory(store)
        async with open_store(url, base_dir=tmp_path) as store:
            assert await _inventory(store) == before
        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            assert await _inventory(store) == before

    async def test_the_code_and_the_migrations_agree(
        self, url: str, tmp_path: Path, tables: Tables, metadata: MetaData | None
    ) -> None:
        """The tables that the code declares are those that the migrations make."""
        if metadata is None:
            pytest.skip("the fixture `metadata` is not given")

        def differences(connection: Connection) -> list[object]:
            def own(name: str | None, kind: str, parents: object) -> bool:
                return kind != "table" or (name or "").startswith(tables.prefix)

            options = {"version_table": tables.version_table, "compare_type": True, "include_name": own}
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

        async with open_store(url, base_dir=tmp_path, tables=[tables]) as store:
            assert await store.database.write(differences) == []


class GuardedDatabase:
    """A part's database that refuses statements about tables of others; SQLite only.

    Args:
        inner: the database.
        tables: those that may be touched.
    """

    def __init__(self, inner: PartDatabase, tables: Tables) -> None:
        self._inner = inner
        self._tables = tables

    async def write(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """See the port ``Database``; a statement about another's table, or that makes one, is a StorageError."""
        return await self._inner.write(self._guarded(work))

    async def read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """See the port ``Database``; a statement about another's table is a StorageError."""
        return await self._inner.read(self._guarded(work))

    def _guarded(self, work: Callable[[Connection], T] | Prepared[T]) -> Callable[[Connection], T] | Prepared[T]:
        if isinstance(work, Prepared):
            prepared = work

            def run(transaction: Transaction) -> T:
                with self._authorized(getattr(transaction, "driver", None)):
                    return prepared.run(transaction)

            return Prepared(run)

        def guarded(connection: Connection) -> T:
            with self._authorized(connection.connection.dbapi_connection):
                return work(connection)

        return guarded

    @contextmanager
    def _authorized(self, driver: object) -> Iterator[None]:
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError("only SQLite asks before it runs a statement")
        driver.set_authorizer(self._judge)
        try:
            yield
        finally:
            driver.set_authorizer(None)

    def _judge(self, action: int, first: str | None, _second: str | None, _schema: str | None, _by: str | None) -> int:
        own = action in _ON_TABLES and (first or "").startswith((self._tables.prefix, "sqlite_"))
        return sqlite3.SQLITE_OK if own or action in _HARMLESS else sqlite3.SQLITE_DENY


@asynccontextmanager
async def part_database(tables: Tables) -> AsyncIterator[GuardedDatabase]:
    """The port ``Database`` as a part with these tables gets it: in memory, on the event loop's thread, and strict about tables of others."""
    async with open_store("sqlite://", base_dir=Path(), tables=[tables], inline=True) as store:
        yield GuardedDatabase(store.part(tables.name), tables)


async def _inventory(store: Store) -> Inventory:
    return await store.database.read(take_inventory)


def _own(inventory: Inventory, tables: Tables) -> Inventory:
    return {item: definition for item, definition in inventory.items() if item.of.startswith(tables.prefix)}


def _empty(url: str) -> None:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
