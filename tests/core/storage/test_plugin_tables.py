"""Tables of plugins: made beside core's, kept apart from them, and there as long as the database."""

from __future__ import annotations

from collections.abc import Iterator
from operator import methodcaller
from pathlib import Path

import pytest
from fluvial.errors import PluginError, StorageError
from fluvial.storage import open_store
from fluvial.storage.inventory import take_inventory
from fluvial.storage.schema import migrate
from fluvial.storage.sqlite import in_memory
from fluvial.tables import Tables, distinct
from fluvial.testing.tables import TablesConformance, part_database
from sqlalchemy import Connection, MetaData, insert, inspect, select, text

from tests.core.storage.notebook import FIRST, SECOND, metadata, pages, tables_with, upgrading
from tests.support.postgres import PostgresServer

FOREIGN = ("SELECT * FROM particles", "DELETE FROM outbox", "CREATE TABLE note_x (a INTEGER)", "DROP TABLE note_pages")
MAKE_PAGES = 'op.create_table("note_pages", sa.Column("title", sa.Text(), primary_key=True))'


def table_names(connection: Connection) -> set[str]:
    return set(inspect(connection).get_table_names())


async def open_with(url: str, folder: Path, *tables: Tables, read_only: bool = False) -> set[str]:
    """Open and close a store; the tables that were there."""
    async with open_store(url, base_dir=folder, tables=tables, read_only=read_only) as store:
        return await store.database.read(table_names)


class TestNotes(TablesConformance):
    @pytest.fixture
    def tables(self, tmp_path: Path) -> Tables:
        return tables_with(tmp_path, FIRST, SECOND)

    @pytest.fixture
    def metadata(self) -> MetaData:
        return metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url


# --- life


async def test_a_database_outlives_its_plugins_and_takes_them_back(url: str, tmp_path: Path) -> None:
    old, new = tables_with(tmp_path, FIRST), tables_with(tmp_path, FIRST, SECOND)
    async with open_store(url, base_dir=tmp_path, tables=[old]) as store:
        await store.part("note").write(
            lambda connection: connection.execute(text("INSERT INTO note_pages VALUES ('a')"))
        )
    assert "note_pages" in await open_with(url, tmp_path), "the peer starts without the plugin"
    async with open_store(url, base_dir=tmp_path, tables=[new]) as store:
        found = await store.part("note").read(lambda connection: connection.execute(select(pages)).all())
    assert [tuple(row) for row in found] == [("a", 0)]


async def test_chains_do_not_meet_even_where_their_revisions_have_the_same_names(url: str, tmp_path: Path) -> None:
    other = tables_with(tmp_path, FIRST.replace("note_pages", "book_pages"), name="book")
    notes = tables_with(tmp_path, FIRST, SECOND)
    found = await open_with(url, tmp_path, notes, other)
    assert {"fluvial_version", "note_version", "book_version", "note_pages", "book_pages"} <= found


async def test_reading_alone_looks_at_the_given_chains_only(url: str, tmp_path: Path) -> None:
    old, new = tables_with(tmp_path, FIRST), tables_with(tmp_path, FIRST, SECOND)
    await open_with(url, tmp_path, old)
    await open_with(url, tmp_path, read_only=True)
    await open_with(url, tmp_path, old, read_only=True)
    with pytest.raises(
        StorageError, match=r"tables note_… are not up to date \(revision 0001, this version needs 0002"
    ):
        await open_with(url, tmp_path, new, read_only=True)


async def test_a_plugin_that_is_older_than_its_tables_is_refused(url: str, tmp_path: Path) -> None:
    await open_with(url, tmp_path, tables_with(tmp_path, FIRST, SECOND))
    with pytest.raises(StorageError, match=r"newer version of the plugin with the tables note_… \(revision 0002"):
        await open_with(url, tmp_path, tables_with(tmp_path, FIRST))


async def test_a_foreign_database_is_not_taken_for_one_with_plugins(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path, tables=[tables_with(tmp_path, FIRST)]) as store:
        await store.database.write(lambda connection: connection.execute(text("DROP TABLE fluvial_version")))
    with pytest.raises(StorageError, match="tables of another program"):
        await open_with(url, tmp_path, tables_with(tmp_path, FIRST))


# --- a new database, made at once


async def made(folder: Path, *tables: Tables) -> object:
    """What a new database holds."""
    async with open_store("sqlite://", base_dir=folder, tables=tables) as store:
        return await store.database.read(take_inventory)


async def test_a_new_database_is_what_the_migrations_make_one_by_one(tmp_path: Path) -> None:
    notes = tables_with(tmp_path, FIRST, SECOND)
    backend = in_memory(read_only=False)
    with backend.reader.begin() as connection:
        migrate(connection, backend.where, [notes])
        step_by_step = take_inventory(connection)
    backend.close()
    assert await made(tmp_path, notes) == step_by_step
    assert await made(tmp_path, notes) == step_by_step, "the second time, of what was kept"


async def test_rows_of_migrations_are_in_each_new_database(tmp_path: Path) -> None:
    text_ = "it's 100 % :new\\n--"
    notes = tables_with(
        tmp_path,
        upgrading(MAKE_PAGES, f"op.bulk_insert(sa.table('note_pages', sa.column('title')), [{{'title': {text_!r}}}])"),
    )
    for _ in range(2):
        async with open_store("sqlite://", base_dir=tmp_path, tables=[notes]) as store:
            rows = await store.part("note").read(
                lambda connection: connection.scalars(text("SELECT title FROM note_pages")).all()
            )
        assert rows == [text_]


