"""A bounded amount is shared in the order of asking, and nothing of it is lost."""

from __future__ import annotations

import anyio
import pytest
from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.waiting import take_credit

TURN = 0.01


async def test_who_asks_first_gets_first_even_if_less_would_do_for_another() -> None:
    window, order = CreditWindow(10), list[str]()

    async def take(name: str, amount: int) -> None:
        await take_credit(window, amount)
        order.append(name)

    await take_credit(window, 8)
    async with anyio.create_task_group() as group:
        group.start_soon(take, "large", 6)
        await anyio.sleep(TURN)
        group.start_soon(take, "small", 1)
        await anyio.sleep(TURN)
        assert order == []
        window.give(5)
    assert order == ["large", "small"]


async def test_a_cancelled_wait_takes_nothing_and_lets_others_go_on() -> None:
    window, got = CreditWindow(10), list[int]()
    await take_credit(window, 5)

    async def take(amount: int) -> None:
        await take_credit(window, amount)
        got.append(amount)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(TURN):
            group.start_soon(take, 3)
            await take_credit(window, 9)
        await anyio.sleep(TURN)
    window.give(8)
    assert got == [3]
    assert window.free(10)


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_wait_that_is_cancelled_as_it_is_granted_takes_or_gives_back(cancel_first: bool) -> None:
    window, taken = CreditWindow(1), list[int]()
    await take_credit(window, 1)

    async def take() -> None:
        await take_credit(window, 1)
        taken.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(take)
        await anyio.sleep(TURN)
        if cancel_first:
            group.cancel_scope.cancel()
        window.give(1)
        group.cancel_scope.cancel()
    assert window.free(1) == (not taken)


async def test_more_than_there_ever_is_is_granted_when_all_is_left() -> None:
    window = CreditWindow(10)
    await take_credit(window, 25)
    assert not window.free(1)
    window.give(25)
    assert window.free(10)


async def test_when_it_is_closed_nobody_waits_any_more() -> None:
    window = CreditWindow(1)
    await take_credit(window, 1)
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(CreditClosed):
                await take_credit(window, 1)

        group.start_soon(wait)
        await anyio.sleep(TURN)
        window.close()
    with pytest.raises(CreditClosed):
        await take_credit(window, 1)
