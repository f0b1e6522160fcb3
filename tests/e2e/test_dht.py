"""Real processes that know one seed: a client behind relays finds a provider by its attribute, and the answer survives the death of a relay."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import anyio
import pytest
from fluvial.client import connect

from tests.support.processes import NETWORK, PeerProcess, fluvial, fluvial_here, wait_until

pytestmark = pytest.mark.timeout(180)

PLUGIN: Final = '''
"""A thermometer that takes its time."""
from pathlib import Path
import anyio
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Effector, function

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    asked: str

class Weather(Effector[Config]):
    service_id = "weather"

    @function
    async def temperature(self, city: str) -> int:
        Path(self.config.asked).touch()
        await anyio.sleep(2)
        return len(city)

@hookimpl
def fluvial_register(registry):
    registry.effector("weather", Weather)
'''

ASK: Final = """
(seq
  (call helper ("dht" "providers") ["effector:weather" 1] found)
  (seq
    (call found.$.[0].peer_id ("weather" "temperature") ["Oslo"] degrees)
    (call %init_peer_id% ("return" "") [degrees])))
"""


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, variables: Mapping[str, str]) -> Iterator[dict[str, PeerProcess]]:
    """A seed, two relays, and a provider; each other one knows the seed alone. They are started once."""
    folder = tmp_path_factory.mktemp("dht")
    running: dict[str, PeerProcess] = {}
    try:
        for name in ("seed", "r1", "r2", "provider"):
            seeds = [running["seed"].address] if running else []
            more: dict[str, Mapping[str, object]] = {}
            if name == "provider":
                more = {"effectors": {"weather": {"asked": str(folder / "asked")}}}
            running[name] = PeerProcess(
                folder / name,
                variables,
                plugins={"weather": PLUGIN},
                routing={"kind": "kademlia", "peers": seeds},
                **more,
            )
            running[name].start()
        yield running
    finally:
        for peer in running.values():
            peer.close()


def asked_of(peer: PeerProcess, *arguments: str) -> Any:
    """What a command in the peer's folder prints."""
    done = fluvial_here("--json", *arguments, cwd=peer.folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ways_told_by(peer: PeerProcess, variables: Mapping[str, str], particle_id: str) -> list[Any]:
    """The hops of a peer of which its story says how it found the receiver; it is written down a moment after the receiver has the particle."""
    ways: list[Any] = []

    def told() -> bool:
        done = fluvial("particle", "show", particle_id, "--json", cwd=peer.folder, variables=variables)
        assert done.returncode == 0, done.stderr
        ways[:] = [event for event in json.loads(done.stdout)["events"] if event.get("way")]
        return bool(ways)

    wait_until(told, within_s=60, what="the story says by which way the answer went")
    return ways


def test_commands_find_peers_and_providers_and_change_what_a_peer_provides(peers: dict[str, PeerProcess]) -> None:
    r1, r2 = peers["r1"], peers["r2"]
    wait_until(
        lambda: len(asked_of(r1, "dht", "table")["peers"]) == 3,
        within_s=60,
        what="the relay knows everybody",
    )
    stored = asked_of(r1, "dht", "provide", "topic:chat", "--value", "hello")
    assert stored["replicas"] >= 3
    (found,) = asked_of(r2, "dht", "providers", "topic:chat")
    assert (found["peer_id"], found["value"]) == (r1.peer_id, "hello")
    for command in (("dht", "find"), ("peer", "find")):
        one = asked_of(r2, *command, str(r1.peer_id))
        assert one["addresses"] == [r1.address]
    near = asked_of(r2, "dht", "near", "anything", "--count", "3")
    assert len(near) == 3
    assert asked_of(r1, "dht", "provide", "topic:chat", "--withdraw") == {"removed": True}
    assert asked_of(r2, "dht", "providers", "topic:chat") == []


async def test_the_answer_comes_through_another_relay_when_one_is_killed(
    peers: dict[str, PeerProcess], variables: Mapping[str, str]
) -> None:
    r1, r2 = peers["r1"], peers["r2"]
    async with connect([r1.address, r2.address], network=NETWORK) as client:
        with anyio.fail_after(60):
            while True:  # until the provider's record is there, and the client has its second relay
                async with client.run(
                    '(seq (call helper ("dht" "providers") ["effector:weather" 1] x) (call %init_peer_id% ("return" "") [x]))',
                    helper=r2.peer_id,
                ) as flow:
                    (found,) = await flow.result()
                if found and len(client.node.transport.connected()) >= 2:
                    break
                await anyio.sleep(0.2)
        assert found[0]["peer_id"] == peers["provider"].peer_id
        async with client.run(ASK, helper=r2.peer_id, ttl_s=100) as flow:
            await anyio.to_thread.run_sync(
                lambda: wait_until(
                    (peers["seed"].folder.parent / "asked").exists, within_s=60, what="the provider is asked"
                )
            )
            r1.kill()
            assert await flow.result() == (4,)
        provider = peers["provider"]
        ways = await anyio.to_thread.run_sync(ways_told_by, provider, variables, flow.particle.id)
        assert [(one["peer"], one["to"]) for one in ways] == [(provider.peer_id, client.peer_id)]
        assert (ways[0]["way"], ways[0]["via"]) == ("relay", r2.peer_id)
