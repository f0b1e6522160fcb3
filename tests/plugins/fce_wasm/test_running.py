"""Services without a peer: many calls, on both levels; fuel; quota; the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError, UnknownFunction
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.limits import GuestLimits
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
    assert results == list(range(1, 51))


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
