"""What others have this peer look up waits when its requests are used up: in turns, and nobody for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.ports import Capability
from fluvial.testing.nodes import nodes, until
from fluvial.virtual.loop import BACKEND
from fluvial_dht_kademlia.machine.keyspace import peer_key
from fluvial_dht_kademlia.shell.lookup_pace import BEGUN, BURST, EACH_S, Lane, LookupPace
from fluvial_dht_kademlia.shell.routing import KademliaRouting

from tests.plugins.dht_kademlia.peers import peer_of


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


def use_up(pace: LookupPace) -> None:
    for _ in range(BURST):
        pace.asked()


async def begin(pace: LookupPace, lane: Lane, begun: list[Lane]) -> None:
    await pace.turn(lane)
    begun.append(lane)


async def test_lookups_begin_at_once_until_the_requests_are_used_up_and_then_at_a_rate() -> None:
    pace = LookupPace()
    begun: list[Lane] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pace.run)
        for _ in range(BURST):
            tasks.start_soon(begin, pace, "call", begun)
        await anyio.sleep(EACH_S / 2)
        assert len(begun) == BURST // BEGUN
        await anyio.sleep(100 * BEGUN * EACH_S)
        assert len(begun) - BURST // BEGUN == pytest.approx(100, abs=1)
        tasks.cancel_scope.cancel()


async def test_searches_of_ways_have_most_of_the_turns_and_calls_have_some() -> None:
    pace = LookupPace()
    begun: list[Lane] = []
    use_up(pace)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pace.run)
        for lane in ("call", "way"):
            for _ in range(200):
                tasks.start_soon(begin, pace, lane, begun)
        await anyio.sleep(100 * BEGUN * EACH_S)
        assert begun.count("way") == pytest.approx(4 * begun.count("call"), abs=8)
        assert len(begun) > 90
        tasks.cancel_scope.cancel()


async def test_who_comes_last_begins_first_since_who_has_waited_for_long_is_about_to_give_up() -> None:
    pace = LookupPace()
    order: list[int] = []

    async def wait_for_turn(number: int) -> None:
        await pace.turn("way")
        order.append(number)

    use_up(pace)
    use_up(pace)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pace.run)
        for number in range(20):
            tasks.start_soon(wait_for_turn, number)
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    assert order == list(reversed(range(20)))


async def test_who_gives_up_waiting_takes_no_turn_and_at_the_end_nobody_waits() -> None:
    pace = LookupPace()
    begun: list[Lane] = []
    use_up(pace)
    use_up(pace)
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(EACH_S):
            await begin(pace, "way", begun)
        tasks.start_soon(begin, pace, "call", begun)
        await anyio.sleep(1)
        assert begun == []  # nobody gives turns
        pace.stop()
    assert begun == ["call"]


async def test_what_others_look_up_has_a_rate_and_what_a_node_needs_itself_does_not_wait(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await network.start("one", routing={"kind": "kademlia"})
        await network.start("two", routing={"kind": "kademlia", "peers": [network.address("one")]})
        await until(lambda: network["one"].metric("fluvial_dht_table_peers") == 1)
        routing = network["one"].node.routing.part
        assert isinstance(routing, KademliaRouting)
        ended = 0

        async def look_up(number: int) -> None:
            nonlocal ended
            await routing.nearest(peer_key(peer_of(f"{number}")), 1)
            ended += 1

        lookups = 2 * BURST // BEGUN
        async with anyio.create_task_group() as tasks:
            for number in range(lookups):
                tasks.start_soon(look_up, number)
            await anyio.sleep(1)
            assert ended <= (BURST + 1 / EACH_S) // BEGUN
            began = anyio.current_time()
            await routing.providers(Capability("service", "none"), limit=1)
            assert anyio.current_time() - began < BEGUN * EACH_S
            assert ended < lookups
        assert ended == lookups
