"""Clients behind relays: found by their leases, served although they are away for a moment, and reached when a relay dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.effectors import Effector, NoConfig, function
from fluvial.ports import Capability
from fluvial.testing.nodes import NodeNetwork, nodes, until
from fluvial.virtual.loop import BACKEND

ASK = """
(seq
  (call helper ("dht" "providers") ["service:weather" 1] found)
  (seq
    (call found.$.[0].peer_id ("weather" "temperature") ["Oslo"] degrees)
    (call %init_peer_id% ("return" "") [degrees])))
"""


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


class SlowWeather(Effector[NoConfig]):
    """A service that takes its time."""

    service_id = "weather"

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()

    @function
    async def temperature(self, city: str) -> int:
        """Degrees, after two seconds."""
        self.asked.set()
        await anyio.sleep(2)
        return len(city)


async def start(network: NodeNetwork, *names: str, seed: str = "", **more: Any) -> None:
    for name in names:
        peers = [network.address(seed)] if seed else []
        await network.start(name, routing={"kind": "kademlia", "peers": peers}, **more)


async def start_client(network: NodeNetwork, name: str, *relays: str, **more: Any) -> None:
    port = {"kind": "memory", "listen": False}
    addresses = [network.address(relay) for relay in relays]
    await network.start(name, transport=port, routing={"kind": "static"}, relays=addresses, **more)


async def test_the_relays_of_a_client_are_found_by_its_id(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "r1", "r2", "far", seed="seed")
        await start_client(network, "client", "r1", "r2")
        await anyio.sleep(5)
        client = network["client"].peer_id
        found = await network["far"].node.routing.find(client)
        assert found is not None
        assert {address.relay for address in found.addresses} == {network["r1"].peer_id, network["r2"].peer_id}
        script = '(seq (call at ("op" "identity") ["hi"] x) (call %init_peer_id% ("return" "") [x]))'
        async with network["far"].run(script, at=client) as flow:
            assert await flow.result() == ("hi",)


async def test_the_answer_arrives_through_another_relay_when_one_is_gone(tmp_path: Path) -> None:
    weather = SlowWeather()
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "r1", "r2", "helper", seed="seed")
        await start(network, "provider", seed="seed", serves=[weather])
        await start_client(network, "client", "r1", "r2")
        await anyio.sleep(5)
        async with network["client"].run(ASK, helper=network["helper"].peer_id) as flow:
            await weather.asked.wait()
            await network.stop("r1")
            assert await flow.result() == (4,)


@pytest.mark.parametrize("seed", [0, 3])
async def test_a_client_whose_only_relay_is_gone_finds_another_one(tmp_path: Path, seed: int) -> None:
    """And is found there by who has sought it already and been told of the old relay."""
    weather = SlowWeather()
    async with nodes(base_dir=tmp_path, seed=seed) as network:
        await start(network, "seed")
        await start(network, "r1", "r2", "helper", seed="seed")
        await start(network, "provider", seed="seed", serves=[weather])
        await start_client(network, "client", "r1")
        await anyio.sleep(5)
        async with network["client"].run(ASK, helper=network["helper"].peer_id, ttl_s=60) as flow:
            await weather.asked.wait()
            await network.stop("r1")
            assert await flow.result() == (4,)


async def test_what_comes_for_a_client_that_is_away_waits_for_it(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "relay")
        await start(network, "sender", seed="relay")
        await start_client(network, "client", "relay")
        await until(lambda: network["relay"].metric("fluvial_relay_clients") == 1)
        client = network["client"].peer_id
        await anyio.sleep(5)
        await network.stop("client")
        script = '(seq (call at ("op" "identity") ["hi"] x) (call %init_peer_id% ("return" "") [x]))'
        async with network["sender"].run(script, at=client, ttl_s=120) as flow:
            await until(lambda: network["relay"].metric("fluvial_relay_held") == 1)
            await start_client(network, "client", "relay")
            assert await flow.result() == ("hi",)
        assert network["relay"].metric("fluvial_relay_messages_total", outcome="handed_over") == 1


async def test_a_stranger_is_not_believed_to_be_somebodys_relay(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "seed")
        await start(network, "liar", "far", seed="seed")
        await anyio.sleep(3)
        client = network["far"].peer_id
        script = '(seq (call at ("dht" "add_provider") [key "" ""] x) (call %init_peer_id% ("return" "") [x]))'
        async with network["liar"].run(script, at=network["liar"].peer_id, key=f"relay:{client}") as flow:
            with pytest.raises(Exception, match="no solution"):
                await flow.result()
        assert await network["seed"].node.assembly.directory.find(Capability("relay", client)) == []
