"""Contents from anywhere: who keeps a blob is found through the DHT, and the download goes on when one of them dies."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from fluvial.memory.network import LinkQuality, Memory
from fluvial.testing.nodes import NodeNetwork, nodes, until
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
