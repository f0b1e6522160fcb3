"""Whole nodes in one process, with real and with virtual time."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from fluvial.errors import ConfigError, FluvialError, PluginError, Refused
from fluvial.memory.network import LinkQuality, Memory, Transfer
from fluvial.testing.nodes import nodes, until
from fluvial.virtual.clock import LoopClock
from fluvial.virtual.loop import BACKEND, run

from tests.support.nodes import Work, chain

HOUR_S = 3600.0


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


@pytest.mark.parametrize("anyio_backend", ["asyncio", BACKEND], ids=["real", "virtual"])
async def test_a_flow_goes_from_node_to_node(tmp_path: Path) -> None:
    memory = Memory(quality=LinkQuality(latency_s=0.001))
    async with nodes(base_dir=tmp_path, memory=memory) as network:
        peers = [await network.start(name, serves=[Work()]) for name in ("ada", "bob", "eve")]
        network.introduce()
        async with peers[0].run(chain([one.peer_id for one in peers])) as flow:
            assert await flow.result() == (3,)


async def test_an_hour_costs_nothing_and_every_wait_is_there(tmp_path: Path) -> None:
    memory = Memory(quality=LinkQuality(latency_s=1))
    async with nodes("bob", base_dir=tmp_path, memory=memory) as network:
        ada = await network.start("ada", serves=[Work()])
        network.introduce()
        bob = network["bob"]
        await bob.node.serve(Work())
        before = anyio.current_time()
        async with ada.run(chain([bob.peer_id]), ttl_s=100) as flow:
            assert await flow.result() == (1,)
        assert 4 <= anyio.current_time() - before < 10  # to dial (twice), there, and back
        await anyio.sleep(HOUR_S)
        assert ada.node.transport.connected() == {bob.peer_id}


async def test_nodes_can_stop_and_start_again_in_any_order(tmp_path: Path) -> None:
    storage = {"url": "sqlite:///ada.db"}
    async with nodes("bob", "eve", base_dir=tmp_path) as network:
        ada = await network.start("ada", storage=storage, serves=[Work()])
        particle = ada.node.particle("(null)", ttl_ms=60_000)
        await ada.node.submit(particle)
        await network.stop("bob")
        await network.stop("ada")
        assert list(network) == ["eve"]
        again = await network.start("ada", storage=storage)
        assert (again.peer_id, again.address) == (ada.peer_id, network.address("ada"))
        assert await again.node.stored(particle) is not None


async def test_a_partition_holds_messages_back_until_it_is_healed(tmp_path: Path) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path) as network:
        ada, bob = network["ada"], network["bob"]
        work = Work()
        await bob.node.serve(work)
        network.memory.partition([ada.peer_id])
        async with ada.run(chain([bob.peer_id]), ttl_s=100) as flow:
            await anyio.sleep(50)
            assert work.done == []
            network.memory.heal()
            assert await flow.result() == (1,)


async def test_clocks_can_disagree(tmp_path: Path) -> None:
    async with nodes("ada", base_dir=tmp_path) as network:
        late = await network.start("late", clock=LoopClock(1_000_000))
        ada = network["ada"]
        network.introduce()
        async with ada.run(chain([late.peer_id]), ttl_s=5) as flow:
            with pytest.raises(Refused, match="in the future"):
                await flow.result()
        assert late.metric("fluvial_particles_total", outcome="future")


def test_the_same_seed_is_the_same_story(tmp_path: Path) -> None:
    async def story(seed: int) -> list[Transfer]:
        seen: list[Transfer] = []
        memory = Memory(seed, quality=LinkQuality(latency_s=0.05, jitter_s=0.1, loss=0.1))
        memory.watch(seen.append)
        async with nodes("ada", "bob", base_dir=tmp_path, memory=memory, seed=seed) as network:
            for one in network.values():
                await one.node.serve(Work())
            peers = [one.peer_id for one in network.values()]
            async with network["ada"].run(chain(peers * 3)) as flow:
                assert await flow.result() == (6,)
        return seen

    first, again, other = run(story, 1), run(story, 1), run(story, 2)
    assert first == again
    assert first != other


async def test_what_cannot_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    with pytest.raises(PluginError, match=r"broken.*no_such_module"):
        async with nodes("ada", base_dir=tmp_path, plugins={"broken": tmp_path / "broken.py"}):
            pass
    with pytest.raises(FluvialError, match="no_such_kind"):
        async with nodes("ada", base_dir=tmp_path, routing={"kind": "no_such_kind"}):
            pass
    async with nodes("ada", base_dir=tmp_path) as network:
        with pytest.raises(ConfigError, match="port 1"):
            await network.start("bob", transport={"kind": "memory", "port": 1})
        assert list(network) == ["ada"]


async def test_until_gives_up() -> None:
    with pytest.raises(TimeoutError):
        await until(lambda: False)
