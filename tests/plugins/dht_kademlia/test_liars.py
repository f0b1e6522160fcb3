"""Whole nodes among which some run a modified peer: what the honest ones still can do, and what the liars cannot."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from fluvial.addresses import Address, Contact
from fluvial.hooks import hookimpl
from fluvial.identity import PeerId
from fluvial.ports import Context
from fluvial.seats import Registry
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until
from fluvial.virtual.loop import BACKEND
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge, open_challenge, owned_challenge
from fluvial_dht_kademlia.machine.keyspace import key_bytes
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordFields, sign_record
from fluvial_dht_kademlia.plugin import TABLES
from fluvial_dht_kademlia.shell.options import KademliaOptions
from fluvial_dht_kademlia.shell.routing import KademliaRouting

CHAT = open_challenge("topic:chat")
HOUR_MS = 3_600_000
Lie = Callable[[DhtRequest, "LyingRouting"], DhtAnswer | None]
"""The answer of a liar; None for silence."""


class LyingRouting(KademliaRouting):
    """Joins as everybody does, and lies in its answers."""

    def __init__(self, context: Context, options: KademliaOptions, lie: Lie) -> None:
        super().__init__(context, options)
        self._lie = lie
        self.rng = Random(7)
        self.keys = context.keys

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        await super()._answer(sender, payload)
        answer = self._lie(wire.decode_request(payload), self)
        if answer is None:
            await anyio.sleep_forever()
        assert answer is not None
        return wire.encode_answer(answer)


class Liars:
    """The plugin that offers them."""

    def __init__(self, lie: Lie) -> None:
        self._lie = lie

    @hookimpl
    def fluvial_register(self, registry: Registry) -> None:
        registry.routing(
            "liar",
            lambda context, options: LyingRouting(context, options, self._lie),
            options=KademliaOptions,
            tables=TABLES,
        )


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


def fields(provider: PeerId, challenge: Challenge, at: int, **more: Any) -> RecordFields:
    return RecordFields(
        key=key_bytes(challenge.key),
        provider=str(provider),
        sequence=at,
        issued_at_ms=at,
        expires_at_ms=at + HOUR_MS,
        **more,
    )


# --- the lies


def silent(request: DhtRequest, liar: LyingRouting) -> DhtAnswer | None:
    return None


def withholds(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
    match request:
        case messages.FindPeers():
            return messages.PeersFound(())
        case messages.FindProviders():
            return messages.ProvidersFound((), ())
        case messages.AddProvider():
            return messages.RecordStored(True)
        case messages.Ping():
            return messages.Pong()


def invents(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
    victim = Address.parse("/dns/memory/tcp/1")
    contacts = tuple(
        Contact(peer, (victim.with_peer(peer),))
        for peer in (PeerId.from_public_key(liar.rng.randbytes(32)) for _ in range(30))
    )
    match request:
        case messages.FindPeers():
            return messages.PeersFound(contacts)
        case messages.FindProviders():
            return messages.ProvidersFound((), contacts)
        case _:
            return withholds(request, liar)


def forges(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
    """Serves a record of somebody else that it has signed itself."""
    if not isinstance(request, messages.FindProviders):
        return withholds(request, liar)
    forged = fields(keys_of("h1").peer_id, CHAT, 10_000_000, value=b"forged")
    return messages.ProvidersFound((sign_record(liar.keys, "test", forged),), ())


def serves_foreign(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
    """Serves a good record of its own for another key."""
    if not isinstance(request, messages.FindProviders):
        return withholds(request, liar)
    own = fields(liar.keys.peer_id, open_challenge("topic:other"), 10_000_000, value=b"other")
    return messages.ProvidersFound((sign_record(liar.keys, "test", own),), ())


@pytest.mark.parametrize("lie", [silent, withholds, invents, forges, serves_foreign])
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
    old: list[ProviderRecord] = []

    def serves_stale(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
        if isinstance(request, messages.FindProviders) and old:
            return messages.ProvidersFound((old[0],), ())
        return withholds(request, liar)

    async with nodes(base_dir=tmp_path, plugins={"liars": Liars(serves_stale)}) as network:
        await start_all(network)
        await put(network, b"first")
        ((_, record),) = await routing_of(network["h0"]).records(CHAT)
        old.append(record)
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
        now = liar._clock.now_ms()
        record = sign_record(liar.keys, "test", fields(liar.keys.peer_id, challenge, now, solution=b"I may"))
        request = wire.encode_request(messages.AddProvider(challenge, record))
        for name in HONEST:
            answer = await network["l0"].node.assembly.peers.request(
                network[name].contact, wire.PROTOCOL, request, timeout_s=5
            )
            assert wire.decode_answer(answer) == messages.RecordStored(False, "solution")
        assert await found_by(network, "h3", challenge) == []
        assert await routing_of(network["h1"]).provide(challenge, b"mine", "") > 0
        assert await found_by(network, "h3", challenge) == [(network["h1"].peer_id, b"mine")]


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

            def points(request: DhtRequest, liar: LyingRouting) -> DhtAnswer:
                at = Address(host_kind="ip4", host="127.0.0.1", port=port)
                peers = [PeerId.from_public_key(liar.rng.randbytes(32)) for _ in range(30)]
                contacts = tuple(Contact(peer, (at.with_peer(peer),)) for peer in peers)
                match request:
                    case messages.FindPeers():
                        return messages.PeersFound(contacts)
                    case messages.FindProviders():
                        return messages.ProvidersFound((), contacts)
                    case _:
                        return withholds(request, liar)

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
