"""Prepared statements: their texts are those of their definitions, and what runs them does not need SQLAlchemy."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fluvial.errors import StorageError
from fluvial.prepared import KeptStatements, Prepared, Statement, Transaction, health_of_statements, texts_of
from fluvial.storage import Store, open_store
from fluvial.storage.direct import DirectWrite
from fluvial.storage.particle_tables import scripts
from sqlalchemy import bindparam, insert, select

from tests.core.storage.prepared import DEFINITIONS

ADD = Statement(insert(scripts), columns=scripts.c.keys())
TEXTS = Statement("SELECT text FROM scripts ORDER BY text")


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(url, base_dir=tmp_path) as store:
        yield store


def add(transaction: Transaction, *names: str) -> int:
    return transaction.change(ADD, [row(name) for name in names])


def row(name: str) -> dict[str, bytes]:
    return {"hash": name.encode().ljust(32), "text": name.encode(), "initiator": bytes(32)}


def texts(transaction: Transaction) -> list[bytes]:
    return [one.text for one in transaction.rows(TEXTS)]


@pytest.mark.parametrize("module", DEFINITIONS)
def test_the_texts_are_those_of_the_definitions(module: str) -> None:
    file, content = texts_of(module)
    assert file.read_text(encoding="utf-8") == content, "run python -m tests.core.storage.prepared"
    kept = KeptStatements(module, file)
    assert kept.texts().keys() == kept.defined().keys()
    for name, one in kept.defined().items():
        assert kept[name].text("sqlite").split() == one.text("sqlite").split()


def test_a_text_that_is_missing_is_compiled(tmp_path: Path) -> None:
    kept = KeptStatements("fluvial.storage.particle_statements", tmp_path / "not_there.sql")
    assert kept["guards"].text("sqlite").split() == ["SELECT", "count(*)", "AS", "count_1", "FROM", "replay_guards"]
    with pytest.raises(KeyError, match="no_such"):
        kept["no_such"].text("sqlite")
    assert any("not_there.sql cannot be read: No such file" in one.text for one in health_of_statements())


def test_a_statement_with_a_value_in_it_has_no_text() -> None:
    with pytest.raises(ValueError, match="must be parameters with names"):
        Statement(select(scripts).where(scripts.c.text == b"secret")).text("sqlite")


async def test_all_kinds_of_work_share_a_transaction_and_see_each_other(store: Store) -> None:
    await store.database.write(Prepared(add, "a", "b"))
    await store.database.write(lambda connection: connection.execute(insert(scripts), row("c")))
    assert await store.database.read(Prepared(texts)) == [b"a", b"b", b"c"]
    with pytest.raises(StorageError, match=r"(?i)unique"):
        await store.database.write(Prepared(add, "d", "a"))
    assert await store.database.read(Prepared(texts)) == [b"a", b"b", b"c"], "nothing of it was written"


async def test_what_prepared_work_raises_reaches_its_caller_and_undoes_it(store: Store) -> None:
    def fail(transaction: Transaction) -> None:
        add(transaction, "a")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await store.database.write(Prepared(fail))
    with pytest.raises(StorageError, match=r"no_such|NO_SUCH") as caught:
        await store.database.read(Prepared(lambda transaction: transaction.rows(Statement("SELECT 1 FROM no_such"))))
    assert "SELECT" not in caught.value.message
    assert await store.database.read(Prepared(texts)) == []


async def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StorageError, match=r"(?i)read-?only"):
        await store.database.read(Prepared(add, "a"))
    assert await store.database.read(Prepared(texts)) == []


async def test_what_is_wrong_with_a_file_is_told_as_of_other_work(tmp_path: Path) -> None:
    """A full disk, a locked and a damaged file: with the same hints, and survived."""
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, busy_timeout_s=0.1) as store:
        await store.database.write(
            Prepared(lambda transaction: transaction.rows(Statement("PRAGMA max_page_count = 60")))
        )
        big = {**row("big"), "text": bytes(500_000)}
        for work in (
            Prepared(lambda transaction: transaction.change(ADD, big)),
            DirectWrite([(ADD, big)], lambda _: None, size=len(big["text"])),
            DirectWrite([(ADD, big)], lambda _: None),
        ):
            with pytest.raises(StorageError, match=r"peer\.db: database or disk is full") as full:
                await store.database.write(work)
            assert full.value.hint == "free some space on the disk"
        other = sqlite3.connect(tmp_path / "peer.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match=r"peer\.db: database is locked") as locked:
            await store.database.write(Prepared(add, "a"))
        assert locked.value.hint.startswith("another program holds a lock on the file")
        other.close()
        assert await store.database.write(Prepared(add, "a")) == 1
        assert await store.database.read(Prepared(texts)) == [b"a"]
    (tmp_path / "peer.db").write_bytes(b"SQLite format 3\0" + bytes(4096))
    with pytest.raises(StorageError, match=r"peer\.db: file is not a database") as damaged:
        async with open_store("sqlite:///peer.db", base_dir=tmp_path):
            pass
    assert damaged.value.hint.startswith("the file is something else or is damaged")


async def test_rows_are_the_same_on_both_databases(store: Store) -> None:
    def look(transaction: Transaction) -> object:
        found = transaction.row(Statement(select(scripts)))
        assert found is not None
        hashed, *rest = found
        in_list = Statement(select(scripts.c.text).where(scripts.c.text.in_(bindparam("names", expanding=True))))
        return (
            hashed == found.hash == found[0],
            rest,
            found._asdict(),
            [one.text for one in transaction.each(TEXTS)],
            transaction.value(in_list, {"names": [b"x", b"a", b"y"]}),
            transaction.value(in_list, {"names": [b"x"]}),
            transaction.row(in_list, {"names": [b"x"]}),
            transaction.has_table("scripts"),
            transaction.has_table("no_such"),
            hasattr(found, "no_such"),
        )

    await store.database.write(Prepared(add, "a"))
    of_a = row("a")
    assert await store.database.read(Prepared(look)) == (
        True, [b"a", bytes(32)], of_a, [b"a"], b"a", None, None, True, False, False,
    )  # fmt: skip


RUN = """
import anyio, sys
from pathlib import Path
from fluvial.storage import open_store
from fluvial_dht_kademlia.shell import tables as dht
from fluvial_fce_wasm import tables as fce
from fluvial_trust_graph.tables import TABLES as TRUST
from fluvial_trust_graph.storage.store import StatementStore
from fluvial.prepared import Prepared

async def run():
    async with open_store("sqlite:///peer.db", base_dir=Path(FOLDER), tables=[fce.TABLES, TRUST]) as store:
        await store.particles.remember(0, skew_ms=1)
        await store.particles.recent()
        await StatementStore(store.part("authorization")).load()
        await store.part("execution").read(Prepared(fce.read_all))

for _ in range(2):
    anyio.run(run)
print(*sorted({"sqlalchemy", "alembic"} & set(sys.modules)))
"""


def test_a_store_that_is_new_or_up_to_date_does_not_import_sqlalchemy(tmp_path: Path) -> None:
    run = RUN.replace("FOLDER", repr(str(tmp_path)))
    assert subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True).stdout == "\n"
