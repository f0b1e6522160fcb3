"""Two nodes never run on one database, whatever its names are; and one that has lost its database writes no more."""

from __future__ import annotations

import io
import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from fluvial.errors import StorageError
from fluvial.prepared import Statement, Transaction
from fluvial.storage import Store, database, open_store, ownership, writer
from fluvial.storage.owner_statements import owners
from fluvial.storage.writer import GROUP_MAX
from fluvial.telemetry import make_logger
from sqlalchemy import Connection, insert

from tests.core.storage.samples import NOW_MS, make_particle, peer
from tests.core.storage.test_crash import write_until_killed
from tests.support.nodes import until

SQLITE = "sqlite:///peer.db"


async def open_and_close(url: str, base_dir: Path) -> None:
    async with open_store(url, base_dir=base_dir, busy_timeout_s=0.05):
        pass


async def admit(store: Store, name: str) -> None:
    await store.particles.admit(make_particle(name), sender=peer(2), hops=1, now_ms=NOW_MS)


@asynccontextmanager
async def logged(url: str, folder: Path) -> AsyncIterator[tuple[Store, io.StringIO]]:
    out = io.StringIO()
    async with open_store(
        url, base_dir=folder, log=make_logger(log_format="json", log_level="info", file=out)
    ) as store:
        await admit(store, "first")
        yield store, out


def owned_by(host: str, lease_ms: int, connection: Connection) -> None:
    connection.execute(
        insert(owners),
        {
            "id": 1,
            "token": b"another",
            "host": host,
            "process": 4711,
            "path": "",
            "lease_ms": lease_ms,
            "beat": 0,
        },
    )


def leave_owner(host: str, lease_ms: int, connection: Connection) -> None:
    connection.execute(owners.delete())
    owned_by(host, lease_ms, connection)


# --- names of files


@pytest.mark.parametrize("link", [os.symlink, os.link])
async def test_another_name_for_the_file_leads_to_the_same_lock(tmp_path: Path, link: object) -> None:
    assert callable(link)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "other.db"
    async with open_store(SQLITE, base_dir=tmp_path) as store:
        link(tmp_path / "peer.db", other)
        with pytest.raises(StorageError, match="another process writes to it"):
            await open_and_close(f"sqlite:///{other}", tmp_path)
        await admit(store, "a")
    async with open_store(f"sqlite:///{other}", base_dir=tmp_path) as store:
        assert [summary.id for summary in await store.particles.recent()] == ["a"]
    await open_and_close(SQLITE, tmp_path)


async def test_what_a_killed_process_wrote_under_another_name_is_not_forgotten(tmp_path: Path) -> None:
    acknowledged = write_until_killed(SQLITE, tmp_path, 10)
    os.link(tmp_path / "peer.db", tmp_path / "other.db")
    with pytest.raises(StorageError, match=r"under the name .*/peer\.db") as raised:
        await open_and_close("sqlite:///other.db", tmp_path)
    assert "start the node with that name once" in raised.value.hint
    await open_and_close(SQLITE, tmp_path)
    async with open_store("sqlite:///other.db", base_dir=tmp_path) as store:
        assert set(acknowledged) <= set(await store.particles.live(0))


async def test_a_file_that_was_moved_after_a_kill_is_taken_up(tmp_path: Path) -> None:
    acknowledged = write_until_killed(SQLITE, tmp_path, 10)
    for end in ("", "-wal"):
        (tmp_path / f"peer.db{end}").rename(tmp_path / f"moved.db{end}")
    async with open_store("sqlite:///moved.db", base_dir=tmp_path) as store:
        assert set(acknowledged) <= set(await store.particles.live(0))


async def test_a_copy_of_a_database_in_use_is_refused_and_later_told(tmp_path: Path) -> None:
    """A copy of a running node's files, as a backup might be taken: two peers with one key. When the original has ended it is a restored backup."""
    async with logged(SQLITE, tmp_path):
        for end in ("", "-wal", "-owner"):
            shutil.copy(tmp_path / f"peer.db{end}", tmp_path / f"copy.db{end}")
        with pytest.raises(
            StorageError, match=r"it is a copy of .*/peer\.db, to which process \d+ writes now"
        ) as raised:
            await open_and_close("sqlite:///copy.db", tmp_path)
        assert "stop that one first" in raised.value.hint
    async with logged("sqlite:///copy.db", tmp_path) as (_, out):
        assert '"event": "database_taken_over"' in out.getvalue()
        assert f"process {os.getpid()} on {platform.node()}" in out.getvalue()
    async with logged("sqlite:///copy.db", tmp_path) as (_, out):
        assert "database_taken_over" not in out.getvalue(), "it was left in order"


