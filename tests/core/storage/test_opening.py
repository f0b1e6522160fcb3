"""Opening a store: making and checking its tables, who else may have it open, and what goes wrong with databases."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from operator import methodcaller
from pathlib import Path

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fluvial.errors import ConfigError, StorageError
from fluvial.storage import Store, open_store, owner_statements, particle_tables
from fluvial.storage.revisions import newest
from fluvial.storage.tables import MIGRATIONS, VERSION_TABLE
from sqlalchemy import Connection, text

from tests.core.storage.samples import NOW_MS, make_particle, peer
from tests.support.postgres import PostgresServer

SQLITE = "sqlite:///peer.db"
NOBODY = 65534


async def open_and_close(url: str, base_dir: Path, *, read_only: bool = False, busy_timeout_s: float = 0.05) -> None:
    async with open_store(url, base_dir=base_dir, read_only=read_only, busy_timeout_s=busy_timeout_s):
        pass


async def execute(store: Store, statement: str) -> None:
    await store.database.write(lambda connection: connection.execute(text(statement)))


async def admit(store: Store, name: str) -> None:
    await store.particles.admit(make_particle(name), sender=peer(2), hops=1, now_ms=NOW_MS)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A closed SQLite store with some particles."""

    async def fill() -> None:
        async with open_store(SQLITE, base_dir=tmp_path) as store:
            for number in range(20):
                particle = make_particle(f"p{number}", script="(null)" * 200 + str(number))
                await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS)

    anyio.run(fill)
    return tmp_path / "peer.db"


# --- tables -----------------------------------------------------------------------------------------------------------


async def test_migrations_make_the_tables_that_the_code_expects(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert owner_statements.owners.metadata is particle_tables.metadata
        return list(compare_metadata(context, particle_tables.metadata))

    assert await store.database.write(differences) == []


MIGRATION = 'revision = "2"\ndown_revision: str | None = "1"  # the first\n'


@pytest.mark.parametrize(
    ("texts", "head"),
    [
        (['revision = "1"\ndown_revision = None', MIGRATION], "2"),
        ([], None),
        (['revision = "1"\ndown_revision = None', "revision = '2'\ndown_revision = None"], None),
        (['revision = "1"\ndown_revision = None', MIGRATION, 'revision = "3"\ndown_revision = ("1", "2")'], None),
        (['revision = make("1")\ndown_revision = None'], None),
    ],
)
def test_the_newest_revision_is_read_from_the_texts_or_not_at_all(
    tmp_path: Path, texts: list[str], head: str | None
) -> None:
    for number, migration in enumerate(texts):
        (tmp_path / f"v{number}.py").write_text(migration)
    assert newest(tmp_path) == head


def test_the_newest_revision_of_core_is_found() -> None:
    assert newest(MIGRATIONS / "versions") == ScriptDirectory(str(MIGRATIONS)).get_current_head()


async def test_what_was_stored_is_there_when_the_store_is_opened_again(url: str, tmp_path: Path) -> None:
    particle = make_particle("a")
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS)
    async with open_store(url, base_dir=tmp_path) as store:
        stored = await store.particles.load(particle.key)
    assert stored is not None
    assert stored.particle == particle


