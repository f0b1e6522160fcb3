"""A gate for bytes: so many at one time, in a fair order, and what is too large alone."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particles.delivery.byte_gate import ByteGate

from tests.support.nodes import id_of

ALICE, BOB = id_of("alice"), id_of("bob")


async def waiting(
    gate: ByteGate, size: int, through: list[int], tasks: anyio.abc.TaskGroup, *, by: PeerId = ALICE
) -> None:
    async def go() -> None:
        await gate.enter(size, Upstream(by), by)
        through.append(size)

    tasks.start_soon(go)
    await settled()


async def settled() -> None:
    for _ in range(5):
        await checkpoint()


async def test_as_many_bytes_as_fit_are_let_through_in_order() -> None:
    gate, through = ByteGate(10), list[int]()
    async with anyio.create_task_group() as tasks:
        for size in (6, 4, 5, 1, 2):
            await waiting(gate, size, through, tasks)
        assert through == [6, 4]
        gate.leave(4)
        await settled()
        assert through == [6, 4], "5 bytes are before 1"
        gate.leave(6)
        await settled()
        assert through == [6, 4, 5, 1, 2]


async def test_who_comes_after_hundreds_of_one_other_is_among_the_next() -> None:
    gate, through = ByteGate(10), list[int]()
    async with anyio.create_task_group() as tasks:
        await gate.enter(10, Upstream(ALICE), ALICE)
        for _ in range(300):
            await waiting(gate, 10, [], tasks)
        await waiting(gate, 9, through, tasks, by=BOB)
        for _ in range(3):
            gate.leave(10)
            await settled()
        assert through == [9]
        tasks.cancel_scope.cancel()


async def test_what_is_larger_goes_alone() -> None:
    gate, through = ByteGate(10), list[int]()
    async with anyio.create_task_group() as tasks:
        for size in (1, 50, 1):
            await waiting(gate, size, through, tasks)
        assert through == [1]
        gate.leave(1)
        await settled()
        assert through == [1, 50]
        gate.leave(50)
        await settled()
        assert through == [1, 50, 1]


@pytest.mark.parametrize("too_late", [False, True])
async def test_who_gives_up_keeps_nobody_waiting(too_late: bool) -> None:
    gate, through = ByteGate(10), list[int]()
    async with anyio.create_task_group() as tasks:
        await gate.enter(10, Upstream(ALICE), ALICE)
        first = list[int]()
        async with anyio.create_task_group() as giving_up:
            await waiting(gate, 10, first, giving_up)
            await waiting(gate, 3, through, tasks)
            if too_late:
                gate.leave(10)
            giving_up.cancel_scope.cancel()
        if first or not too_late:
            gate.leave(10)
        await settled()
        assert through == [3]
        await gate.enter(7, Upstream(ALICE), ALICE)
