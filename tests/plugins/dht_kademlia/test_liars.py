"""Whole nodes among which some run a modified peer: what the honest ones still can do, and what the liars cannot.

In ``tests/e2e/test_dht_liars.py`` and ``tests/attacks/dht.py`` the liars are processes.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.identity import PeerId
from fluvial.testing.nodes import NodeNetwork, RunningNode, nodes, until
from fluvial.virtual.loop import BACKEND
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.records import sign_record
from fluvial_dht_kademlia.shell.routing import KademliaRouting

from tests.support.dht_lies import (
    Liars,
    Lie,
    LyingRouting,
    fields,
    forges,
    invents,
    names_accomplices,
    serves_foreign,
    serves_stale,
    silent,
    slow,
    withholds,
)

CHAT = open_challenge("topic:chat")


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


HONEST = [f"h{number}" for number in range(9)]
LYING = [f"l{number}" for number in range(4)]


async def start_all(network: NodeNetwork) -> None:
    await network.start("seed", routing={"kind": "kademlia"})
    order = [name for pair in zip(LYING, HONEST, strict=False) for name in pair] + HONEST[len(LYING) :]
    for name in order:
        kind = "liar" if name in LYING else "kademlia"
        await network.start(name, routing={"kind": kind, "peers": [network.address("seed")]})
    await anyio.sleep(10)


def routing_of(node: RunningNode) -> KademliaRouting:
    part = node.node.routing.part
    assert isinstance(part, KademliaRouting)
    return part


async def put(network: NodeNetwork, value: bytes = b"hello") -> None:
    assert await routing_of(network["h1"]).provide(CHAT, value, "") > 0


async def found_by(network: NodeNetwork, name: str, challenge: Challenge = CHAT) -> list[tuple[PeerId, bytes]]:
    found = await routing_of(network[name]).records(challenge)
    return [(record.provider, record.fields.value) for _, record in found]


@pytest.mark.long
@pytest.mark.parametrize("lie", [silent, slow, withholds, invents, names_accomplices, forges, serves_foreign])
async def test_records_and_peers_are_found_among_liars(lie: Lie, tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, plugins={"liars": Liars(lie)}) as network:
        await start_all(network)
        await put(network)
        for name in ("h0", "h4", "h8"):
            began = anyio.current_time()
            assert await found_by(network, name) == [(network["h1"].peer_id, b"hello")]
            assert anyio.current_time() - began < 4
            contact = await network[name].node.routing.find(network["h2"].peer_id)
            assert contact is not None
            assert contact.addresses == network["h2"].contact.addresses


async def test_a_stale_record_does_not_hide_a_newer_one_nor_bring_a_withdrawn_one_back(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, plugins={"liars": Liars(serves_stale)}) as network:
        await start_all(network)
        await put(network, b"first")
        await anyio.sleep(1)
        await put(network, b"second")
        assert {value for _, value in await found_by(network, "h5")} == {b"second"}
        await routing_of(network["h1"]).withdraw(CHAT)
        await anyio.sleep(1)
        # Replicas that saw the tombstone answer with it; it replaces what the liars still serve.
        assert await found_by(network, "h5") == []


async def test_a_stranger_that_skips_its_own_checks_is_refused_by_every_replica(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, plugins={"liars": Liars(withholds)}) as network:
        await start_all(network)
        challenge = owned_challenge(network["h1"].peer_id, 2)
        liar = routing_of(network["l0"])
        assert isinstance(liar, LyingRouting)
        record = sign_record(liar.keys, "test", fields(liar.keys.peer_id, challenge, liar.now_ms, solution=b"I may"))
        request = wire.encode_request(messages.AddProvider(challenge, record))
        for name in HONEST:
            answer = await network["l0"].node.assembly.peers.request(
                network[name].contact, wire.PROTOCOL, request, timeout_s=5
            )
            assert wire.decode_answer(answer) == messages.RecordStored(False, "solution")
        assert await found_by(network, "h3", challenge) == []
        assert await routing_of(network["h1"]).provide(challenge, b"mine", "") > 0
        assert await found_by(network, "h3", challenge) == [(network["h1"].peer_id, b"mine")]


@pytest.mark.long
async def test_a_part_of_the_network_that_was_away_and_returns_finds_everything(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, plugins={"liars": Liars(withholds)}) as network:
        await start_all(network)
        away = [network[name].peer_id for name in ("h5", "h6", "h7", "h8")]
        here = [network[name].peer_id for name in network if network[name].peer_id not in away]
        network.memory.partition(away, here)
        await anyio.sleep(60)
        await put(network, b"while you were away")
        network.memory.heal()
        await anyio.sleep(900)  # some rounds of upkeep
        assert {value for _, value in await found_by(network, "h6")} == {b"while you were away"}


class TestOverTcp:
    """Over real sockets, in real time: whom the invented contacts point at."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "asyncio"

    async def test_a_victim_is_not_flooded(self, tmp_path: Path) -> None:
        knocks = 0
        with socket.create_server(("127.0.0.1", 0)) as victim:
            victim.setblocking(False)
            port = victim.getsockname()[1]

            async def points(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
                liar.argument = str(port)
                return await invents(request, liar)

            async def count() -> None:
                nonlocal knocks
                while True:
                    await anyio.wait_readable(victim)
                    with suppress(BlockingIOError):
                        victim.accept()[0].close()
                        knocks += 1

            tcp = {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]}
            async with anyio.create_task_group() as group:
                group.start_soon(count)
                async with nodes(base_dir=tmp_path, plugins={"liars": Liars(points)}, transport=tcp) as network:
                    seed = await network.start("seed", routing={"kind": "kademlia"})
                    for name, kind in (("l0", "liar"), ("l1", "liar"), ("h0", "kademlia"), ("h1", "kademlia")):
                        await network.start(name, routing={"kind": kind, "peers": [seed.address]})
                    await until(lambda: all(len(routing_of(network[name]).summary()[0]) > 1 for name in ("h0", "h1")))
                    for number in range(20):
                        await routing_of(network["h0"]).records(open_challenge(f"topic:{number}"))
                    await put(network)
                    assert await found_by(network, "h0") == [(network["h1"].peer_id, b"hello")]
                    assert knocks <= 3 * len(network)  # 24 lookups of each were told of it hundreds of times
                group.cancel_scope.cancel()
