"""What is deployed, changed by several at the same time."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.blob_id import BlobId
from fluvial.errors import ServiceError
from fluvial.testing.execution import call_of
from fluvial.testing.solo import Solo, solo
from fluvial_fce_wasm.blueprints import made_blueprint
from fluvial_fce_wasm.seat.interface_printer import InterfacePrinter
from fluvial_fce_wasm.seat.options import WasmOptions
from fluvial_fce_wasm.seat.seat import WasmExecution
from fluvial_fce_wasm.tables import TABLES, ServiceEntry
from fluvial_fce_wasm.wit.types import ModuleShape, WitFunction

from tests.plugins.fce_wasm.deploying import wasm

OPTIONS = WasmOptions(modules_max=3, services_max=2)


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Solo[WasmExecution]]:
    async with solo(WasmExecution, OPTIONS, kind="execution", tables=TABLES, base_dir=tmp_path) as one:
        yield one


async def modules(peer: Solo[WasmExecution], *names: str) -> list[BlobId]:
    return [await peer.around.context.blobs.put(wasm(name)) for name in names]


async def blueprint(peer: Solo[WasmExecution], name: str, *files: str) -> BlobId:
    made = made_blueprint(name, await modules(peer, *files))
    return await peer.part.deployments.add_blueprint(made, peer.peer)


async def service(peer: Solo[WasmExecution], key: str) -> ServiceEntry:
    return await peer.part.deployments.create(key, peer.peer, hint=peer.peer)


async def at_once(*calls: Awaitable[object]) -> tuple[list[object], list[str]]:
    """What calls give that are all begun before one of them ends, and the refusals."""
    given: list[object] = []
    refusals: list[str] = []

    async def call(one: Awaitable[object]) -> None:
        try:
            given.append(await one)
        except ServiceError as error:
            refusals.append(f"{error.status} {error.message}")

    async with anyio.create_task_group() as group:
        for one in calls:
            group.start_soon(call, one)
    return given, refusals


async def test_services_made_at_once_are_no_more_than_there_may_be(peer: Solo[WasmExecution]) -> None:
    key = await blueprint(peer, "x", "arguments")
    made, refusals = await at_once(*(service(peer, key) for _ in range(4)))
    assert len(made) == len(peer.part.services()) == 2
    assert refusals == ["507 there are 2 services here, the most there may be"] * 2


async def test_modules_added_at_once_are_no_more_than_there_may_be_and_stay(peer: Solo[WasmExecution]) -> None:
    blobs = await modules(peer, "arguments", "store", "front", "right_p")
    deployments = peer.part.deployments
    calls = [deployments.add_module(blob, "", peer.peer) for blob in (*blobs, *blobs)]
    added, refusals = await at_once(*calls)
    assert len(deployments.inventory.modules) == 3
    assert (len(added), len(refusals)) == (6, 2)
    assert set(refusals) == {"507 there are 3 modules here, the most there may be"}


async def test_blueprints_added_at_once_are_no_more_than_there_may_be(peer: Solo[WasmExecution]) -> None:
    blobs = await modules(peer, "arguments")
    made = [made_blueprint(name, blobs) for name in ("one", "two", "three", "four")]
    added, refusals = await at_once(*(peer.part.deployments.add_blueprint(one, peer.peer) for one in made))
    assert len(added) == len(peer.part.deployments.inventory.blueprints) == 3
    assert refusals == ["507 there are 3 blueprints here, the most there may be"]


async def test_a_blueprint_that_is_removed_meanwhile_makes_no_service(peer: Solo[WasmExecution]) -> None:
    key = await blueprint(peer, "x", "arguments")
    other = await service(peer, await blueprint(peer, "other", "arguments"))
    deployments = peer.part.deployments
    calls = service(peer, key), deployments.replace(other, key, peer.peer), deployments.remove_blueprint(key)
    given, refusals = await at_once(*calls)
    assert given == [None]
    assert refusals == [f"404 there is no blueprint '{key}'"] * 2
    assert list(peer.part.services()) == [other.id]


async def test_a_module_that_is_removed_meanwhile_makes_no_blueprint(peer: Solo[WasmExecution]) -> None:
    first, second = await modules(peer, "store", "front")
    deployments = peer.part.deployments
    await deployments.add_module(first, "", peer.peer)
    calls = (
        deployments.add_blueprint(made_blueprint("x", [first, second]), peer.peer),
        deployments.remove_module(first),
    )
    given, refusals = await at_once(*calls)
    assert given == [None]
    assert refusals == ["409 a module of this blueprint was removed in the meantime"]
    assert deployments.inventory.blueprints == {}


async def test_a_service_that_is_removed_stays_removed(peer: Solo[WasmExecution]) -> None:
    deployments = peer.part.deployments
    mine = await service(peer, await blueprint(peer, "x", "arguments"))
    other = await blueprint(peer, "other", "store")
    calls = deployments.remove(mine), deployments.remove(mine), deployments.replace(mine, other, peer.peer)
    given, refusals = await at_once(*calls)
    assert given == [None]
    assert refusals == [f"404 there is no service '{mine.id}'"] * 2
    assert peer.part.services() == {}
    with pytest.raises(ServiceError, match="there is no service"):
        await deployments.set_alias("again", mine)
    assert len(deployments.inventory.aliases) == 0


async def test_a_service_that_is_removed_while_it_is_replaced_is_removed(peer: Solo[WasmExecution]) -> None:
    deployments = peer.part.deployments
    mine = await service(peer, await blueprint(peer, "x", "arguments"))
    other = await blueprint(peer, "other", "store")
    calls = deployments.replace(mine, other, peer.peer), deployments.remove(mine), deployments.running(mine)
    given, refusals = await at_once(*calls)
    assert len(given) == 2
    assert refusals == [f"1 the service {mine.id} was removed"]
    assert peer.part.services() == {}
    assert deployments.running_of(mine.id) is None


async def test_an_alias_that_two_want_at_once_is_that_of_the_first(peer: Solo[WasmExecution]) -> None:
    deployments = peer.part.deployments
    key = await blueprint(peer, "x", "arguments")
    first, second = await service(peer, key), await service(peer, key)
    _, refusals = await at_once(
        deployments.set_alias("name", first),
        deployments.set_alias("name", second),
        deployments.remove_alias("name", second),
        deployments.set_alias("name", first),
    )
    assert refusals == ["409 'name' was given to another service in the meantime"]
    assert deployments.service("name") == first
    await deployments.set_alias("name", second, taken=first.id)
    assert deployments.service("name") == second


async def test_calls_that_wait_while_their_service_is_removed_do_not_start_it_again(peer: Solo[WasmExecution]) -> None:
    deployments = peer.part.deployments
    mine = await service(peer, await blueprint(peer, "x", "kit_env", "kit"))
    running = await deployments.running(mine)
    calls = running.call("spin", [], seconds=0.1), running.call("bump", [1], seconds=5), deployments.remove(mine)
    given, refusals = await at_once(*calls)
    assert given == [None]
    assert sorted(text.split()[0] for text in refusals) == ["1", "3"]
    assert not running.is_running


async def test_the_folder_of_a_service_that_is_not_made_is_deleted(peer: Solo[WasmExecution], tmp_path: Path) -> None:
    made = msgspec.structs.replace(made_blueprint("x", await modules(peer, "arguments")), state=True)
    key = await peer.part.deployments.add_blueprint(made, peer.peer)
    _, refusals = await at_once(*(service(peer, key) for _ in range(3)))
    assert len(refusals) == 1
    folders = {path.name for path in (tmp_path / "state/wasm/services").iterdir()}
    assert folders == set(peer.part.services())


async def test_a_call_that_waits_for_a_replacement_is_a_call_of_the_new_one(peer: Solo[WasmExecution]) -> None:
    deployments = peer.part.deployments
    mine = await service(peer, await blueprint(peer, "x", "right_p", "through"))
    other = await blueprint(peer, "other", "right_p", "wrapper", "through")
    calls = deployments.replace(mine, other, peer.peer), peer.part.call(call_of(mine.id, "f"))
    assert 11 in (await at_once(*calls))[0]
    assert await peer.part.call(call_of(mine.id, "f")) == 11


def test_a_blueprint_of_more_modules_than_a_service_may_have_is_not_made() -> None:
    with pytest.raises(ValueError, match="at most 12 modules, not 100,000"):
        made_blueprint("many", ["no id"] * 100_000)


class Watched(dict[str, WitFunction]):
    """What a module exports, which notes how many look at it at the same time."""

    def __init__(self, functions: dict[str, WitFunction]) -> None:
        super().__init__(functions)
        self._now = threading.Semaphore(1)
        self.looks = self.crowded = 0

    def items(self) -> Any:
        if not self._now.acquire(blocking=False):
            self.crowded += 1
            return super().items()
        self.looks += 1
        threading.Event().wait(0.01)
        self._now.release()
        return super().items()


async def test_interfaces_are_printed_one_after_another() -> None:
    printer, exports = InterfacePrinter(), Watched({"note": WitFunction()})
    printed: list[dict[str, Any]] = []

    async def look() -> None:
        printed.append(await printer.printed(ModuleShape(exports=exports)))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(look)
    assert [one["exports"] for one in printed] == [{"note": "note: func();"}] * 8
    assert exports.looks > 8
    assert not exports.crowded
