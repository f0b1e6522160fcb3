"""Who comes last has the next turn, and nobody's turn is lost."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup
from fluvial.testing.transport import eventually
from fluvial_transport_tcp.newest_first import NewestFirst


class Thread:
    """A thread whose first caller holds it until it is told to go on, and others that wait for it."""

    def __init__(self, group: TaskGroup) -> None:
        self.thread = NewestFirst()
        self.done: list[int] = []
        self.go_on = threading.Event()
        self.scopes: list[anyio.CancelScope] = []
        self._group = group

    async def come(self, count: int) -> None:
        for number in range(count):
            self.scopes.append(anyio.CancelScope())
            self._group.start_soon(self._call, number)
            await anyio.sleep(0.001)

    async def _call(self, number: int) -> None:
        with self.scopes[number]:
            await self.thread.call(lambda: self._work(number))

    def _work(self, number: int) -> None:
        if not number:
            self.go_on.wait(10)
        self.done.append(number)


@asynccontextmanager
async def held() -> AsyncIterator[Thread]:
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            thread = Thread(group)
            try:
                yield thread
            finally:
                thread.go_on.set()


async def test_the_last_one_is_next() -> None:
    async with held() as thread:
        await thread.come(4)
        thread.go_on.set()
    assert thread.done == [0, 3, 2, 1]


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_who_gives_up_waiting_takes_nobodys_turn(number: int) -> None:
    async with held() as thread:
        await thread.come(4)
        thread.scopes[number].cancel()
        thread.go_on.set()
    assert thread.done == [one for one in (0, 3, 2, 1) if one != number]


async def test_who_gives_up_leaves_its_work_to_the_thread() -> None:
    async with held() as thread:
        await thread.come(3)
        thread.scopes[0].cancel()
        await eventually(lambda: thread.done == [2, 1], "the others do not wait for it")
    async with held() as free:
        free.go_on.set()
        await free.come(2)
    assert free.done == [0, 1]


async def test_what_is_raised_is_the_callers_and_the_next_has_its_turn() -> None:
    thread = NewestFirst()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await thread.call(lambda: 1 // 0)
    assert await thread.call(lambda: 1) == 1
