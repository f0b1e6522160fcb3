"""Places for processes, taken and given back while others do the same."""

from __future__ import annotations

import anyio
import pytest
from fluvial.effectors import EffectorError
from fluvial_fce_wasm.places import ProcessPlaces


class Service:
    """Has a process that takes a moment to end."""

    def __init__(self, places: ProcessPlaces, used_at: float = 0) -> None:
        self._places = places
        self.used_at = used_at
        self.is_busy = False
        self.closed = 0

    async def close(self) -> None:
        self.is_busy = True
        await anyio.sleep(0.01)
        self._places.give(self)
        self.closed += 1
        self.is_busy = False


async def test_who_was_idle_longest_makes_room() -> None:
    places = ProcessPlaces(2)
    new, old, wanted = (Service(places, used_at) for used_at in (2, 1, 3))
    await places.take(new)
    await places.take(old)
    await places.take(old)
    await places.take(wanted)
    assert (new.closed, old.closed) == (0, 1)
    new.is_busy = wanted.is_busy = True
    with pytest.raises(EffectorError, match="2 services are busy"):
        await places.take(old)
    places.give(new)
    await places.take(old)


async def test_two_at_once_do_not_have_the_same_place() -> None:
    places = ProcessPlaces(2)
    there = [Service(places, used_at) for used_at in (1, 2)]
    for one in there:
        await places.take(one)
    wanted = [Service(places) for _ in range(3)]
    refused = []

    async def take(one: Service) -> None:
        one.is_busy = True  # from before its process is there
        try:
            await places.take(one)
        except EffectorError:
            refused.append(one)

    async with anyio.create_task_group() as group:
        for one in wanted:
            group.start_soon(take, one)
    assert len(refused) == 1
    assert [one.closed for one in there] == [1, 1]


async def test_who_was_made_to_make_room_can_have_a_place_again() -> None:
    places = ProcessPlaces(1)
    first, second = Service(places), Service(places)
    await places.take(first)
    await places.take(second)
    await places.take(first)
    assert (first.closed, second.closed) == (1, 1)
    first.is_busy = True
    with pytest.raises(EffectorError, match="1 services are busy"):
        await places.take(second)
