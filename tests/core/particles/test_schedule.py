"""Which lanes are served, and who waits for whom."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fluvial.fairness import Upstream, equal
from fluvial.identity import PeerId
from fluvial.light_tasks import LightTasks
from fluvial.particle import ParticleKey
from fluvial.particles.delivery import places
from fluvial.particles.delivery.lane import DeliveryLane
from fluvial.particles.delivery.schedule import KNOCKS_MAX, LaneSchedule
from fluvial.stored import OutboxRow

from tests.support.nodes import WAIT_S, id_of, until

STRANGER, HONEST = id_of("stranger"), id_of("honest")


def lane(name: str, of: PeerId) -> DeliveryLane:
    return DeliveryLane(id_of(name), of, Upstream(of), equal)


async def test_who_is_not_connected_waits_for_none_on_the_way_to_whom_somebody_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last hop of a flow of a client behind a relay is one such; names that lead nowhere cost nothing."""
    monkeypatch.setattr(places, "SLOW_S", 0.01)
    tried: list[PeerId] = []
    looked_for = {id_of(f"nobody {number}") for number in range(KNOCKS_MAX)}

    async def serve(one: DeliveryLane) -> bool:
        tried.append(one.peer)
        if one.owner == STRANGER:
            await anyio.sleep(2 * WAIT_S)
        return True

    schedule = LaneSchedule(serve, lambda peer: False, looked_for.__contains__, equal)
    async with anyio.create_task_group() as tasks:
        light = LightTasks()
        await tasks.start(light.run)
        schedule.start(light)
        for number in range(KNOCKS_MAX):
            schedule.add(lane(f"nobody {number}", STRANGER))
        await until(lambda: len(tried) == KNOCKS_MAX)
        schedule.add(lane("client", HONEST))
        await anyio.sleep(0.1)
        assert len(tried) == KNOCKS_MAX, "a routing looks for no more than so many at the same time"
        looked_for.clear()
        await until(lambda: tried[-1] == id_of("client"))
        tasks.cancel_scope.cancel()


async def test_a_lane_that_is_tried_again_at_once_is_served_by_nobody_else_in_between() -> None:
    """Something comes for its peer when all that was tried is delivered, and the rest is about to be."""
    serving, most, served = 0, 0, 0

    async def serve(one: DeliveryLane) -> bool:
        nonlocal serving, most, served
        serving, served = serving + 1, served + 1
        most = max(most, serving)
        for number in range(20):
            one.begin(0, float(number))
            await checkpoint()
            one.took()
            await checkpoint()
        serving -= 1
        return True

    schedule = LaneSchedule(serve, lambda peer: True, lambda peer: False, equal)
    async with anyio.create_task_group() as tasks:
        light = LightTasks()
        await tasks.start(light.run)
        schedule.start(light)
        busy = lane("peer", HONEST)
        for number in range(100):
            row = OutboxRow(
                key=ParticleKey(bytes([number])),
                peer=busy.peer,
                version=0,
                since_ms=0,
                attempts=0,
                last_error="",
                deadline_ms=2**50,
                initiator=HONEST,
                sender=HONEST,
            )
            busy.put(row, HONEST, Upstream(HONEST))
            schedule.add(busy)
            await checkpoint()
        tasks.cancel_scope.cancel()
    assert served > 1
    assert most == 1
