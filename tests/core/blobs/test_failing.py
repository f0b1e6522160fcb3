"""Downloads that fail: what they cost, and whom. Neither those who come later nor the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.blobs import download
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.errors import ConfigError, FluvialError, PluginError, Refused, StorageError, Unreachable

from tests.core.blobs import disk
from tests.core.blobs.contents import pattern, tree_of
from tests.core.blobs.rooms import Network, id_of, room
from tests.core.blobs.test_fetching import get, interrupted

BIG = pattern(5 * CHUNK_BYTES + 5)
BIG_ID = tree_of(BIG).blob

ERRORS: list[FluvialError] = [
    ConfigError("no such setting"),
    PluginError("the routing is broken"),
    StorageError("the disk is broken"),
    Refused("not now", reason="busy"),
]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.01)


# --- who comes while a download ends


async def test_who_comes_while_a_failed_download_ends_is_not_given_its_failure(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        honest = network.handlers[a.peer]
        await interrupted(network, a, b, after=1 + 6)
        network.liar("a", honest)
        first: list[Any] = []
        second: list[Any] = []
        with disk.held("utime") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: get(b, first, bytes_max=len(BIG), hints=[id_of("away")]))
                await call.reached.wait()  # it has failed, and notes when it was last worked on
                tasks.start_soon(lambda: get(b, second, bytes_max=len(BIG), hints=[a.peer]))
                await anyio.wait_all_tasks_blocked()
                call.release()
        assert (first, second) == ([Unreachable], [BIG])


async def test_who_comes_while_a_download_ends_well_does_not_fetch_it_again(tmp_path: Path) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        results: list[Any] = []
        with disk.held("unlink") as call:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
                await call.reached.wait()  # it deletes what is left of it
                tasks.start_soon(lambda: get(b, results, bytes_max=len(BIG), hints=[a.peer]))
                await anyio.wait_all_tasks_blocked()
                call.release()
        assert results == [BIG, BIG]
        assert b.metric("downloads_total", outcome="fetched") == 1


# --- errors that neither a source nor the disk makes


def failing(error: FluvialError) -> Callable[[], None]:
    """Something that fails before it does anything."""

    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_request_that_fails_for_whatever_reason_costs_its_source_only(
    error: FluvialError, tmp_path: Path
) -> None:
    network = Network()
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        network.before_request[id_of("c")] = failing(error)
        with pytest.raises(Unreachable, match=error.message):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[id_of("c")])
        assert b.metric("sources_dropped_total", reason="failed") == 1
        assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=[id_of("c"), a.peer])).read_bytes() == BIG


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_a_lookup_that_fails_costs_no_more_than_what_it_might_have_found(
    error: FluvialError, tmp_path: Path
) -> None:
    network = Network(before_lookup=failing(error))
    async with room("a", tmp_path, network) as a, room("b", tmp_path, network) as b:
        await a.blobs.put(BIG)
        with pytest.raises(Unreachable, match=f"could not be looked up: {error.message}"):
            await b.blobs.get(BIG_ID, bytes_max=len(BIG))
        assert [event["error"] for event in b.events("blob_lookup_failed")] == [error.message]
        hints = [id_of("away"), a.peer]
        assert (await b.blobs.get(BIG_ID, bytes_max=len(BIG), hints=hints)).read_bytes() == BIG
