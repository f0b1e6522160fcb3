"""The snapshots of migrations: what a new database is made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial.storage.new_database import statements_of
from fluvial.storage.snapshots import SNAPSHOT, read_snapshot, snapshot
from fluvial.tables import Tables

from tests.core.storage.snapshots import chains

CHAINS = [pytest.param(folder, tables, id=tables.name if tables else "core") for folder, tables in chains()]
MADE = ("CREATE TABLE note_pages (\n\ttitle TEXT\n);", "INSERT INTO \"note_pages\" VALUES('a;\nb''c\n');")


@pytest.mark.parametrize(("folder", "tables"), CHAINS)
def test_each_chain_of_the_project_keeps_what_its_migrations_make(folder: Path, tables: Tables | None) -> None:
    assert read_snapshot(folder, tables.prefix if tables else "") == statements_of(tables), (
        "run python -m tests.core.storage.snapshots"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001.py").write_text("revision = '0001'")
    (tmp_path / SNAPSHOT).write_text(snapshot(tmp_path, MADE), encoding="utf-8")
    return tmp_path


def test_a_snapshot_is_read_as_it_was_written(folder: Path) -> None:
    assert read_snapshot(folder, "note_") == MADE


def test_a_chain_without_a_snapshot_has_no_statements(folder: Path) -> None:
    (folder / SNAPSHOT).unlink()
    assert read_snapshot(folder, "note_") == ()


@pytest.mark.parametrize("name", ["0001.py", "0002.py"])
def test_a_snapshot_of_other_migrations_is_not_used(folder: Path, name: str) -> None:
    (folder / name).write_text("revision = '0002'")
    assert read_snapshot(folder, "note_") == ()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE particles (key BLOB);",
        "CREATE INDEX ix_note_pages_title ON particles (key);",
        "DROP TABLE note_pages;",
        "PRAGMA user_version = 7;",
    ],
)
def test_a_snapshot_that_does_more_than_make_own_tables_is_not_used(folder: Path, statement: str) -> None:
    (folder / SNAPSHOT).write_text(snapshot(folder, [statement]), encoding="utf-8")
    assert read_snapshot(folder, "note_") == ()


def test_a_snapshot_that_was_cut_short_is_not_used(folder: Path) -> None:
    text = (folder / SNAPSHOT).read_text(encoding="utf-8")
    (folder / SNAPSHOT).write_text(text[: text.index("INSERT")], encoding="utf-8")
    assert read_snapshot(folder, "note_") == ()
