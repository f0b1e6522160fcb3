"""Work in slices beside everything else that a peer does."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
from fluvial.light_tasks import LightTasks
from fluvial.particles.turns import SlicedChores

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
