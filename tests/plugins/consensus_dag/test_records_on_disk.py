"""A whole node lets go of records of the DAG, and goes on from what is left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fluvial.testing.nodes import nodes
from fluvial.virtual.loop import BACKEND
from fluvial_consensus_dag import dag

from tests.support.ledgers import host_of, start_holder, until_height, write_genesis


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def records(folder: Path) -> list[int]:
    """The numbers of the records on the disk."""
    with closing(sqlite3.connect(folder / "ada.db")) as database:
        return [row[0] for row in database.execute("SELECT number FROM consensus_records ORDER BY number")]


async def test_old_records_leave_the_disk_and_a_restart_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RECORDS_MAX", 8), ("DEPTH", 10), ("SLACK", 2)):
        monkeypatch.setattr(dag, name, value)
    write_genesis(tmp_path / "genesis.json", ["ada"])
    async with nodes(base_dir=tmp_path) as network:
        for height in (25, 40):
            ada = await start_holder(network, "ada", "dag", idle_ms=5)
            await until_height(ada, height)
            assert not host_of(ada).replica.alarmed  # type: ignore[union-attr]
            await network.stop("ada")
            numbers = records(tmp_path)
            assert len(numbers) <= 30
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert numbers[0] > height // 3
