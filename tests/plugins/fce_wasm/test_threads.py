"""Calls in threads and inline: the ways they take, that results do not depend on them, and how long the event loop is held."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.threads import PROVEN_CALLS, SKIPS_MAX, GuestCall, GuestThreads, Pace, is_small
from fluvial_fce_wasm.turns import Turn
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.fce_wasm.deploying import WAT

MOODY = """(component
  (core module $m (func (export "work") (param i32) (result i32)
    (loop $again (br_if $again (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0))))
    (i32.const 7))
    (func (export "spin") (param i32) (result i32) (loop $for_ever (br_if $for_ever (local.get 0))) (i32.const 7)))
  (core instance $i (instantiate $m))
  (func (export "work") (param "turns" s32) (result s32) (canon lift (core func $i "work")))
  (func (export "spin") (param "ever" s32) (result s32) (canon lift (core func $i "spin"))))"""
"""Short or long, as the caller wants."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CodeCache:
    return CodeCache(tmp_path_factory.mktemp("code"))


@pytest.fixture
async def moody(cache: CodeCache, tmp_path: Path) -> AsyncIterator[RunningService]:
    path = tmp_path / "moody.wat"
    path.write_text(MOODY)
    service = await Laboratory(cache, tmp_path).service([path], GuestLimits(call_s=1), stateless=True)
    yield service
    await service.close()


async def proven(service: RunningService, function: str) -> None:
    """Call it until it is known to be short; on a busy machine some calls are not over in time."""
    for _ in range(4 * SKIPS_MAX):
        assert await service.call(function, [0], seconds=5) == 7
        if service.is_inline(function):
            return
    pytest.fail("no function is ever short here")


async def test_a_proven_function_that_becomes_long_is_made_again_in_a_thread(moody: RunningService) -> None:
    await proven(moody, "work")
    assert await moody.call("work", [300_000_000], seconds=5) == 7
    assert not moody.is_inline("work")
    assert moody.restarts == 0
    await proven(moody, "work")


async def test_a_proven_function_that_never_ends_holds_the_loop_for_a_moment_only(moody: RunningService) -> None:
    await proven(moody, "spin")
    turns = 0
    ended = False

    async def count() -> None:
        nonlocal turns
        while not ended:
            turns += 1
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        with pytest.raises(GuestError) as error:
            await moody.call("spin", [1], seconds=5)
        ended = True
    assert error.value.kind is FailureKind.TIMEOUT
    assert turns > 10, "the event loop went on during the second that the call took"
    assert await moody.call("spin", [0], seconds=5) == 7


async def test_services_that_keep_something_are_never_called_inline(cache: CodeCache, tmp_path: Path) -> None:
    service = await Laboratory(cache, tmp_path).service([WAT / "kit_env.wat", WAT / "kit.wat"], GuestLimits())
    for number in range(5 * PROVEN_CALLS):
        assert await service.call("bump", [1], seconds=5) == number + 1
    assert not service.is_inline("bump")
    await service.close()


def test_only_scalars_and_short_texts_are_small() -> None:
    assert is_small([1, 2.5, True, None, "x" * 1_000])
    for large in ("x" * 100_000, [1], {"a": 1}):
        assert not is_small([1, large])


@given(st.lists(st.booleans(), max_size=200))
def test_what_is_late_again_and_again_is_waited_for_ever_less(outcomes: list[bool]) -> None:
    pace, skipped, late = Pace(), 0, 0
    for is_short in outcomes:
        if not pace.patience_s("f"):
            skipped += 1
        elif is_short:
            pace.was_short("f")
        else:
            pace.was_late("f")
            late += 1
            assert not pace.is_proven("f")
    assert late <= 1 + skipped // 4 + 1
    assert pace.is_proven("f") <= (outcomes.count(True) >= PROVEN_CALLS)
    assert pace.patience_s("g")


async def test_many_calls_at_once_take_as_many_threads_and_all_end() -> None:
    threads, pace, results = GuestThreads(), Pace(), []

    async def one(number: int) -> None:
        def work() -> int:
            time.sleep(0.01)
            return number

        results.append(await threads.run(GuestCall(work, lambda: None), pace, "f"))

    async with anyio.create_task_group() as group:
        for number in range(100):  # more than there are threads
            group.start_soon(one, number)
    assert sorted(results) == list(range(100))


async def test_an_error_is_raised_where_it_is_waited_for_and_the_thread_goes_on() -> None:
    threads, pace = GuestThreads(), Pace()

    def fails() -> None:
        raise KeyError("x")

    for work in (fails, lambda: (time.sleep(0.01), fails())):
        with pytest.raises(KeyError):
            await threads.run(GuestCall(work, lambda: None), pace, "f")
    assert await threads.run(GuestCall(lambda: 1, lambda: None), pace, "f") == 1


async def test_who_is_cancelled_waits_for_the_end_of_the_work() -> None:
    threads, may_end, ended = GuestThreads(), threading.Event(), []

    def work() -> None:
        may_end.wait()
        ended.append(True)

    with anyio.move_on_after(0.05) as scope:
        await threads.run(GuestCall(work, may_end.set), Pace(), "f")
    assert scope.cancelled_caught
    assert ended


@given(st.lists(st.sampled_from(["take", "cancel", "give"]), max_size=30))
def test_a_turn_is_had_by_one_at_a_time_in_the_order_of_asking(steps: list[str]) -> None:
    async def play() -> None:
        turn, had, scopes = Turn(), [], {}
        asked: list[int] = []

        async def take(number: int) -> None:
            with anyio.CancelScope() as scope:
                scopes[number] = scope
                await turn.take()
                had.append(number)
            if scope.cancelled_caught:
                asked.remove(number)

        async with anyio.create_task_group() as group:
            for number, step in enumerate(steps):
                if step == "take":
                    asked.append(number)
                    group.start_soon(take, number)
                elif step == "cancel" and (waiting := [one for one in asked if one not in had]):
                    scopes[waiting[-1]].cancel()
                elif step == "give" and turn.is_taken:
                    turn.give()
                await anyio.wait_all_tasks_blocked()
            while turn.is_taken:
                turn.give()
                await anyio.wait_all_tasks_blocked()
        assert had == asked

    anyio.run(play)


def test_nothing_is_kept_of_calls_that_are_over() -> None:
    """The threads of a loop that has ended do not hold what they have worked on."""

    async def play() -> Any:
        import weakref

        class Something:
            pass

        thing = Something()
        threads = GuestThreads()
        await threads.run(GuestCall(lambda thing=thing: None, lambda: None), Pace(), "f")
        return weakref.ref(thing)

    assert anyio.run(play)() is None
