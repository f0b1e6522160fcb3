"""Pins that are made and let go at the same time: what `pin` promised holds, in memory and on the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from fluvial.blob_id import BlobId
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.errors import ResourceLimit, StorageError

from tests.core.blobs import disk
from tests.core.blobs.contents import pattern, tree_of
from tests.core.blobs.rooms import Network, Room, room
from tests.core.blobs.test_fetching import get, held

BYTES_MAX = 1_000
BIG = pattern(5 * CHUNK_BYTES + 5)
BIG_ID = tree_of(BIG).blob


@asynccontextmanager
async def room_with_blob(base_dir: Path, *pins: str) -> AsyncIterator[tuple[Room, BlobId]]:
    """A room with one blob, pinned by these parts alone; a second one of its size does not fit."""
    async with room("a", base_dir, Network(), bytes_max=BYTES_MAX) as one:
        blob = await one.blobs.put(bytes(600))
        for part in pins:
            await one.part(part).pin(blob)
        await one.blobs.unpin(blob)
        yield one, blob


async def assert_pinned(base_dir: Path, one: Room, blob: BlobId, *pins: str) -> None:
    """These parts pin the blob, in memory and on the disk; without any it can be evicted."""
    assert one.files() == {blob[55:], *(f"{blob[55:]}.pin.{part}" for part in pins)}
    if pins:
        with pytest.raises(ResourceLimit):
            await one.blobs.put(b"\1" * 600)
    else:
        await one.blobs.put(b"\1" * 600)
        assert not (base_dir / "a" / blob).exists()


async def test_a_pin_holds_although_another_one_of_its_part_is_cancelled(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path, "q") as (one, blob):
        with disk.held("utime") as call:
            async with anyio.create_task_group() as second, anyio.create_task_group() as first:
                first.start_soon(one.part("p").pin, blob)
                await call.reached.wait()
                second.start_soon(one.part("p").pin, blob)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
                call.release()
        await one.part("q").unpin(blob)
        await assert_pinned(tmp_path, one, blob, "p")


async def test_a_pin_that_is_cancelled_alone_leaves_none(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path, "q") as (one, blob):
        with disk.held("utime") as call:
            async with anyio.create_task_group() as first:
                first.start_soon(one.part("p").pin, blob)
                await call.reached.wait()
                first.cancel_scope.cancel()
                call.release()
        await one.part("q").unpin(blob)
        await assert_pinned(tmp_path, one, blob)


async def test_a_pin_holds_that_is_made_while_the_same_one_is_let_go(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path, "p") as (one, blob):
        with disk.held("fsync") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.part("p").unpin, blob)
                await call.reached.wait()
                tasks.start_soon(one.part("p").pin, blob)
                await anyio.wait_all_tasks_blocked()
                call.release()
        await assert_pinned(tmp_path, one, blob, "p")


async def test_letting_go_a_pin_that_is_being_made_leaves_memory_and_disk_alike(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path) as (one, blob):
        with disk.held("fsync") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.part("p").pin, blob)
                await call.reached.wait()
                tasks.start_soon(one.part("p").unpin, blob)  # comes second, and so counts
                await anyio.wait_all_tasks_blocked()
                call.release()
        await assert_pinned(tmp_path, one, blob)


async def test_a_pin_holds_although_its_part_lets_it_go_before_it_is_made(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path) as (one, blob):
        with disk.held("utime") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.part("p").pin, blob)
                await call.reached.wait()
                with anyio.fail_after(disk.HOLD_S):
                    await one.part("p").unpin(blob)  # there is nothing to let go yet
                call.release()
        await assert_pinned(tmp_path, one, blob, "p")


async def test_a_blob_is_not_evicted_while_it_is_being_pinned(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path) as (one, blob):
        with disk.held("utime") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.part("p").pin, blob)
                await call.reached.wait()
                with pytest.raises(ResourceLimit):
                    await one.blobs.put(b"\1" * 600)
                call.release()
        await assert_pinned(tmp_path, one, blob, "p")


async def test_a_pin_that_the_disk_refuses_changes_nothing(tmp_path: Path) -> None:
    async with room_with_blob(tmp_path, "p") as (one, blob):
        with disk.failing("fsync"):
            with pytest.raises(StorageError):
                await one.part("q").pin(blob)
            with pytest.raises(StorageError):
                await one.part("p").unpin(blob)
        await assert_pinned(tmp_path, one, blob, "p")


async def test_a_blob_that_is_put_before_its_download_has_begun_stays_pinned(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network, bytes_max=len(BIG) + 1_000) as b:
        await a.blobs.put(BIG)
        free, reached = held(network, "a", after=0)
        results: list[bytes | type[Exception]] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
            await reached.wait()
            await b.blobs.put(BIG)
            free.set()
        assert results == [BIG]
        assert b.files() == {f"{BIG_ID[55:]}{suffix}" for suffix in ("", ".tree", ".pin.test")}
        with pytest.raises(ResourceLimit):
            await b.blobs.put(bytes(2_000))


async def test_a_content_that_somebody_deleted_can_be_put_again(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        blob = await one.blobs.put(BIG)
        (one.folder / blob).unlink()
        assert await one.blobs.put(BIG) == blob
        assert [event["blob"] for event in one.events("blob_lost")] == [blob]
        assert (await one.blobs.get(blob, bytes_max=len(BIG))).read_bytes() == BIG
        assert (one.metric("kept"), one.metric("bytes")) == (1, (one.folder / f"{blob}.tree").stat().st_size + len(BIG))
