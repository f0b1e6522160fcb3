"""Contents from anywhere: who keeps a blob is found through the DHT, and the download goes on when one of them dies."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from fluvial.memory.network import LinkQuality, Memory
from fluvial.testing.nodes import NodeNetwork, keys_of, nodes, until
from fluvial.virtual.loop import BACKEND

SIZE = 3_000_000


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


async def start(network: NodeNetwork, *names: str) -> None:
    await network.start("seed", routing={"kind": "kademlia"})
    for name in names:
        await network.start(name, routing={"kind": "kademlia", "peers": [network.address("seed")]})


async def test_a_blob_comes_from_several_that_are_found_and_one_of_them_dies(tmp_path: Path) -> None:
    content = Random(1).randbytes(SIZE)
    memory = Memory(1, quality=LinkQuality(latency_s=0.03))
    async with nodes(base_dir=tmp_path, memory=memory) as network:
        await start(network, "a", "b", "c", "far")
        keepers = ("a", "b", "c")
        for name in keepers:
            blob = await network[name].node.blobs.put(content)
        await anyio.sleep(5)
        got: list[bytes] = []

        async def fetch() -> None:
            path = await network["far"].node.blobs.get(blob, bytes_max=2 * SIZE)
            got.append(path.read_bytes())

        def served(name: str) -> float:
            return network[name].metric("fluvial_blobs_served_bytes_total") if name in network else 1.0

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetch)
            await until(lambda: sum(map(served, keepers)) > SIZE / 4)
            busiest = max(keepers, key=served)
            await network.stop(busiest)
        assert got == [content]
        assert all(served(name) for name in keepers)


async def served_by(
    folder: Path, memory: Memory, keepers: tuple[str, ...], *, roots: tuple[str, ...] = ()
) -> dict[str, float]:
    """The share of a blob that each of its keepers has served; the first of them has provided it first."""
    content = Random(3).randbytes(SIZE)
    trust = {"kind": "trust_graph", "roots": {str(keys_of(name).peer_id): 5 for name in roots}} if roots else {}
    async with nodes(base_dir=folder, memory=memory) as network:
        await start(network, *keepers)
        seeds = [network.address("seed")]
        far = await network.start(
            "far", routing={"kind": "kademlia", "peers": seeds}, **({"authorization": trust} if trust else {})
        )
        for name in keepers:
            blob = await network[name].node.blobs.put(content)
            await anyio.sleep(2)
        await anyio.sleep(5)
        await far.node.blobs.get(blob, bytes_max=2 * SIZE)
        return {name: network[name].metric("fluvial_blobs_served_bytes_total") / SIZE for name in keepers}


async def test_those_with_weight_are_asked_first(tmp_path: Path) -> None:
    keepers = ("heavy", "weighty", "s1", "s2", "s3")
    memory = Memory(1, quality=LinkQuality(latency_s=0.03))
    shares = await served_by(tmp_path, memory, keepers, roots=("heavy", "weighty"))
    assert shares["heavy"] > 0.1
    assert shares["weighty"] > 0.1
    assert sum(shares[name] > 0 for name in keepers[2:]) == 2, "four at the same time"


async def test_those_that_are_near_serve_most_of_it(tmp_path: Path) -> None:
    memory = Memory(1, quality=LinkQuality(latency_s=0.01))
    distant = ("d1", "d2", "d3", "d4")
    for name in distant:
        for ends in ({"source": keys_of(name).peer_id}, {"target": keys_of(name).peer_id}):
            memory.set_quality(LinkQuality(latency_s=0.4), **ends)
    shares = await served_by(tmp_path, memory, ("near", *distant))  # who has provided it last is asked first
    assert shares["near"] > 0.5


async def test_who_has_fetched_a_blob_provides_it(tmp_path: Path) -> None:
    content = Random(2).randbytes(300_000)
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "a", "b", "c")
        blob = await network["a"].node.blobs.put(content)
        await anyio.sleep(5)
        await network["b"].node.blobs.get(blob, bytes_max=SIZE)
        await anyio.sleep(5)
        await network.stop("a")
        path = await network["c"].node.blobs.get(blob, bytes_max=SIZE)
        assert path.read_bytes() == content
