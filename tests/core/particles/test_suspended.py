"""What waits to go on: who takes long holds up no others, and what was accepted has a place before anything new is let in."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle

import anyio
import pytest
import structlog
from fluvial.air.machine.memory import MACHINE_BYTES
from fluvial.errors import Refused
from fluvial.fairness import Payer, Upstream, equal
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.memory import MemoryBudget
from fluvial.particles.suspended import AT_ONCE, LONG_S, Suspended
from fluvial.virtual.loop import run

from tests.support.nodes import id_of, until

ME, STRANGER, FRIEND, NEAR = id_of("me"), id_of("stranger"), id_of("friend"), id_of("near")


def of(peer: PeerId) -> Payer:
    """Whoever brings its own particles."""
    return Payer(Upstream(peer), peer)


def key_of(number: int) -> ParticleKey:
    return ParticleKey(number.to_bytes(32, "big"))


def made(budget: MemoryBudget, go_on: Callable[[ParticleKey], object]) -> Suspended:
    async def going_on(key: ParticleKey) -> None:
        result = go_on(key)
        if isinstance(result, anyio.Event):
            await result.wait()

    return Suspended(going_on, lambda held: True, lambda peer: peer == NEAR, budget=budget, log=structlog.get_logger())


async def test_flows_that_take_long_hold_up_no_others() -> None:
    gone_on: list[ParticleKey] = []
    never = anyio.Event()

    def go_on(key: ParticleKey) -> object:
        gone_on.append(key)
        return None if key == key_of(99) else never

    suspended = made(MemoryBudget(10**9, weight=equal, me=ME), go_on)
    for number in range(AT_ONCE + 2):
        suspended.put(key_of(number), of(STRANGER))
    suspended.put(key_of(99), of(FRIEND))
    for number in range(AT_ONCE + 2, AT_ONCE + 6):
        suspended.put(key_of(number), of(STRANGER))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: key_of(99) in gone_on and len(gone_on) >= 2 * AT_ONCE)
        tasks.cancel_scope.cancel()


async def test_what_waits_has_a_place_that_newcomers_do_not_get() -> None:
    budget = MemoryBudget(40 * MACHINE_BYTES, weight=equal, me=ME)
    suspended = made(budget, lambda key: None)
    for number in range(36):
        suspended.put(key_of(number), of(STRANGER))
    assert budget.total == 36 * MACHINE_BYTES
    with pytest.raises(Refused, match="memory"):
        budget.check(of(STRANGER), MACHINE_BYTES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert budget.total == 0
    budget.check(of(STRANGER), MACHINE_BYTES)


def test_who_is_stopped_for_want_of_memory_again_and_again_holds_up_nobody_else() -> None:
    gone_on: list[ParticleKey] = []

    async def go_on(key: ParticleKey) -> None:
        gone_on.append(key)
        if key != key_of(99):
            await anyio.sleep(LONG_S * (2 + int.from_bytes(key, "big")))  # so that one is stopped every now and then
            suspended.put_back(key, of(STRANGER), MACHINE_BYTES)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspended.run)
            for number in range(20):
                suspended.put(key_of(number), of(STRANGER))
            await anyio.sleep(5)
            suspended.put(key_of(99), of(FRIEND))
            await anyio.sleep(2 * LONG_S)
            assert key_of(99) in gone_on
            await anyio.sleep(60)
            assert len(gone_on) > 21, "those that were stopped are tried again"
            tasks.cancel_scope.cancel()

    budget = MemoryBudget(10**9, weight=equal, me=ME)
    suspended = Suspended(go_on, lambda held: True, lambda peer: False, budget=budget, log=structlog.get_logger())
    run(main)


@pytest.mark.parametrize("friend", [FRIEND, NEAR])
async def test_initiators_that_are_connected_have_every_second_turn(friend: PeerId) -> None:
    """Whether they come when theirs is in line, or are there already."""
    gone_on: list[ParticleKey] = []
    suspended = made(MemoryBudget(10**9, weight=equal, me=ME), gone_on.append)
    for number in range(100):
        suspended.put(key_of(number), of(id_of(f"name {number}")))
    mine = [key_of(number) for number in (200, 201, 202)]
    for key in mine:
        suspended.put(key, of(friend))
    if friend == FRIEND:
        suspended.prefer(FRIEND)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert set(mine) <= set(gone_on[:6])


def test_after_a_pause_those_who_are_connected_have_every_second_turn_again() -> None:
    gone_on: list[ParticleKey] = []

    async def go_on(key: ParticleKey) -> None:
        gone_on.append(key)
        await anyio.sleep(AT_ONCE / 40)

    async def main() -> None:
        budget = MemoryBudget(10**9, weight=equal, me=ME)
        suspended = Suspended(
            go_on, lambda held: True, lambda peer: peer == NEAR, budget=budget, log=structlog.get_logger()
        )
        for number in range(300):
            suspended.put(key_of(number), of(id_of(f"name {number}")))
        suspended.put_back(key_of(300), of(NEAR), 0)  # for a second, in which 40 others go on
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspended.run)
            await anyio.sleep(2)
            tasks.cancel_scope.cancel()
        assert key_of(300) in gone_on
        assert len(gone_on) < 100

    run(main)


def test_those_who_are_connected_get_every_second_place_that_comes_free() -> None:
    gone_on: list[ParticleKey] = []

    async def go_on(key: ParticleKey) -> None:
        gone_on.append(key)

    async def main() -> None:
        free = cycle([True, *[False] * 19])
        suspended = Suspended(
            go_on,
            lambda held: next(free),
            lambda peer: peer == NEAR,
            budget=MemoryBudget(10**9, weight=equal, me=ME),
            log=structlog.get_logger(),
        )
        for number in range(300):
            suspended.put(key_of(number), of(id_of(f"name {number}")))
        mine = [key_of(number) for number in range(300, 310)]
        for key in mine:
            suspended.put(key, of(NEAR))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspended.run)
            await anyio.sleep(20)
            tasks.cancel_scope.cancel()
        assert len(gone_on) > 40
        assert [key for key in gone_on[:30] if key in mine] == mine

    run(main)


async def test_after_a_restart_the_newest_of_each_initiator_is_first() -> None:
    gone_on: list[ParticleKey] = []
    suspended = made(MemoryBudget(10**9, weight=equal, me=ME), gone_on.append)
    suspended.put_all({key_of(number): of(FRIEND if number < 3 else STRANGER) for number in range(6)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert gone_on == [key_of(number) for number in (2, 5, 1, 4, 0, 3)]
