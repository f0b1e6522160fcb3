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
from fluvial.particles.present import PresentActors
from fluvial.particles.relief import MemoryRelief
from fluvial.particles.resting import RestingActors
from fluvial.particles.scripts import Scripts
from fluvial.particles.suspended import AT_ONCE, LONG_S, PAUSE_STOPPED_S, Suspended
from fluvial.virtual.loop import run
from prometheus_client import CollectorRegistry

from tests.support.nodes import id_of, until

ME, STRANGER, FRIEND, NEAR = id_of("me"), id_of("stranger"), id_of("friend"), id_of("near")


def of(peer: PeerId) -> Payer:
    """Whoever brings its own particles."""
    return Payer(Upstream(peer), peer)


def key_of(number: int) -> ParticleKey:
    return ParticleKey(number.to_bytes(32, "big"))


def never(actor: object) -> None:
    raise AssertionError("nothing is in memory")


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
    with pytest.raises(Refused, match="memory"):
        budget.check(of(STRANGER), MACHINE_BYTES)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert budget.total == 0
    budget.check(of(STRANGER), MACHINE_BYTES)


async def test_more_than_the_memory_has_places_for_go_on_one_after_another() -> None:
    """What is promised to those in line is not in use: after a restart there may be more of them than there is room for."""
    gone_on: list[ParticleKey] = []
    budget = MemoryBudget(40 * MACHINE_BYTES, weight=equal, me=ME)
    relief = MemoryRelief(
        budget,
        PresentActors(),
        RestingActors(),
        Scripts(budget),
        leave=never,
        put_off=never,
        metrics=CollectorRegistry(),
    )

    async def go_on(key: ParticleKey) -> None:
        gone_on.append(key)

    suspended = Suspended(go_on, relief.has_room, lambda peer: False, budget=budget, log=structlog.get_logger())
    await suspended.put_all({key_of(number): (id_of(f"name {number}"), STRANGER) for number in range(100)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: len(gone_on) == 100)
        tasks.cancel_scope.cancel()


def test_a_pause_costs_the_same_however_many_are_in_line() -> None:
    """One of an initiator's flows is stopped again and again, and thousands of its others are in line."""
    asked: list[PeerId] = []
    gone_on: list[ParticleKey] = []

    def is_connected(peer: PeerId) -> bool:
        asked.append(peer)
        return False

    async def go_on(key: ParticleKey) -> None:
        gone_on.append(key)

    async def main() -> None:
        budget = MemoryBudget(10**9, weight=equal, me=ME)
        suspended = Suspended(go_on, lambda held: True, is_connected, budget=budget, log=structlog.get_logger())
        for number in range(1_000):
            suspended.put(key_of(number), of(STRANGER))
        suspended.put_back(key_of(1_000), of(STRANGER), MACHINE_BYTES)
        suspended.put(key_of(1_001), of(STRANGER))
        asked.clear()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspended.run)
            await anyio.sleep(PAUSE_STOPPED_S / 2)
            assert not gone_on
            await anyio.sleep(PAUSE_STOPPED_S)
            tasks.cancel_scope.cancel()
        assert gone_on == [key_of(number) for number in range(1_002)]
        assert asked == [STRANGER]

    run(main)


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
    await suspended.put_all({key_of(number): 2 * (FRIEND if number < 3 else STRANGER,) for number in range(6)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert gone_on == [key_of(number) for number in (2, 5, 1, 4, 0, 3)]


async def test_after_a_restart_who_came_before_a_crowd_and_who_came_last_wait_for_none_between() -> None:
    gone_on: list[ParticleKey] = []
    suspended = made(MemoryBudget(10**9, weight=equal, me=ME), gone_on.append)
    live = {key_of(number): (id_of(f"name {number}"), STRANGER) for number in range(100)}
    await suspended.put_all({key_of(200): (FRIEND, FRIEND), **live, key_of(201): (id_of("late"), STRANGER)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspended.run)
        await until(lambda: not len(suspended))
        tasks.cancel_scope.cancel()
    assert {key_of(200), key_of(201)} == set(gone_on[:2])
