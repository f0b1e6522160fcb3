"""Blobs from other peers: several sources, liars, slow ones, limits, and downloads that go on after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.blob_id import BlobId
from fluvial.blobs import download, fetching, schedule
from fluvial.blobs.layout import CHUNK_BYTES, LINKS_MAX, Layout
from fluvial.blobs.room import REQUESTS_PER_SENDER
from fluvial.blobs.tree import BlobTree, digest_of
from fluvial.blobs.wire import PIECE_BYTES_MAX, PieceRequest, decode_request
from fluvial.clock import ManualClock
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, ResourceLimit, Unreachable
from fluvial.identity import PeerId
from fluvial.virtual.loop import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.blobs import disk
from tests.core.blobs.contents import pattern, tree_of
from tests.core.blobs.rooms import START_MS, Network, Room, id_of, room

BIG = pattern(5 * CHUNK_BYTES + 5)
BIG_ID = tree_of(BIG).blob
WIDE = pattern(LINKS_MAX * CHUNK_BYTES + 1)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    monkeypatch.setattr(download, "STEAL_AFTER_S", 0.05)
    monkeypatch.setattr(download, "STALLED_AFTER_S", 0.05)
    monkeypatch.setattr(schedule, "STEAL_AFTER_S", 0.05)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES_MAX, CHUNK_BYTES, CHUNK_BYTES + 1, 5 * CHUNK_BYTES + 5])
async def test_a_blob_comes_from_a_hint_and_can_be_had_from_there_on(size: int, tmp_path: Path) -> None:
    content = pattern(size)
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        blob = await a.blobs.put(content)
        path = await b.blobs.get(blob, bytes_max=size, hints=[a.peer])
        assert path.read_bytes() == content
        assert (await c.blobs.get(blob, bytes_max=size, hints=[b.peer])).read_bytes() == content
        assert b.metric("received_bytes_total") == a.metric("served_bytes_total")
        asked = network.requests[a.peer]
        await b.blobs.get(blob, bytes_max=size, hints=[a.peer])
        assert network.requests[a.peer] == asked


async def test_a_tree_of_two_levels_is_fetched_level_by_level(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        blob = await a.blobs.put(WIDE)
        assert (await b.blobs.get(blob, bytes_max=len(WIDE), hints=[a.peer])).read_bytes() == WIDE


def noted(asked: list[PieceRequest], request: PieceRequest, answer: bytes) -> bytes:
    asked.append(request)
    return answer


def test_under_virtual_time_everything_happens_in_the_same_order_every_time(tmp_path: Path) -> None:
    async def story(name: str) -> list[PieceRequest]:
        network, asked = Network(), list[PieceRequest]()
        folder = tmp_path / name
        async with room("a", folder, network) as a, room("b", folder, network) as b, room("c", folder, network) as c:
            for one in (a, b):
                await one.blobs.put(BIG)
            for source in ("a", "b"):
                network.through(source, partial(noted, asked))
            assert (await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer, b.peer])).read_bytes() == BIG
        return asked

    assert run(story, "first") == run(story, "second")


async def test_several_sources_share_the_work(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        content = pattern(30 * CHUNK_BYTES)
        for one in (a, b):
            await one.blobs.put(content)
        await c.blobs.get(tree_of(content).blob, bytes_max=len(content), hints=[a.peer, b.peer])
        share = network.requests[a.peer] / (network.requests[a.peer] + network.requests[b.peer])
        assert 0.2 < share < 0.8


async def test_providers_are_looked_up_when_no_hint_has_it(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        blob = await a.blobs.put(BIG)
        network.providers[blob] = [c.peer, a.peer, b.peer]
        assert (await b.blobs.get(blob, bytes_max=len(BIG), hints=[c.peer, id_of("away")])).read_bytes() == BIG
        assert network.lookups == 1
        assert b.metric("sources_dropped_total", reason="refused") == 1
        await b.blobs.unpin(blob)


async def test_nobody_has_it(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        with pytest.raises(Unreachable, match="nobody is known who has it"):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG))
        with pytest.raises(Unreachable, match=r"is not kept here.*no way to"):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[b.peer, a.peer, id_of("away")])
        assert b.metric("downloads_total", outcome="unreachable") == 2
        assert b.files() == set()


# --- liars


def flip(request: PieceRequest, answer: bytes) -> bytes:
    return bytes([answer[0] ^ 1]) + answer[1:] if answer else b"?"


def flip_chunks(request: PieceRequest, answer: bytes) -> bytes:
    return flip(request, answer) if request.block > 0 else answer


LIES: dict[str, Callable[[PieceRequest, bytes], bytes]] = {
    "wrong bytes": flip,
    "wrong chunks": flip_chunks,
    "too short": lambda request, answer: answer[:-1],
    "nothing": lambda request, answer: b"",
    "too long": lambda request, answer: answer + bytes(request.length),
    "endless": lambda request, answer: bytes(request.length),
    "another piece": lambda request, answer: answer if request.offset == 0 else answer[::-1],
    "random": lambda request, answer: digest_of(answer) * (request.length // 32),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_liar_is_given_up_and_costs_only_itself(lie: str, tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        await b.blobs.put(BIG)
        liar = network.through("a", LIES[lie])
        path = await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[liar, b.peer])
        assert path.read_bytes() == BIG
        dropped = c.metric("sources_dropped_total", reason="wrong") + c.metric(
            "sources_dropped_total", reason="refused"
        )
        assert dropped == 1
        assert c.events("blob_source_dropped")[0]["other"] == liar


@pytest.mark.parametrize("lie", LIES)
async def test_with_liars_alone_nothing_is_kept_that_is_not_right(lie: str, tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        liar = network.through("a", LIES[lie])
        with pytest.raises(Unreachable, match="not to be had"):
            await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[liar])
        assert c.metric("kept") == 0


async def test_a_tree_that_its_author_made_up_is_refused_whoever_delivers_it(tmp_path: Path) -> None:
    network = Network()
    short = BlobTree.of_chunks(CHUNK_BYTES + 1, [digest_of(b"short"), digest_of(b"x")])

    async def serve(sender: PeerId, payload: bytes) -> bytes:
        _, request = decode_request(payload)
        return {0: short.nodes, 1: b"short", 2: b"x"}[request.block][request.offset :][: request.length]

    async with room("c", tmp_path, network) as c:
        author = network.liar("author", serve)
        with pytest.raises(RemoteProtocolError, match="5 bytes, not 262,144"):
            await c.blobs.get(short.blob, bytes_max=2 * CHUNK_BYTES, hints=[author])
        assert c.metric("kept") == 0
        assert c.metric("downloads_total", outcome="malformed") == 1


@pytest.mark.parametrize("bytes_max", [0, CHUNK_BYTES, len(BIG) - 1])
async def test_the_size_is_checked_before_the_content_is_fetched(bytes_max: int, tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        with pytest.raises(ResourceLimit, match=f"has {len(BIG):,} bytes"):
            await b.blobs.get(BIG_ID, bytes_max=bytes_max, hints=[a.peer])
        assert network.requests[a.peer] == 1
        assert b.files() == set()
        with pytest.raises(ResourceLimit, match=f"has {len(BIG):,} bytes"):
            await a.blobs.get(BIG_ID, bytes_max=bytes_max)


async def test_a_blob_without_room_is_not_fetched(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network, bytes_max=len(BIG)) as b:
        await a.blobs.put(BIG)
        with pytest.raises(ResourceLimit, match="no room"):
            await b.blobs.get(BIG_ID, bytes_max=2**40, hints=[a.peer])
        assert network.requests[a.peer] == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_happens_on_the_way_the_file_is_the_same_or_there_is_none(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = pattern(data.draw(st.integers(0, 3 * CHUNK_BYTES)))
    harms: dict[str, Callable[[PieceRequest, bytes], bytes]] = {"none": lambda request, answer: answer, **LIES}
    network = Network()
    folder = tmp_path_factory.mktemp("any")

    def harmful(request: PieceRequest, answer: bytes) -> bytes:
        return harms[data.draw(st.sampled_from(["none", *harms]))](request, answer)

    async with room("a", folder, network) as a, room("b", folder, network) as b:
        blob = await a.blobs.put(content)
        network.through("a", harmful)
        try:
            path = await b.blobs.get(blob, bytes_max=len(content), hints=[a.peer])
        except FluvialError:
            assert b.metric("kept") == 0
        else:
            assert path.read_bytes() == content


# --- slow and busy sources


def held(network: Network, name: str, *, after: int) -> tuple[anyio.Event, anyio.Event]:
    """A peer that answers so many requests, and the others when the first event is set; the second one says that it holds one."""
    honest, free, reached, seen = network.handlers[id_of(name)], anyio.Event(), anyio.Event(), 0

    async def handle(sender: PeerId, payload: bytes) -> bytes:
        nonlocal seen
        seen += 1
        if seen > after:
            reached.set()
            await free.wait()
        return await honest(sender, payload)

    network.liar(name, handle)
    return free, reached


async def test_a_source_that_stalls_holds_nobody_up(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        await b.blobs.put(BIG)
        held(network, "a", after=3)
        with anyio.fail_after(10):
            path = await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer, b.peer])
        assert path.read_bytes() == BIG


async def test_many_sources_that_stall_do_not_keep_an_honest_one_from_being_asked(tmp_path: Path) -> None:
    network = Network()

    async def stall(sender: PeerId, payload: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async with room("a", tmp_path, network) as a, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        stalling = [network.liar(f"stall {number}", stall) for number in range(10)]
        network.providers[BIG_ID] = [*stalling[5:], a.peer]
        with anyio.fail_after(10):
            path = await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=stalling[:5])
        assert path.read_bytes() == BIG


async def test_a_source_that_is_too_slow_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    monkeypatch.setattr(fetching, "BLOCK_TIMEOUT_S", 0.05)
    async with room("a", tmp_path, network) as a, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        held(network, "a", after=3)
        with pytest.raises(Unreachable, match="it is too slow"):
            await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])
        assert c.metric("sources_dropped_total", reason="slow") == 1


async def test_a_source_that_is_busy_or_away_for_a_moment_is_tried_again(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        honest, seen = network.handlers[a.peer], 0

        async def handle(sender: PeerId, payload: bytes) -> bytes:
            nonlocal seen
            seen += 1
            if seen % 10 == 9:
                raise Unreachable("the connection broke") if seen % 20 == 9 else Refused("busy", reason="busy")
            return await honest(sender, payload)

        network.liar("a", handle)
        assert (await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])).read_bytes() == BIG


async def test_one_peer_is_asked_for_no_more_at_a_time_than_it_answers(tmp_path: Path) -> None:
    network = Network()
    contents = [pattern(3 * CHUNK_BYTES + number) for number in range(4)]
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        blobs = [await a.blobs.put(content) for content in contents]
        honest, now, most = network.handlers[a.peer], 0, 0

        async def handle(sender: PeerId, payload: bytes) -> bytes:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                return await honest(sender, payload)
            finally:
                now -= 1

        network.liar("a", handle)
        async with anyio.create_task_group() as tasks:
            for blob in blobs:
                tasks.start_soon(lambda blob=blob: b.blobs.get(blob, bytes_max=2**20, hints=[a.peer]))
        assert 1 < most < REQUESTS_PER_SENDER
        assert b.metric("kept") == 4


# --- one download for many, and the next one goes on


async def get(one: Room, results: list[Any], **how: Any) -> None:
    try:
        results.append((await one.blobs.get(BIG_ID, **how)).read_bytes())
    except FluvialError as error:
        results.append(type(error))


async def test_those_who_want_the_same_blob_share_a_download(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        free, _ = held(network, "a", after=2)
        results: list[Any] = []
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
            tasks.start_soon(lambda: get(b, results, bytes_max=5, hints=[c.peer]))
            await anyio.wait_all_tasks_blocked()
            free.set()
        assert sorted(map(str, results)) == sorted(map(str, [ResourceLimit, BIG, BIG, BIG]))
        pieces = sum(
            -(-min(CHUNK_BYTES, len(BIG) - begin) // PIECE_BYTES_MAX) for begin in range(0, len(BIG), CHUNK_BYTES)
        )
        assert network.requests[a.peer] <= 1 + pieces + 6  # one chunk may be asked for twice
        assert b.metric("downloads_total", outcome="fetched") == 1


async def test_a_second_hint_helps_a_download_that_stalls(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        await b.blobs.put(BIG)
        held(network, "a", after=0)
        results: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: get(c, results, bytes_max=len(BIG), hints=[a.peer]))
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(lambda: get(c, results, bytes_max=len(BIG), hints=[b.peer]))
        assert results == [BIG, BIG]


async def interrupted(network: Network, a: Room, b: Room, *, after: int, wait: bool = True) -> None:
    """A download that is cancelled when so many requests were answered, and perhaps has not come to its end yet."""
    _, reached = held(network, "a", after=after)
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await reached.wait()
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel)
            await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])
    assert scope.cancelled_caught
    with anyio.fail_after(10):
        while wait and not b.events("blob_download_ended"):  # noqa: ASYNC110 - a log line rings no bell
            await anyio.sleep(0.001)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_download_goes_on_where_it_was_interrupted(restart: bool, tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a:
        await a.blobs.put(BIG)
        answer = network.handlers[a.peer]
        async with room("b", tmp_path, network) as b:
            await interrupted(network, a, b, after=1 + 6 * 3, wait=restart)
            network.liar("a", answer)
            asked = network.requests[a.peer]
            if not restart:
                assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])).read_bytes() == BIG
        if restart:
            async with room("b", tmp_path, network) as b:
                assert b.metric("unfinished") == 1
                assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])).read_bytes() == BIG
        assert network.requests[a.peer] - asked == 6 * 2 + 1  # three of five chunks and a bit were there


async def test_what_a_crash_left_of_a_download_is_hashed_again(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a:
        await a.blobs.put(BIG)
        answer = network.handlers[a.peer]
        async with room("b", tmp_path, network) as b:
            await interrupted(network, a, b, after=1 + 6 * 5)
        part = tmp_path / "b" / f"{BIG_ID}.part"
        torn = bytearray(part.read_bytes())
        torn[CHUNK_BYTES : CHUNK_BYTES + 4096] = bytes(4096)
        part.write_bytes(torn)
        network.liar("a", answer)
        async with room("b", tmp_path, network) as b:
            assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])).read_bytes() == BIG


async def test_a_damaged_tree_of_a_download_begins_it_anew(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        answer = network.handlers[a.peer]
        await interrupted(network, a, b, after=1 + 6 * 3)
        tree = tmp_path / "b" / f"{BIG_ID}.tree"
        tree.write_bytes(tree.read_bytes()[:-1] + b"?")
        network.liar("a", answer)
        assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])).read_bytes() == BIG
        assert len(b.events("blob_download_damaged")) == 1


async def test_a_blob_that_is_put_while_its_damaged_download_is_looked_at_stays(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        answer = network.handlers[a.peer]
        await interrupted(network, a, b, after=1 + 6 * 3)
        (tmp_path / "b" / f"{BIG_ID}.part").unlink()
        network.liar("a", answer)
        results: list[Any] = []
        with disk.held("utime") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(b.blobs.put, BIG)
                await call.reached.wait()
                tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
                with anyio.fail_after(10):
                    while not b.events("blob_download_damaged"):  # noqa: ASYNC110 - a log line rings no bell
                        await anyio.sleep(0.001)
                call.release()
        assert results == [BIG]
        assert not b.events("blob_evicted")
        assert b.files() == {BIG_ID[55:], f"{BIG_ID[55:]}.tree", f"{BIG_ID[55:]}.pin.test"}


async def test_an_interrupted_download_goes_when_it_is_old_or_room_is_needed(tmp_path: Path) -> None:
    network, clock = Network(), ManualClock(START_MS)
    async with room("a", tmp_path, network) as a:
        await a.blobs.put(BIG)
        async with room("b", tmp_path, network, clock=clock, bytes_max=len(BIG) + 1_000) as b:
            await interrupted(network, a, b, after=1)
            assert b.files() == {f"{BIG_ID[55:]}.part", f"{BIG_ID[55:]}.tree"}
            await b.blobs.put(bytes(2_000))
            assert b.metric("unfinished") == 0
        async with room("b", tmp_path, network, clock=clock) as b:
            network.requests.clear()
            network.liar("a", a.room.answer)
            await interrupted(network, a, b, after=1)
        clock.time_ms += 86_400_001
        async with room("b", tmp_path, network, clock=clock) as b:
            assert b.metric("unfinished") == 0
            assert b.metric("evicted_total") == 1


async def test_downloads_are_limited_in_number(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network, downloads_max=1) as b:
        blob = await a.blobs.put(b"another")
        await a.blobs.put(BIG)
        free, _ = held(network, "a", after=1)
        results: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(ResourceLimit, match="downloads are in progress"):
                await b.blobs.get(blob, bytes_max=10, hints=[a.peer])
            free.set()
        assert results == [BIG]


async def test_a_download_ends_after_its_time(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network, download_timeout_s=0.05) as b:
        await a.blobs.put(BIG)
        held(network, "a", after=1)
        with pytest.raises(Unreachable, match=r"did not come within 0.05 s"):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])


async def test_those_who_wait_hear_that_the_node_stops(tmp_path: Path) -> None:
    network = Network()
    results: list[Any] = []
    async with room("a", tmp_path, network) as a, anyio.create_task_group() as tasks:
        await a.blobs.put(BIG)
        async with room("b", tmp_path, network) as b:
            held(network, "a", after=1)
            tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(Unreachable, match="starting or stopping"):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer])
    assert results == [Unreachable]


async def test_a_blob_that_is_put_while_it_is_fetched_is_kept_once(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        free, _ = held(network, "a", after=4)
        results: list[Any] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
            await anyio.wait_all_tasks_blocked()
            await b.blobs.put(BIG)
            free.set()
        assert results == [BIG]
        assert (b.metric("kept"), b.metric("unfinished")) == (1, 0)
        assert b.files() == {f"{BIG_ID[55:]}{suffix}" for suffix in ("", ".tree", ".pin.test")}


async def test_a_blob_can_be_pinned_as_it_comes(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network, bytes_max=len(BIG) + 1_000) as b:
        await a.blobs.put(BIG)
        await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[a.peer], pin=True)
        with pytest.raises(ResourceLimit):
            await b.blobs.put(bytes(2_000))


# --- what is answered


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PieceRequest(blob=str(tree_of(b"?").blob), block=0, offset=0, length=1), Refused),
        (PieceRequest(blob=str(BIG_ID), block=7, offset=0, length=1), RemoteProtocolError),
        (PieceRequest(blob=str(BIG_ID), block=0, offset=0, length=PIECE_BYTES_MAX + 1), RemoteProtocolError),
        (PieceRequest(blob=str(BIG_ID), block=0, offset=0, length=0), RemoteProtocolError),
        (PieceRequest(blob=str(BIG_ID), block=0, offset=-1, length=1), RemoteProtocolError),
        (PieceRequest(blob=str(BIG_ID), block=-1, offset=0, length=1), RemoteProtocolError),
        (PieceRequest(blob="../../etc/passwd".ljust(59, "a"), block=0, offset=0, length=1), RemoteProtocolError),
    ],
)
async def test_bad_requests_are_refused(request_: PieceRequest, error: type[FluvialError], tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as a:
        await a.blobs.put(BIG)
        with pytest.raises(error):
            await a.room.answer(id_of("b"), request_.encoded())
        outcome = "unknown" if error is Refused else "malformed"
        assert a.metric("requests_total", outcome=outcome) == 1


async def test_a_blob_that_cannot_be_read_is_refused_without_a_word_about_the_disk(tmp_path: Path) -> None:
    async with room("a", tmp_path, Network()) as a:
        await a.blobs.put(BIG)
        (a.folder / BIG_ID).unlink()
        with pytest.raises(Refused) as caught:
            await a.room.answer(id_of("b"), PieceRequest(blob=str(BIG_ID), block=1, offset=0, length=1).encoded())
        assert str(tmp_path) not in str(caught.value)
        assert str(tmp_path) in a.events("blob_not_read")[0]["error"]


async def test_an_unfinished_download_is_not_given_to_others(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b, room("c", tmp_path, network) as c:
        await a.blobs.put(BIG)
        await interrupted(network, a, b, after=1 + 6)
        assert list(b.room.capabilities()) == []
        with pytest.raises(Unreachable, match="is not kept here"):
            await c.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[b.peer])


def test_ids_in_requests_and_layouts_fit_a_message() -> None:
    request = PieceRequest(blob=str(BIG_ID), block=2**40 - 1, offset=CHUNK_BYTES, length=PIECE_BYTES_MAX)
    assert len(request.encoded()) == 79
    assert decode_request(request.encoded()) == (BlobId(BIG_ID), request)
    assert Layout(2**47).nodes + Layout(2**47).chunks < 2**40
