"""Keys with owners and kinds of challenges of other plugins, between whole nodes; and what a node remembers over a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.challenges import ChallengeKind
from fluvial.defaults.signatures import SignatureAuthorization
from fluvial.effectors import NoConfig
from fluvial.hooks import hookimpl
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Part
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until
from fluvial.virtual.loop import BACKEND
from fluvial_dht_kademlia.machine.challenges import open_challenge, owned_challenge
from fluvial_dht_kademlia.shell.routing import KademliaRouting

OWNER = keys_of("owner").peer_id
FRIEND = keys_of("friend").peer_id


class Friends:
    """Who is trusted by whom, for all nodes of a test."""

    def __init__(self) -> None:
        self.edges = {(OWNER, FRIEND)}
        self.version = 1

    @hookimpl
    def fluvial_register(self, registry: Registry) -> None:
        """Offer an authorization that knows them, and an extra with a kind of challenges."""
        registry.authorization("friends", self._build, options=NoConfig)
        registry.extra("puzzles", Puzzles, options=NoConfig)

    def _build(self, context: Context, options: NoConfig) -> Knowing:
        return Knowing(context, options, self)


class Knowing(SignatureAuthorization):
    """Paths of one edge, as everybody knows them now."""

    def __init__(self, context: Context, options: NoConfig, friends: Friends) -> None:
        super().__init__(context, options)
        self._friends = friends

    @property
    def version(self) -> int:
        return self._friends.version

    def weight(self, peer: PeerId) -> int:
        return 5 if any(peer == trusted for _, trusted in self._friends.edges) else 0

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        return b"friends" if (owner, provider) in self._friends.edges and length_max else None

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        return proof == b"friends" and (owner, provider) in self._friends.edges and length_max > 0


class Puzzle(ChallengeKind):
    """A solution is the name of the key backwards."""

    name = "puzzle"

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        return solution == body[::-1]

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        return body[::-1]


class Puzzles(Part):
    """Brings the kind."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        """Has no options."""

    def contributions(self) -> Contributions:
        return Contributions(
            extensions=(Puzzle(),), capabilities=lambda: [Capability("puzzle", "sator"), Capability("topic", "words")]
        )


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


def routing_of(node: RunningNode) -> KademliaRouting:
    part = node.node.routing.part
    assert isinstance(part, KademliaRouting)
    return part


async def start(network: NodeNetwork, *names: str, **sections: Any) -> None:
    for name in names:
        peers = [network.address("owner")] if name != "owner" else []
        await network.start(name, routing={"kind": "kademlia", "peers": peers, "announce": ["*"]}, **sections)
    await anyio.sleep(5)


async def test_who_is_trusted_by_the_owner_may_stand_at_its_key_as_long_as_that_lasts(tmp_path: Path) -> None:
    friends = Friends()
    async with nodes(base_dir=tmp_path, plugins={"friends": friends}, authorization="friends") as network:
        await start(network, "owner", "friend", "stranger", "asker")
        key = owned_challenge(OWNER, 1)
        assert await routing_of(network["friend"]).provide(key, b"mine", "") > 0
        found = await routing_of(network["asker"]).records(key)
        assert [(provider.peer, provider.weight) for provider, _ in found] == [(FRIEND, 5)]
        with pytest.raises(Exception, match="no solution"):
            await routing_of(network["stranger"]).provide(key, b"mine, too", "")
        friends.edges.clear()
        friends.version += 1
        assert await routing_of(network["asker"]).records(key) == []


async def test_a_plugin_adds_a_kind_of_challenges_for_capabilities_of_that_name(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, plugins={"friends": Friends()}, extras={"puzzles": {}}) as network:
        await start(network, "owner", "a", "b")
        await anyio.sleep(5)
        for capability in (Capability("puzzle", "sator"), Capability("topic", "words")):
            found = await network["a"].node.assembly.directory.find(capability)
            assert {provider.peer for provider in found} == {network[name].peer_id for name in ("owner", "b")}
        ((_, record), *_) = await routing_of(network["a"]).records(
            routing_of(network["a"]).challenge(Capability("puzzle", "sator"))
        )
        assert record.fields.solution == b"rotas"


async def test_a_node_remembers_whom_it_knew_what_it_keeps_and_what_it_provides(tmp_path: Path) -> None:
    kept = {"storage": {"url": f"sqlite:///{tmp_path}/kept.db"}}
    topic = open_challenge("topic:chat")
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "owner", "a", "b")
        await start(network, "kept", **kept)
        await routing_of(network["a"]).provide(topic, b"from a", "")
        await routing_of(network["kept"]).provide(topic, b"from kept", "")
        await anyio.sleep(60)
        await network.stop("kept")
        await network.stop("owner")
        # Its only seed is gone: it finds the others by its address book.
        await start(network, "kept", **kept)
        await until(lambda: len(routing_of(network["kept"]).summary()[0]) == 2)
        peers, keys, published, _ = routing_of(network["kept"]).summary()
        assert {contact.peer for contact in peers} == {network["a"].peer_id, network["b"].peer_id}
        assert keys >= 1
        assert published == 1
        for name in ("a", "b"):
            await network.stop(name)
        # Alone, it still has the record of the other as a replica.
        values = {record.fields.value for _, record in await routing_of(network["kept"]).records(topic)}
        assert values == {b"from a", b"from kept"}
