"""Work in slices beside everything else that a peer does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import anyio
from fluvial.light_tasks import LightTasks
from fluvial.particles.turns import TURN_S, SlicedChores

from tests.support.nodes import until


async def test_chores_are_done_one_after_another_in_one_task() -> None:
    """With a slice of each of hundreds in every round of the loop a round would take long."""
    done: list[int] = []

    def chore(number: int) -> Iterator[None]:
        for _ in range(3):
            done.append(number)
            yield

    async with anyio.create_task_group() as tasks:
        light = LightTasks()
        await tasks.start(light.run)
        chores = SlicedChores(light)
        for number in range(100):
            chores.put(chore(number))
        await until(lambda: len(done) == 300)
        chores.put(chore(100))
        await until(lambda: len(done) == 303)
        tasks.cancel_scope.cancel()
    assert done == sorted(done)


async def test_a_chore_that_comes_when_the_last_one_has_just_ended_is_done_once() -> None:
    done: list[int] = []

    def chore(number: int) -> Iterator[None]:
        for _ in range(2):
            time.sleep(TURN_S)  # others have a turn after it
            yield
        time.sleep(TURN_S)
        done.append(number)
        if number < 9:
            asyncio.get_running_loop().call_soon(chores.put, chore(number + 1))

    async with anyio.create_task_group() as tasks:
        light = LightTasks()
        await tasks.start(light.run)
        chores = SlicedChores(light)
        chores.put(chore(0))
        await until(lambda: len(done) == 10)
        await anyio.sleep(2 * TURN_S)
        tasks.cancel_scope.cancel()
    assert done == list(range(10))