async def test_a_database_of_a_newer_version_is_refused(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        await execute(store, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    for read_only in (False, True):
        with pytest.raises(StorageError, match=r"newer version of fluvial \(revision 9999") as raised:
            await open_and_close(url, tmp_path, read_only=read_only)
        assert "install that version" in raised.value.hint


async def test_a_database_of_another_program_is_refused(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        await execute(store, f"DROP TABLE {VERSION_TABLE}")
    with pytest.raises(StorageError, match="tables of another program"):
        await open_and_close(url, tmp_path)


async def test_many_stores_may_be_opened_at_once_in_one_process(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(open_and_close, f"sqlite:///{number}.db", tmp_path)
            tasks.start_soon(open_and_close, "sqlite://", tmp_path)


async def test_commits_are_synced_to_the_disk_whatever_the_servers_default_is(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    else:
        url += "&options=-csynchronous_commit%3Doff"
        expected = {"synchronous_commit": "on"}
    command = "PRAGMA" if url.startswith("sqlite") else "SHOW"
    async with open_store(url, base_dir=tmp_path) as store:
        for name, value in expected.items():
            ask = methodcaller("scalar", text(f"{command} {name}"))
            assert await store.database.write(ask) == value, name


# --- reading only -----------------------------------------------------------------------------------------------------


async def test_another_process_may_read_while_the_node_writes(url: str, tmp_path: Path) -> None:
    async with (
        open_store(url, base_dir=tmp_path) as node,
        open_store(url, base_dir=tmp_path, read_only=True) as other,
    ):
        await node.particles.admit(make_particle("a"), sender=peer(2), hops=1, now_ms=NOW_MS)
        assert [summary.id for summary in await other.particles.find("a")] == ["a"]
        with pytest.raises(StorageError, match="opened read-only"):
            await other.particles.retention.forget(NOW_MS, keep_ms=0, skew_ms=0)
        assert other.database.read_only
        assert not node.database.read_only


async def test_a_stopped_nodes_database_can_be_read(file: Path) -> None:
    async with open_store(SQLITE, base_dir=file.parent, read_only=True) as store:
        assert len(await store.particles.recent()) == 20


async def test_reading_alone_makes_no_tables(url: str, tmp_path: Path) -> None:
    if url.startswith("sqlite"):
        with pytest.raises(StorageError, match="there is no such file"):
            await open_and_close(url, tmp_path, read_only=True)
        (tmp_path / "peer.db").touch()
    with pytest.raises(StorageError, match="not up to date") as raised:
        await open_and_close(url, tmp_path, read_only=True)
    assert "start the node" in raised.value.hint
    with pytest.raises(StorageError, match="in memory"):
        await open_and_close("sqlite://", tmp_path, read_only=True)


# --- locks ------------------------------------------------------------------------------------------------------------


async def test_a_second_writer_is_refused_until_the_first_is_gone(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path):
        with pytest.raises(StorageError, match="another process writes to it"):
            await open_and_close(url, tmp_path)
    await open_and_close(url, tmp_path)


async def test_a_foreign_lock_is_waited_for_and_then_reported(file: Path) -> None:
    async with open_store(SQLITE, base_dir=file.parent, busy_timeout_s=0.05) as store:
        foreign = sqlite3.connect(file, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"peer\.db: database is locked") as raised:
            await store.particles.retention.forget(NOW_MS, keep_ms=0, skew_ms=0)
        assert "another program holds a lock" in raised.value.hint
        assert len(await store.particles.recent()) == 20, "reads go on"
        foreign.close()
        assert (await store.particles.retention.forget(NOW_MS, keep_ms=0, skew_ms=0)).count == 0


async def test_a_foreign_lock_does_not_hold_up_the_event_loop(file: Path) -> None:
    async with open_store(SQLITE, base_dir=file.parent, busy_timeout_s=30) as store:
        foreign = sqlite3.connect(file, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(admit, store, f"during{number}")
            await anyio.wait_all_tasks_blocked()
            foreign.close()  # never reached if a write waited for the lock here
        assert len(await store.particles.find("during")) == 10


# --- damage and misuse ------------------------------------------------------------------------------------------------


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peer.db").write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(StorageError, match=r"peer\.db: file is not a database") as raised:
        await open_and_close(SQLITE, tmp_path)
    assert "name another file or restore a backup" in raised.value.hint


def damage(file: Path) -> None:
    """Overwrite all but the first page."""
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(4096)
        handle.write(b"\xff" * (size - 4096))


async def test_a_damaged_file_is_reported_when_it_is_read(file: Path) -> None:
    damage(file)
    with pytest.raises(StorageError, match="malformed") as raised:
        async with open_store(SQLITE, base_dir=file.parent, read_only=True) as store:
            await store.particles.recent()
    assert "restore a backup" in raised.value.hint


async def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the folder .*/nowhere does not exist"):
        await open_and_close("sqlite:///nowhere/peer.db", tmp_path)


async def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peer.db").mkdir()
    with pytest.raises(StorageError, match=r"peer\.db: unable to open the file") as raised:
        await open_and_close(SQLITE, tmp_path)
    assert raised.value.hint


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write to any file; be nobody for the time of the block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_file_that_may_not_be_written_is_reported(file: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # nobody may not enter pytest's own folder
        os.chmod(name, 0o755)
        os.chmod(shutil.copy(file, name), 0o444)
        with without_privileges(), pytest.raises(StorageError, match="the file may not be written") as raised:
            await open_and_close(SQLITE, Path(name))
        assert "must be allowed to write" in raised.value.hint


async def test_a_relative_file_lies_in_the_base_folder_and_odd_names_are_taken_as_they_are(tmp_path: Path) -> None:
    await open_and_close("sqlite:///a b%20?c#d.db".replace("?", "%3F"), tmp_path)
    await open_and_close(f"sqlite:///{tmp_path}/absolute.db", Path("/nowhere"))
    assert {os.path.splitext(name)[1] for name in os.listdir(tmp_path)} == {".db", ".db-owner"}
    assert (tmp_path / "absolute.db").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("fluvial.db", "cannot be read"),
        ("postgresql://user:secret@host:port/db", "cannot be read"),
        ("mysql://user:secret@host/db", "'mysql' are not supported"),
        ("postgresql+asyncpg://user:secret@host/db", "'postgresql\\+asyncpg' are not supported"),
        ("sqlite:///peer.db?mode=ro", "a SQLite URL holds a file name and nothing else"),
        ("sqlite://peer.db", "a SQLite URL holds a file name and nothing else"),
    ],
)
async def test_a_url_that_is_not_understood_is_an_error_of_the_config(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        await open_and_close(url, tmp_path)
    assert "sqlite:///fluvial.db" in raised.value.hint
    assert "secret" not in str(raised.value)


async def test_an_absent_server_is_reported_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://someone:secret@/db?host={tmp_path}"
    with pytest.raises(StorageError, match=r"PostgreSQL database .*failed") as raised:
        await open_and_close(url, tmp_path)
    assert "is the server running" in raised.value.hint
    assert "secret" not in str(raised.value)


async def test_an_absent_database_and_an_unfit_one_are_reported(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database() as url:
        with pytest.raises(StorageError, match='database "absent" does not exist') as raised:
            await open_and_close(_named(url, "absent"), tmp_path)
        assert "createdb" in raised.value.hint
        with postgres_server.connect() as connection:
            connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
        with pytest.raises(StorageError, match="its encoding is SQL_ASCII") as raised:
            await open_and_close(_named(url, "ascii"), tmp_path)
        assert "UTF8" in raised.value.hint


async def test_a_server_without_a_connection_left_is_reported(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with postgres_server.database() as url, postgres_server.connect() as connection:
        connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        try:
            with pytest.raises(StorageError, match="too many connections") as raised:
                await open_and_close(url.replace("fluvial@", "crowded@"), tmp_path)
        finally:
            connection.execute("DROP ROLE crowded")
    assert "raise max_connections" in raised.value.hint


async def test_a_server_that_may_only_be_read_is_reported(postgres_server: PostgresServer, tmp_path: Path) -> None:
    with postgres_server.database() as url:
        only_read = f"{url}&options=-cdefault_transaction_read_only%3Don"
        with pytest.raises(StorageError, match="cannot execute CREATE TABLE in a read-only transaction") as raised:
            await open_and_close(only_read, tmp_path)
        assert "a user that may write" in raised.value.hint
        await open_and_close(url, tmp_path)
        await open_and_close(only_read, tmp_path, read_only=True)


def _named(url: str, database: str) -> str:
    """The URL with another database."""
    head, _, query = url.partition("?")
    return f"{head.rpartition('/')[0]}/{database}?{query}"
