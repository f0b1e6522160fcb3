"""A bounded amount is shared in the order of asking, and nothing of it is lost."""

from __future__ import annotations

import anyio
import pytest
from fluvial_transport_tcp.allowance import Allowance, AllowanceClosed

TURN = 0.01


async def test_who_asks_first_gets_first_even_if_less_would_do_for_another() -> None:
    allowance, order = Allowance(10), list[str]()

    async def take(name: str, amount: int) -> None:
        await allowance.take(amount)
        order.append(name)

    await allowance.take(8)
    async with anyio.create_task_group() as group:
        group.start_soon(take, "large", 6)
        await anyio.sleep(TURN)
        group.start_soon(take, "small", 1)
        await anyio.sleep(TURN)
        assert order == []
        allowance.give(5)
    assert order == ["large", "small"]


async def test_a_cancelled_wait_takes_nothing_and_lets_others_go_on() -> None:
    allowance, got = Allowance(10), list[int]()
    await allowance.take(5)

    async def take(amount: int) -> None:
        await allowance.take(amount)
        got.append(amount)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(TURN):
            group.start_soon(take, 3)
            await allowance.take(9)
        await anyio.sleep(TURN)
    allowance.give(8)
    assert got == [3]
    assert allowance.free(10)


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_wait_that_is_cancelled_as_it_is_granted_takes_or_gives_back(cancel_first: bool) -> None:
    allowance, taken = Allowance(1), list[int]()
    await allowance.take(1)

    async def take() -> None:
        await allowance.take(1)
        taken.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.sleep(TURN)
        if cancel_first:
            group.cancel_scope.cancel()
        allowance.give(1)
        group.cancel_scope.cancel()
    assert allowance.free(1) == (not taken)


async def test_more_than_there_ever_is_is_granted_when_all_is_left() -> None:
    allowance = Allowance(10)
    await allowance.take(25)
    assert not allowance.free(1)
    allowance.give(25)
    assert allowance.free(10)


async def test_when_it_is_closed_nobody_waits_any_more() -> None:
    allowance = Allowance(1)
    await allowance.take(1)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(AllowanceClosed):
                await allowance.take(1)

        group.start_soon(wait)
        await anyio.sleep(TURN)
        allowance.close()
    with pytest.raises(AllowanceClosed):
        await allowance.take(1)
