"""Whole nodes with the routing, under virtual time: they find each other knowing one seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.effectors import Effector, NoConfig, function
from fluvial.ports import Capability
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until
from fluvial.virtual.loop import BACKEND

WEATHER = Capability("service", "weather")


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


class Weather(Effector[NoConfig]):
    """A service that others look for."""

    service_id = "weather"

    @function
    async def temperature(self, city: str) -> int:
        """Degrees."""
        return len(city)


async def start(network: NodeNetwork, *names: str, seed: str = "", **more: Any) -> None:
    for name in names:
        peers = [network.address(seed)] if seed else []
        await network.start(name, routing={"kind": "kademlia", "peers": peers}, **more)


def joined(node: RunningNode) -> float:
    return node.metric("fluvial_dht_table_peers")


async def identity(by: RunningNode, at: RunningNode | str) -> str:
    peer = at if isinstance(at, str) else at.peer_id
    script = '(seq (call at ("op" "identity") ["hi"] x) (call %init_peer_id% ("return" "") [x]))'
    async with by.run(script, at=peer) as flow:
        (value,) = await flow.result()
    return str(value)


async def test_peers_find_each_other_knowing_one_seed(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(12)]
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, *names, seed="seed")
        await until(lambda: all(joined(network[name]) >= 3 for name in names))
        contact = await network["p1"].node.routing.find(network["p9"].peer_id)
        assert contact is not None
        assert contact.addresses == network["p9"].contact.addresses
        assert await identity(network["p2"], network["p7"]) == "hi"


async def test_nobody_is_found_who_is_not_there(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "a", "b", seed="seed")
        await until(lambda: joined(network["a"]) == 2)
        before = anyio.current_time()
        assert await network["a"].node.routing.find(keys_of("nobody").peer_id) is None
        assert anyio.current_time() - before < 5


async def test_a_provider_is_found_by_its_service_and_gone_when_it_is_withdrawn(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "provider", seed="seed", serves=[Weather()])
        await start(network, "a", "b", seed="seed")
        await anyio.sleep(5)
        (found,) = await network["a"].node.assembly.directory.find(WEATHER)
        assert found.peer == network["provider"].peer_id
        assert found.contact.addresses == network["provider"].contact.addresses
        await network["provider"].node.services.withdraw("weather")
        await anyio.sleep(70)
        assert await network["a"].node.assembly.directory.find(WEATHER) == []


async def test_the_seeds_of_a_subnetwork_are_found_by_their_attribute(tmp_path: Path) -> None:
    async def told(by: RunningNode, at: RunningNode, function: str, *arguments: Any) -> Any:
        values = {f"v{place}": value for place, value in enumerate(arguments)}
        script = f'(seq (call at ("dht" "{function}") [{" ".join(values)}] x) (call %init_peer_id% ("return" "") [x]))'
        async with by.run(script, at=at.peer_id, **values) as flow:
            (answer,) = await flow.result()
        return answer

    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "games1", "games2", "other", seed="seed")
        await until(lambda: joined(network["other"]) == 3)
        for name in ("games1", "games2"):
            assert await told(network[name], network[name], "add_provider", "seed:games", "", "") > 0
        found = await told(network["other"], network["seed"], "providers", "seed:games", 8)
        assert {one["peer_id"] for one in found} == {str(network[name].peer_id) for name in ("games1", "games2")}
        assert await told(network["other"], network["seed"], "providers", "seed:chess", 8) == []
        known = [one["addresses"][0] for one in found]
        await network.start("player", routing={"kind": "kademlia", "peers": known})
        await until(lambda: joined(network["player"]) >= 2)
        assert await identity(network["player"], network["games2"]) == "hi"


async def test_a_peer_learns_whether_others_can_dial_it(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "a", "b", seed="seed")
        await anyio.sleep(20)
        texts = [finding.text for finding in network["a"].node.assembly.parts.findings()]
        assert any(text.startswith("2 of 2 peers could dial /dns/memory/tcp/") for text in texts)


async def test_a_peer_that_has_moved_is_found_again(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "a", "b", "c", seed="seed")
        await anyio.sleep(5)
        assert await identity(network["a"], network["b"]) == "hi"
        await network.stop("b")
        moved = {"kind": "memory", "port": 99}
        await network.start("b", transport=moved, routing={"kind": "kademlia", "peers": [network.address("seed")]})
        await anyio.sleep(5)
        await network["a"].node.transport.disconnect(network["b"].peer_id)
        assert await identity(network["a"], network["b"]) == "hi"


class TestOverTcp:
    """The same over real sockets, in real time."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "asyncio"

    async def test_peers_find_each_other_and_a_provider_knowing_one_seed(self, tmp_path: Path) -> None:
        tcp = {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]}
        async with nodes(base_dir=tmp_path, transport=tcp) as network:
            seed = await network.start("seed", routing={"kind": "kademlia"})
            for name in ("a", "b", "provider"):
                serves = [Weather()] if name == "provider" else []
                await network.start(name, routing={"kind": "kademlia", "peers": [seed.address]}, serves=serves)
            await until(lambda: all(joined(network[name]) == 3 for name in ("a", "b")))
            assert await identity(network["a"], network["b"]) == "hi"
            with anyio.fail_after(30):
                while not (found := await network["a"].node.assembly.directory.find(WEATHER)):  # noqa: ASYNC110
                    await anyio.sleep(0.1)
            assert found[0].contact.addresses == network["provider"].contact.addresses
