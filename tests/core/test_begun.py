"""Work whose first stretch is made at once is the same work: one task, one context, and its caller is protected from it."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar

import anyio
import anyio.lowlevel
import pytest
from fluvial.begun import shielded
from fluvial.guard.detached import Detached
from fluvial.guard.guard import PluginFailed
from fluvial.guard.stand_in import StandIns

from tests.core.test_guard import OUTBURSTS
from tests.support.services import make_guard

NAME: ContextVar[str] = ContextVar("NAME", default="nobody")


async def turns_of_the_loop(counted: list[int]) -> None:
    while True:
        counted.append(1)
        await anyio.lowlevel.checkpoint()


async def test_what_waits_for_nothing_is_over_at_once() -> None:
    async def work() -> str:
        return "tea"

    counted: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turns_of_the_loop, counted)
        await anyio.lowlevel.checkpoint()
        before = len(counted)
        assert await make_guard().call("teapot", "tea.brew", work, at_once=True) == "tea"
        assert len(counted) == before
        tasks.cancel_scope.cancel()


async def test_all_stretches_are_in_one_task_which_is_not_the_callers() -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.append(asyncio.current_task())
        await anyio.lowlevel.checkpoint()
        seen.append(asyncio.current_task())
        await anyio.sleep(0.001)
        seen.append(asyncio.current_task())

    caller = asyncio.current_task()
    await make_guard().call("teapot", "tea.brew", work, at_once=True)
    assert len(set(seen)) == 1
    assert seen[0] is not caller
    assert asyncio.current_task() is caller


async def test_what_it_sets_in_its_context_stays_there() -> None:
    async def work() -> list[str]:
        NAME.set("tea")
        first = NAME.get()
        await anyio.lowlevel.checkpoint()
        return [first, NAME.get()]

    assert await make_guard().call("teapot", "tea.brew", work, at_once=True) == ["tea", "tea"]
    assert NAME.get() == "nobody"


async def test_what_it_leaves_in_its_context_or_its_task_is_not_met_by_the_next() -> None:
    guard = make_guard()

    async def leave_word() -> None:
        NAME.set("tea")

    async def end_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def ask() -> str:
        await anyio.lowlevel.checkpoint()
        return NAME.get()

    for work in (leave_word, end_itself):
        await guard.call("teapot", "tea.brew", work, at_once=True)
        assert await guard.call("teapot", "tea.brew", ask, at_once=True) == "nobody"


async def test_it_may_begin_more_of_the_kind() -> None:
    guard, tasks = make_guard(), list[object]()

    async def inner() -> str:
        tasks.append(asyncio.current_task())
        await anyio.lowlevel.checkpoint()
        return "tea"

    async def outer() -> str:
        tasks.append(asyncio.current_task())
        return await guard.call("teapot", "tea.pour", inner, at_once=True)

    for _ in range(2):
        assert await guard.call("teapot", "tea.brew", outer, at_once=True) == "tea"
    assert len(set(tasks)) == 4


async def test_no_task_stands_by_where_no_call_is_to_come() -> None:
    async def work() -> None: ...

    before, guard = asyncio.all_tasks(), make_guard()
    await guard.call("teapot", "tea.brew", work, at_once=True)
    guard.close()
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert asyncio.all_tasks() == before


async def test_scopes_and_groups_that_it_opens_before_it_waits_hold() -> None:
    async def work() -> list[bool]:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 0)
        return [scope.cancelled_caught]

    assert await make_guard().call("teapot", "tea.brew", work, at_once=True) == [True]


async def test_it_waits_for_what_it_has_begun_to_wait_for() -> None:
    """A result that is there before its task has its first turn."""
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        return await answer

    task = Detached(work, "tea", at_once=StandIns())
    answer.set_result("tea")
    assert not task.over
    assert await task.wait(5)
    assert task.result == "tea"


@pytest.mark.parametrize("turns", [0, 3])
async def test_it_is_asked_to_end_where_it_waits(turns: int) -> None:
    notes: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            notes.append("cleaned up")

    task = Detached(work, "tea", at_once=StandIns())
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    assert await task.end(5)
    assert notes == ["cleaned up"]


@pytest.mark.parametrize("make", OUTBURSTS.values(), ids=OUTBURSTS)
async def test_what_comes_out_of_the_first_stretch_costs_the_call(make: object) -> None:
    async def work() -> None:
        raise make()  # type: ignore[operator]

    caller = asyncio.current_task()
    with pytest.raises(PluginFailed):
        await make_guard().call("teapot", "tea.brew", work, at_once=True)
    assert asyncio.current_task() is caller
    await anyio.lowlevel.checkpoint()


async def test_what_ignores_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.guard.guard.ENDING_S", 0.02)
    over = anyio.Event()

    async def stubborn() -> None:
        while not over.is_set():
            with contextlib.suppress(BaseException):
                await over.wait()

    with anyio.fail_after(5), pytest.raises(PluginFailed):
        await make_guard().call("teapot", "tea.brew", stubborn, timeout_s=0.01, at_once=True)
    over.set()
    await anyio.lowlevel.checkpoint()


async def test_a_shielded_wait_outlives_the_cancellation_of_its_caller() -> None:
    written: list[str] = []

    async def write() -> str:
        written.append("begun")
        await anyio.sleep(0.01)
        written.append("done")
        return "tea"

    with anyio.CancelScope() as scope:
        scope.cancel()
        assert await shielded(write()) == "tea"
    assert written == ["begun", "done"]


async def test_a_shielded_turn_is_not_left_out() -> None:
    async def write() -> None:
        await anyio.lowlevel.checkpoint()

    counted: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turns_of_the_loop, counted)
        await anyio.lowlevel.checkpoint()
        before = len(counted)
        await shielded(write())
        assert len(counted) == before + 1
        tasks.cancel_scope.cancel()
