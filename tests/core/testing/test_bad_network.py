"""Nodes in a network that loses messages, falls apart, and in which nodes come and go: flows end, nothing breaks, every run is the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import anyio
import pytest
from fluvial.errors import ServiceError, Unreachable
from fluvial.memory.network import LinkQuality, Memory, Transfer
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes
from fluvial.virtual.loop import run

from tests.support.nodes import Work, chain

NAMES = ("ada", "bob", "eve", "dan", "fay")
STEPS = 25
TTL_S = 60.0
LEVELS_OF_BUGS = ("error", "critical")


class Weather:
    """What happens to a network, drawn from a seed."""

    def __init__(self, network: NodeNetwork, seed: int) -> None:
        self.network = network
        self.rng = Random(f"weather {seed}")
        self.ended: Counter[str] = Counter()
        self.everyone: list[RunningNode] = []

    async def start(self, name: str) -> None:
        self.everyone.append(await self.network.start(name, serves=[Work()]))
        self.network.introduce()

    async def flow(self, by: RunningNode) -> None:
        names = self.rng.sample(NAMES, 3)
        try:
            async with by.run(chain([keys_of(name).peer_id for name in names]), ttl_s=TTL_S) as flow:
                assert await flow.result() == (3,)
            self.ended["well"] += 1
        except (ServiceError, Unreachable) as error:
            self.ended[type(error).__name__] += 1

    async def away(self, name: str) -> None:
        await self.network.stop(name)
        await anyio.sleep(self.rng.uniform(0, 20))
        await self.start(name)

    async def change(self, tasks: anyio.abc.TaskGroup) -> None:
        memory, peers = self.network.memory, [keys_of(name).peer_id for name in self.rng.sample(NAMES, 2)]
        match self.rng.choice(["partition", "heal", "cut", "away", "nothing"]):
            case "partition":
                memory.partition(peers)
            case "heal":
                memory.heal()
            case "cut":
                memory.cut(*peers)
            case "away" if len(self.network) > 3:
                tasks.start_soon(self.away, self.rng.choice([name for name in self.network if name != "ada"]))


async def _storm(seed: int, folder: Path) -> tuple[list[Transfer], Counter[str]]:
    told: list[Transfer] = []
    memory = Memory(seed, quality=LinkQuality(latency_s=0.02, jitter_s=0.2, loss=0.02))
    memory.watch(told.append)
    async with nodes(base_dir=folder, memory=memory, seed=seed) as network:
        weather = Weather(network, seed)
        for name in NAMES:
            await weather.start(name)
        async with anyio.create_task_group() as tasks:
            for _ in range(STEPS):
                tasks.start_soon(weather.flow, network["ada"])
                await weather.change(tasks)
                await anyio.sleep(weather.rng.uniform(0, 10))
            memory.heal()
        assert len(network) == len(NAMES)
        await weather.flow(network["ada"])
        broken = [entry for one in weather.everyone for entry in one.logged if entry["log_level"] in LEVELS_OF_BUGS]
    assert broken == []
    return told, weather.ended


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_breaks_in_bad_weather(seed: int, tmp_path: Path) -> None:
    told, ended = run(_storm, seed, tmp_path)
    assert ended.total() == STEPS + 1
    assert ended["well"] > STEPS / 2
    again, ended_again = run(_storm, seed, tmp_path)
    assert (again, ended_again) == (told, ended)
