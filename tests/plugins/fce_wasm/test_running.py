"""Services without a peer: many calls, on both levels; fuel; quota; the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.effectors import EffectorError
from fluvial.services import Status
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError, UnknownFunction
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.quota import FILE_BYTES, within_quota
from fluvial_fce_wasm.running import RunningService

from tests.plugins.fce_wasm.deploying import WAT

POINTS = [{"x": i, "y": -i, "label": f"point {i}"} for i in range(100)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CodeCache:
    return CodeCache(tmp_path_factory.mktemp("code"))


@pytest.fixture
async def laboratory(cache: CodeCache, tmp_path: Path) -> Laboratory:
    return Laboratory(cache, tmp_path)


@pytest.fixture(params=["thread", "process"])
async def kit(request: Any, laboratory: Laboratory) -> AsyncIterator[RunningService]:
    limits = GuestLimits(call_s=2)
    files = [WAT / "kit_env.wat", WAT / "kit.wat"]
    service = await laboratory.service(files, limits, wasi=request.param == "process")
    yield service
    await service.close()


async def test_results_of_many_calls_do_not_touch_each_other(kit: RunningService) -> None:
    for number in range(300):
        points = POINTS[: number % 100]
        assert await kit.call("echo-points", [points], seconds=5) == points
        assert await kit.call("echo", ["x" * number], seconds=5) == "x" * number
        assert await kit.call("echo-bytes", [[number % 256] * 5], seconds=5) == [number % 256] * 5
        assert await kit.call("sum-points", [points], seconds=5) == 0
        if number % 60 == 59:
            with pytest.raises(GuestError):
                await kit.call("badstr", [], seconds=5)


async def test_calls_of_many_at_once_are_made_one_after_the_other(kit: RunningService) -> None:
    results: list[int] = []

    async def bump() -> None:
        results.append(await kit.call("bump", [1], seconds=10))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(bump)
    assert sorted(results) == list(range(1, 51))


async def test_arguments_that_would_take_too_much_memory_are_refused(kit: RunningService) -> None:
    for _ in range(2):
        with pytest.raises(GuestError, match="for the guest all of it would take more than 35,651,584 bytes") as error:
            await kit.call("echo-bytes", [[1] * 1_200_000], seconds=5)
        assert error.value.kind is FailureKind.ARGUMENT
        assert await kit.call("echo-bytes", [[2] * 40_000], seconds=5) == [2] * 40_000


async def test_a_call_that_waits_too_long_is_not_made(kit: RunningService) -> None:
    outcomes: list[object] = []

    async def spin() -> None:
        with pytest.raises(GuestError) as error:
            await kit.call("spin", [], seconds=1)
        outcomes.append(error.value.kind)

    async with anyio.create_task_group() as group:
        group.start_soon(spin)
        await anyio.sleep(0.1)
        with pytest.raises(GuestError, match="in progress all the time"):
            await kit.call("bump", [1], seconds=0.2)
    assert outcomes == [FailureKind.TIMEOUT]
    assert await kit.call("bump", [1], seconds=5) == 1
    with pytest.raises(UnknownFunction):
        await kit.call("nothing", [], seconds=5)


async def test_a_cancelled_call_leaves_a_service_that_answers(kit: RunningService) -> None:
    with anyio.move_on_after(0.2) as scope, suppress(GuestError):  # a thread cannot be left: it ends at its deadline
        await kit.call("spin", [], seconds=1)
    assert scope.cancel_called
    assert await kit.call("add", [1, 2], seconds=5) == 3


async def test_the_same_call_has_the_same_price(laboratory: Laboratory) -> None:
    files = [WAT / "store.wat", WAT / "front.wat"]
    prices: list[int] = []
    for _ in range(2):
        service = await laboratory.service(files, GuestLimits(fuel=100_000))
        for count in (10, 100, 10):
            await service.call("many", [count], seconds=5)
            prices.append(service.fuel_used)
        with pytest.raises(GuestError) as error:
            await service.call("many", [1_000_000], seconds=5)
        assert error.value.kind is FailureKind.FUEL
        await service.close()
    assert prices[:3] == prices[3:]
    assert prices[0] == prices[2] < prices[1]


async def test_a_replaced_plan_answers_the_calls_that_wait(laboratory: Laboratory) -> None:
    first = await laboratory.service([WAT / "right_p.wat", WAT / "through.wat"], GuestLimits())
    second = await laboratory.service([WAT / "right_p.wat", WAT / "wrapper.wat", WAT / "through.wat"], GuestLimits())
    assert await first.call("f", [], seconds=5) == 1
    await first.swap(second.plan)
    assert await first.call("f", [], seconds=5) == 11


QUOTA = 256 * 1024


def taken(service: RunningService) -> int:
    assert service.plan.state is not None
    return sum(path.stat().st_size for path in service.plan.state.iterdir())


async def test_calls_in_a_row_take_no_more_than_the_quota_until_files_are_deleted(laboratory: Laboratory) -> None:
    limits = GuestLimits(disk_bytes=QUOTA)
    service = await laboratory.service([WAT / "fill.wat"], limits, wasi=True, has_state=True)
    state = service.plan.state
    assert state is not None
    reasons = []
    for name in b"abcdefgh":
        with pytest.raises(GuestError) as error:
            await service.call("fill", [name, QUOTA // 4096 + 1], seconds=5)
        assert error.value.kind is FailureKind.QUOTA
        reasons.append(error.value.reason)
    assert taken(service) == QUOTA + 4096
    assert "would take more than 262,144 bytes" in reasons[0]
    assert (
        f"takes 266,240 bytes, of which it may have 262,144: nothing can be added until the service, or the peer's owner in {state.parent.parent.name}"
        in reasons[1]
    )
    (state / "a").unlink()
    assert await service.call("fill", [ord("b"), 3], seconds=5) == 3
    assert taken(service) == 3 * 4096
    assert service.restarts == 0
    await service.close()


async def test_what_cannot_be_done_now_is_refused_as_it_is_also_within_a_quota(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise EffectorError(Status.BUSY, "no place for a process")

    for most in (QUOTA, -1):
        with pytest.raises(EffectorError, match=r"no place for a process$"):
            await within_quota(tmp_path, most, refuse)


DELETES = (
    (
        '(export "[method]descriptor.write-via-stream"',
        '(export "[method]descriptor.unlink-file-at" (func (param "self" (borrow $d)) (param "path" string) (result (result (error $error-code)))))',
    ),
    (
        "(core func $via",
        '(core func $unlink (canon lower (func $fs "[method]descriptor.unlink-file-at") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))',
    ),
    (
        '(import "h" "via"',
        '(import "h" "unlink" (func $unlink (param i32 i32 i32 i32)))',
    ),
    (
        '(func (export "fill") (param $name',
        """(func (export "delete") (param i32)
            (i32.store8 (i32.const 64) (local.get 0)) (call $dirs (i32.const 0))
            (call $unlink (i32.load (i32.load (i32.const 0))) (i32.const 64) (i32.const 1) (i32.const 16))
            (if (i32.load8_u (i32.const 16)) (then unreachable)))""",
    ),
    ('(export "via" (func $via))', '(export "unlink" (func $unlink))'),
    (
        '(func (export "fill") (param "name"',
        '(func (export "delete") (param "name" u32) (canon lift (core func $i "delete")))',
    ),
)
"""What makes the service that fills files one that deletes some, too: before which text comes what."""


async def test_a_full_service_adds_nothing_and_can_write_over_and_delete(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    text, path = (WAT / "fill.wat").read_text(), tmp_path / "deleting.wat"
    for before, new in DELETES:
        text = text.replace(before, f"{new} {before}")
    path.write_text(text)
    service = await laboratory.service([path], GuestLimits(disk_bytes=QUOTA), wasi=True, has_state=True)
    assert service.plan.state is not None
    for name in "ab":
        (service.plan.state / name).write_bytes(bytes(QUOTA))
    assert await service.call("fill", [ord("a"), 2], seconds=5) == 2
    for name, blocks in (("a", QUOTA // 4096 + 1), ("c", 1), ("d", 0)):
        with pytest.raises(GuestError, match="takes 524,288 bytes, of which it may have 262,144: nothing can be added"):
            await service.call("fill", [ord(name), blocks], seconds=5)
        assert taken(service) == 2 * QUOTA
        assert {path.name for path in service.plan.state.iterdir()} == {"a", "b"}
    await service.call("delete", [ord("b")], seconds=5)
    assert await service.call("fill", [ord("a"), 2], seconds=5) == 2
    await service.close()


async def test_a_state_directory_of_countless_files_is_for_its_owner_to_tidy(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluvial_fce_wasm.quota.SPARE_BYTES", 10 * FILE_BYTES)
    service = await laboratory.service([WAT / "fill.wat"], GuestLimits(disk_bytes=0), wasi=True, has_state=True)
    assert service.plan.state is not None
    for number in range(11):
        (service.plan.state / f"empty {number}").touch()
    with pytest.raises(GuestError, match="in 11 files and folders: the peer's owner must delete some in ") as error:
        await service.call("fill", [ord("a"), 0], seconds=5)
    assert error.value.kind is FailureKind.QUOTA
    await service.close()


async def test_what_a_guest_writes_while_it_starts_counts(laboratory: Laboratory, tmp_path: Path) -> None:
    text = (WAT / "fill.wat").read_text().replace('(func (export "fill")', '(func $fill (export "fill")')
    boot = "(func $boot (drop (call $fill (i32.const 97) (i32.const 65)))) (start $boot)"
    path = tmp_path / "boot.wat"
    path.write_text(text.replace('(data (i32.const 64) "a")', f'{boot} (data (i32.const 64) "a")'))
    with pytest.raises(GuestError, match="would take more than 262,144 bytes") as error:
        await laboratory.service([path], GuestLimits(disk_bytes=QUOTA), wasi=True, has_state=True)
    assert error.value.kind is FailureKind.QUOTA