# --- loss


def delete_file(folder: Path) -> None:
    (folder / "peer.db").unlink()


def replace_file(folder: Path) -> None:
    shutil.copy(folder / "peer.db", folder / "copy.db")
    (folder / "copy.db").replace(folder / "peer.db")


def delete_log(folder: Path) -> None:
    (folder / "peer.db-wal").unlink()


@pytest.mark.parametrize("harm", [delete_file, replace_file, delete_log])
async def test_a_file_that_is_deleted_or_replaced_is_noticed_at_the_next_write(tmp_path: Path, harm: object) -> None:
    assert callable(harm)
    async with logged(SQLITE, tmp_path) as (store, out):
        harm(tmp_path)
        for _ in range(3):
            with pytest.raises(StorageError, match="deleted or replaced while it was open"):
                await admit(store, "lost")
    assert out.getvalue().count('"event": "storage_failed"') == 1
    assert "deleted or replaced" in out.getvalue()


async def test_writes_that_wait_when_the_database_is_lost_are_refused(tmp_path: Path) -> None:
    refused: list[str] = []

    async def try_to_admit(store: Store, number: int) -> None:
        try:
            await admit(store, f"p{number}")
        except StorageError as error:
            refused.append(error.message)

    async with logged(SQLITE, tmp_path) as (store, out), anyio.create_task_group() as tasks:
        for number in range(2 * GROUP_MAX):
            tasks.start_soon(try_to_admit, store, number)
        delete_file(tmp_path)
    assert len(refused) == 2 * GROUP_MAX
    assert out.getvalue().count('"event": "storage_failed"') == 1


async def test_a_database_that_is_taken_over_is_noticed_without_any_write(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BEAT_S", 0.02)
    async with logged(url, tmp_path) as (store, out):
        await store.database.write(partial(leave_owner, "elsewhere", 10_000))
        await until(lambda: "storage_failed" in out.getvalue())
        with pytest.raises(StorageError, match="process 4711 on elsewhere has taken it over"):
            await admit(store, "late")
        assert [summary.id for summary in await store.particles.recent()] == ["first"], "reads go on"


async def test_an_emptied_database_is_noticed(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEAT_S", 0.02)
    async with logged(url, tmp_path) as (store, out):
        await store.database.write(lambda connection: connection.execute(owners.delete()))
        await until(lambda: "storage_failed" in out.getvalue())
        with pytest.raises(StorageError, match="it was replaced by another"):
            await admit(store, "late")


# --- the lease


async def test_an_owner_on_another_host_is_left_alone_while_it_lives(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[None] = []

    def look(transaction: Transaction) -> object:
        looked.append(None)
        if len(looked) == 2:
            transaction.change(Statement("UPDATE fluvial_owner SET beat = beat + 1"))
        return ownership.owner_of(transaction)

    async with open_store(url, base_dir=tmp_path) as store:
        await store.database.write(partial(leave_owner, "elsewhere", 60_000))
    monkeypatch.setattr(database, "owner_of", look)
    with pytest.raises(StorageError, match="another process writes to it: process 4711 on elsewhere"):
        await open_and_close(url, tmp_path)


async def test_a_lease_that_has_run_out_and_one_of_the_same_host_are_taken_over(url: str, tmp_path: Path) -> None:
    for host, lease_ms in (("elsewhere", 1), (platform.node(), 60_000)):
        async with open_store(url, base_dir=tmp_path) as store:
            await store.database.write(partial(leave_owner, host, lease_ms))
        with anyio.fail_after(30):
            await open_and_close(url, tmp_path)


async def test_the_beat_goes_on_while_nothing_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "BEAT_S", 0.02)

    def beat(connection: Connection) -> int:
        return connection.execute(owners.select()).one().beat  # type: ignore[no-any-return]

    async with open_store(url, base_dir=tmp_path) as store:
        with anyio.fail_after(10):
            while await store.database.read(beat) < 3:  # noqa: ASYNC110 - only the database knows
                await anyio.sleep(0.01)
