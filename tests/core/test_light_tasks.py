"""Light tasks owe what a task group does: their owner waits for all, an error in one ends all, what is shielded comes to its end."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from fluvial.light_tasks import LightTasks


class Sleeper:
    """Work that waits, and notes how it ended."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def sleep(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.seen.append("ended")

    async def finish(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
            self.seen.append("finished")
        await anyio.lowlevel.checkpoint()
        self.seen.append("went on")


async def test_they_run_in_the_next_turn_of_the_loop_in_their_order() -> None:
    seen: list[int] = []

    async def work(number: int) -> None:
        seen.append(number)

    light = LightTasks()
    async with anyio.create_task_group() as tasks:
        await tasks.start(light.run)
        for number in range(3):
            light.start(work(number))
        assert not seen
        await anyio.lowlevel.checkpoint()
        assert seen == [0, 1, 2]
        tasks.cancel_scope.cancel()


async def test_their_owner_ends_them_and_waits_for_what_is_shielded() -> None:
    light, sleeper = LightTasks(), Sleeper()
    async with anyio.create_task_group() as tasks:
        await tasks.start(light.run)
        light.start(sleeper.sleep())
        light.start(sleeper.finish())
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert sorted(sleeper.seen) == ["ended", "finished"]


class Unusual(BaseException):
    """No Exception, such as what a time limit of a test raises."""


@pytest.mark.parametrize("error", [ZeroDivisionError, Unusual])
async def test_one_that_fails_ends_the_others_and_its_owner_raises_its_error(error: type[BaseException]) -> None:
    light, sleeper = LightTasks(), Sleeper()

    async def fail() -> None:
        raise error

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(light.run)
            light.start(sleeper.sleep())
            light.start(fail())

    with pytest.raises(BaseExceptionGroup) as raised:
        await both()
    assert raised.group_contains(error)
    assert sleeper.seen == ["ended"]


async def test_one_is_ended_by_its_scope_and_the_others_go_on() -> None:
    light, first, second = LightTasks(), Sleeper(), Sleeper()
    async with anyio.create_task_group() as tasks:
        await tasks.start(light.run)
        light.start(first.sleep(), scope := anyio.CancelScope())
        light.start(second.sleep())
        await anyio.lowlevel.checkpoint()
        scope.cancel()
        await anyio.sleep(0.001)
        assert (first.seen, second.seen) == (["ended"], [])
        tasks.cancel_scope.cancel()
    assert second.seen == ["ended"]


async def test_what_comes_after_the_end_is_not_begun() -> None:
    light, sleeper = LightTasks(), Sleeper()

    async def begin_another() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            light.start(sleeper.finish())

    async with anyio.create_task_group() as tasks:
        await tasks.start(light.run)
        light.start(begin_another())
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert sleeper.seen == []
