"""Blobs on one peer: put, pins, limits, eviction, and what a crash leaves behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from fluvial.blob_id import BlobId
from fluvial.blobs.files import Copy
from fluvial.blobs.folder import BlobFolder
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.clock import ManualClock
from fluvial.errors import LocalProtocolError, ResourceLimit, StorageError, Unreachable
from fluvial.ports import Capability

from tests.core.blobs.contents import pattern, tree_of
from tests.core.blobs.rooms import START_MS, Network, room

BIG = pattern(2 * CHUNK_BYTES + 5)
BIG_ID = tree_of(BIG).blob


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5])
async def test_what_was_put_is_there_as_bytes_and_as_a_file(size: int, tmp_path: Path) -> None:
    content = pattern(size)
    source = tmp_path / "source"
    source.write_bytes(content)
    async with room("a", tmp_path, Network()) as one:
        blob = await one.blobs.put(content)
        assert await one.blobs.put(source) == blob == tree_of(content).blob
        assert (await one.blobs.get(blob, bytes_max=size)).read_bytes() == content
        assert one.metric("kept") == 1


async def test_a_content_survives_a_restart_with_its_pins(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        blob = await one.part("execution/wasm").put(BIG)
        before = one.files()
    async with room("a", tmp_path, Network(), bytes_max=len(BIG) + 1_000) as one:
        assert one.files() == before
        assert (await one.blobs.get(blob, bytes_max=len(BIG))).read_bytes() == BIG
        with pytest.raises(ResourceLimit):  # it is pinned still
            await one.blobs.put(pattern(CHUNK_BYTES))
        await one.part("execution/wasm").unpin(blob)
    async with room("a", tmp_path, Network(), bytes_max=len(BIG) + 1_000) as one:
        await one.blobs.put(pattern(CHUNK_BYTES))
        with pytest.raises(Unreachable):
            await one.blobs.pin(blob)


async def test_the_least_recently_used_of_what_nobody_pins_makes_room(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    contents = [bytes([number]) * 1_000 for number in range(5)]
    async with room("a", tmp_path, Network(), clock=clock, bytes_max=3_000) as one:
        blobs = []
        for content in contents[:3]:
            clock.time_ms += 1
            blobs.append(await one.blobs.put(content))
        await one.blobs.unpin(blobs[0])
        await one.blobs.unpin(blobs[1])
        clock.time_ms += 1
        await one.blobs.get(blobs[0], bytes_max=1_000)  # now the other one is the older one
        await one.blobs.put(contents[3])
        assert one.events("blob_evicted")[0]["blob"] == blobs[1]
        await one.blobs.get(blobs[0], bytes_max=1_000)
        await one.blobs.put(contents[4])
        with pytest.raises(ResourceLimit, match=r"there is no room for 1 more bytes: 3 blobs"):
            await one.blobs.put(b"x")
        assert one.metric("evicted_total") == 2
        assert one.metric("bytes") == 3_000


async def test_a_content_that_cannot_fit_evicts_nothing(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network(), bytes_max=3_000) as one:
        blob = await one.blobs.put(b"small")
        await one.blobs.unpin(blob)
        with pytest.raises(ResourceLimit, match=r"bytes_max"):
            await one.blobs.put(bytes(3_001))
        await one.blobs.pin(blob)
        assert one.metric("bytes") == 5


async def test_blobs_are_limited_in_number(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network(), blobs_max=2) as one:
        await one.blobs.put(b"1")
        await one.blobs.put(b"2")
        with pytest.raises(ResourceLimit):
            await one.blobs.put(b"3")
        assert one.files() == {path[55:] for blob in (b"1", b"2") for path in _names(tree_of(blob).blob)}


def _names(blob: BlobId) -> tuple[str, str]:
    return blob, f"{blob}.pin.test"


async def test_a_blob_pinned_by_two_parts_stays_until_both_let_it_go(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network(), bytes_max=1_000) as one:
        blob = await one.part("a").put(bytes(600))
        await one.part("b").pin(blob)
        await one.part("b").pin(blob)
        await one.part("a").unpin(blob)
        with pytest.raises(ResourceLimit):
            await one.blobs.put(b"\1" * 600)
        await one.part("b").unpin(blob)
        await one.blobs.put(b"\1" * 600)


async def test_the_disk_keeps_its_reserve(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network(), free_bytes_min=2**62) as one:
        with pytest.raises(ResourceLimit, match=r"must stay free"):
            await one.blobs.put(b"x")
        assert one.metric("bytes") == 0
        assert one.files() == set()


async def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with room("a", tmp_path, Network()) as one:
        await one.blobs.put(b"before")
        before = one.files()

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"No space left on device") as caught:
            await one.blobs.put(BIG)
        assert "free some space" in caught.value.hint
        monkeypatch.undo()
        assert one.files() == before
        assert one.metric("bytes") == 6
        await one.blobs.put(BIG)


async def test_what_is_no_file_cannot_be_put(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with room("a", tmp_path, Network()) as one:
        for name, text in (("missing", "No such file"), (".", "no regular file"), ("pipe", "no regular file")):
            with pytest.raises(StorageError, match=text):
                await one.blobs.put(tmp_path / name)


def test_a_file_that_changes_while_it_is_copied_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"12345")
    for size in (4, 6):
        with source.open("rb") as file:
            copy = Copy(file, size, tmp_path / f"{size}.tmp")
            with pytest.raises(StorageError, match="changed while"):
                _copy_all(copy)
            copy.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def _copy_all(copy: Copy) -> None:
    while copy.step():
        pass


async def test_a_part_without_a_usable_name_cannot_pin(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        blob = await one.blobs.put(b"x")
        with pytest.raises(LocalProtocolError, match="no name under which"):
            await one.part("ü" * 100).pin(blob)
        await one.part("../../etc").pin(blob)
        assert one.files() == {f"{blob[55:]}{suffix}" for suffix in ("", ".pin.test", ".pin...%2F..%2Fetc")}


async def test_leftovers_of_a_crash_are_cleaned_up_and_other_files_left_alone(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        blob = await one.blobs.put(BIG)
        other = await one.blobs.put(b"other")
    folder = tmp_path / "a"
    lost = tree_of(b"lost").blob
    for name in ("0a.tmp", f"{lost}.pin.test", f"{lost}.tree", f"{lost}.part", f"{BIG_ID}.part", "README"):
        (folder / name).write_bytes(b"?")
    (folder / other).write_bytes(bytes(CHUNK_BYTES + 1))  # can be no leaf
    async with room("a", tmp_path, Network()) as one:
        assert {path.name for path in folder.iterdir()} == {blob, f"{blob}.tree", f"{blob}.pin.test", "README", ".lock"}
        assert (await one.blobs.get(blob, bytes_max=len(BIG))).read_bytes() == BIG


@pytest.mark.parametrize("harm", ["tree", "size", "no tree"])
async def test_a_content_that_does_not_fit_its_tree_is_not_kept(harm: str, tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        await one.blobs.put(BIG)
    content, tree = tmp_path / "a" / BIG_ID, tmp_path / "a" / f"{BIG_ID}.tree"
    if harm == "tree":
        tree.write_bytes(tree.read_bytes()[:-1] + b"?")
    elif harm == "size":
        content.write_bytes(BIG[:-1])
    else:
        tree.unlink()
    async with room("a", tmp_path, Network()) as one:
        assert one.metric("kept") == 0
        assert one.files() == set()


async def test_a_content_that_somebody_deleted_is_missed_and_can_be_put_again(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        blob = await one.blobs.put(BIG)
        (one.folder / blob).unlink()
        with pytest.raises(Unreachable):
            await one.blobs.get(blob, bytes_max=len(BIG))
        assert len(one.events("blob_lost")) == 1
        await one.blobs.put(BIG)
        assert (await one.blobs.get(blob, bytes_max=len(BIG))).read_bytes() == BIG


async def test_what_is_kept_can_be_looked_up_within_a_limit(tmp_path: Path) -> None:
    clock = ManualClock(START_MS)
    async with room("a", tmp_path, Network(), clock=clock, announced_max=2) as one:
        blobs = []
        for content in (b"1", b"2", b"3"):
            clock.time_ms += 1
            blobs.append(await one.blobs.put(content))
        await one.blobs.unpin(blobs[2])
        found = one.room.capabilities()
        assert list(found) == [Capability("blob", blobs[1]), Capability("blob", blobs[0])]
        assert one.changes[-1] == {Capability("blob", blob) for blob in blobs[:2]}
        assert len(one.changes) == 3


async def test_a_folder_that_cannot_be_used_ends_the_room(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file in the way")
    with pytest.raises(ExceptionGroup) as caught:
        async with room("a", tmp_path, Network()):
            pass
    assert caught.group_contains(StorageError, match="File exists")


async def test_no_folder_is_made_before_there_is_a_content(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one:
        with pytest.raises(Unreachable):
            await one.blobs.get(BIG_ID, bytes_max=len(BIG))
        assert not one.folder.exists()
        await one.blobs.put(BIG)
        assert one.folder.stat().st_mode & 0o777 == 0o700


async def test_one_folder_belongs_to_one_peer_at_a_time(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as one, room("b", tmp_path, Network(), folder="a") as other:
        await one.blobs.put(BIG)
        with pytest.raises(StorageError, match="another peer uses this folder"):
            await other.blobs.put(b"x")
        with pytest.raises(ExceptionGroup) as caught:
            async with room("c", tmp_path, Network(), folder="a"):
                pass
        assert caught.group_contains(StorageError, match="another peer uses this folder")


async def test_a_temporary_folder_goes_with_the_peer(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network(), folder="") as one:
        path = await one.blobs.get(await one.blobs.put(BIG), bytes_max=len(BIG))
        assert path.read_bytes() == BIG
    assert not path.parent.exists()


def test_pieces_end_where_their_block_ends(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path, free_bytes_min=0)
    tree = tree_of(BIG)
    layout = tree.layout
    assert layout is not None
    temporary = folder.temporary()
    temporary.write_bytes(BIG)
    folder.keep(temporary, tree, used_ms=START_MS)
    assert folder.read(tree.blob, layout, 0, 0, 49_152) == tree.nodes
    assert folder.read(tree.blob, layout, 1, CHUNK_BYTES - 3, 10) == BIG[CHUNK_BYTES - 3 : CHUNK_BYTES]
    assert folder.read(tree.blob, layout, 3, 0, 10) == BIG[-5:]
    assert folder.read(tree.blob, layout, 3, 6, 10) == b""
