"""The window of bytes: fair, and nothing of it is lost with those who give up waiting."""

from __future__ import annotations

import anyio
import pytest
from fluvial.memory.window import ByteWindow, WindowClosed
from fluvial.virtual.loop import BACKEND


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


async def test_small_amounts_do_not_overtake_large_ones() -> None:
    window, order = ByteWindow(10), []

    async def take(amount: int) -> None:
        await window.take(amount)
        order.append(amount)

    await window.take(8)
    async with anyio.create_task_group() as group:
        for amount in (9, 1):
            group.start_soon(take, amount)
        await anyio.sleep(1)
        assert order == []
        window.give(8)
    assert order == [9, 1]


@pytest.mark.parametrize("freed_first", [False, True])
async def test_who_gives_up_takes_nothing(freed_first: bool) -> None:
    window = ByteWindow(10)
    await window.take(10)

    async def take_and_give() -> None:
        await window.take(10)
        window.give(10)

    async with anyio.create_task_group() as group:
        group.start_soon(take_and_give)
        await anyio.sleep(1)
        if freed_first:
            window.give(10)
        group.cancel_scope.cancel()
    if not freed_first:
        window.give(10)
    with anyio.fail_after(1):
        await window.take(10)


async def test_one_amount_may_be_larger_than_all() -> None:
    window = ByteWindow(10)
    with anyio.fail_after(1):
        await window.take(25)


async def test_closing_tells_everybody() -> None:
    window = ByteWindow(10)
    await window.take(10)

    async def refused() -> None:
        with pytest.raises(WindowClosed):
            await window.take(1)

    async with anyio.create_task_group() as group:
        group.start_soon(refused)
        await anyio.sleep(1)
        window.close()
    await refused()