async def test_a_migration_that_does_more_than_make_tables_is_run_each_time(tmp_path: Path) -> None:
    notes = tables_with(tmp_path, upgrading(MAKE_PAGES, 'op.execute("PRAGMA user_version = 7")'))
    for _ in range(2):
        async with open_store("sqlite://", base_dir=tmp_path, tables=[notes]) as store:
            assert await store.database.read(lambda connection: connection.scalar(text("PRAGMA user_version"))) == 7


async def test_a_migration_that_has_changed_makes_other_tables(tmp_path: Path) -> None:
    before = await made(tmp_path, tables_with(tmp_path, upgrading(MAKE_PAGES)))
    after = await made(tmp_path, tables_with(tmp_path, upgrading(MAKE_PAGES.replace("title", "name"))))
    assert before != after


# --- what is refused


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            [MAKE_PAGES, 'op.create_table("pages", sa.Column("a", sa.Text()))'],
            "makes or changes what is not its own: table pages",
        ),
        ([MAKE_PAGES, 'op.add_column("scripts", sa.Column("mine", sa.Text()))'], "not its own: table scripts"),
        ([MAKE_PAGES, 'op.create_index("note_index", "scripts", ["text"])'], "not its own: index note_index"),
        ([MAKE_PAGES, 'op.execute("CREATE VIEW other AS SELECT 1 AS a")'], "not its own: view other"),
        ([MAKE_PAGES, 'op.drop_table("outbox")'], "not its own: .*table outbox"),
        (
            ['op.create_table("note_pages", sa.Column("of", sa.LargeBinary(), sa.ForeignKey("particles.key")))'],
            r"foreign keys to tables of others: note_pages\.of",
        ),
        (
            [MAKE_PAGES, "1 / 0"],
            "the migrations of the plugin with the tables note_… fail: ZeroDivisionError: division by zero",
        ),
        ([MAKE_PAGES, "raise SystemExit(3)"], "fail: SystemExit: 3"),
        ([MAKE_PAGES, 'op.execute("SELECT a FROM nowhere")'], "(?s)fail: .*nowhere"),
        ([MAKE_PAGES, "op.get_bind().commit()"], "fail: StorageError: the transaction was to be ended by work"),
    ],
)
async def test_migrations_that_go_beyond_their_tables_are_refused_and_undone(
    url: str, tmp_path: Path, lines: list[str], words: str
) -> None:
    before = await open_with(url, tmp_path)
    with pytest.raises(PluginError, match=words) as raised:
        await open_with(url, tmp_path, tables_with(tmp_path, upgrading(*lines)))
    assert "author" in raised.value.hint
    assert await open_with(url, tmp_path) == before, "nothing was changed"


async def test_all_chains_are_one_transaction(url: str, tmp_path: Path) -> None:
    good, bad = (
        tables_with(tmp_path, FIRST.replace("note", "book"), name="book"),
        tables_with(tmp_path, upgrading("1 / 0")),
    )
    with pytest.raises(PluginError, match="note_"):
        await open_with(url, tmp_path, good, bad)
    with pytest.raises(StorageError, match=r"not up to date|no such file"):
        await open_with(url, tmp_path, read_only=True)


async def test_folders_without_usable_migrations_are_reported(url: str, tmp_path: Path) -> None:
    for migrations, words in (
        ((), "there are no migrations"),
        (("raise SystemExit(1)",), "cannot be read: SystemExit: 1"),
        ((FIRST, FIRST.replace('"0001"', '"0002"')), "cannot be read: .*[Mm]ultiple heads"),
    ):
        with pytest.raises(PluginError, match=words):
            await open_with(url, tmp_path, tables_with(tmp_path, *migrations, name=f"note{len(migrations)}"))


async def test_tables_that_somebody_else_made_are_not_taken_over(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        await store.database.write(lambda connection: connection.execute(text("CREATE TABLE note_pages (a INTEGER)")))
    with pytest.raises(PluginError, match=r"note_pages … are there, but .* note_… has not made them"):
        await open_with(url, tmp_path, tables_with(tmp_path, FIRST))


@pytest.mark.parametrize(
    "name", ["", "Trust", "trust_graph", "1st", "trüst", "fluvial", "sqlite", "pg", "a" * 25, "a\n"]
)
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="no name for the tables of a plugin"):
        Tables(name=name, migrations=Path())


def test_two_owners_of_one_name_are_both_named() -> None:
    one, other = Tables(name="trust", migrations=Path("a")), Tables(name="trust", migrations=Path("b"))
    kad = Tables(name="kad", migrations=Path("k"))
    assert distinct([("x (x 1)", one), ("x (x 1)", one), ("k (k 2)", kad)]) == (kad, one)
    with pytest.raises(PluginError, match=r"x \(x 1\) and y \(y 2\) both call their tables 'trust'"):
        distinct([("x (x 1)", one), ("y (y 2)", other)])


# --- the kit's database


async def test_the_kits_database_refuses_tables_of_others(tmp_path: Path) -> None:
    async with part_database(tables_with(tmp_path, FIRST, SECOND)) as database:
        await database.write(lambda connection: connection.execute(insert(pages), {"title": "a"}))
        titles = await database.read(lambda connection: connection.scalars(select(pages.c.title)).all())
        assert titles == ["a"]
        for statement in FOREIGN:
            with pytest.raises(StorageError, match=r"prohibited|not authorized"):
                await database.write(methodcaller("execute", text(statement)))
