"""All toys at once in two nodes: what they do there, over whatever transport, in whatever time.

Run as a program it plays under virtual time and prints a line per message; the same in every process.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from fluvial.addresses import Contact
from fluvial.memory.network import LinkQuality, Memory, Transfer
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until
from fluvial.virtual.loop import run

FOLDER: Final = Path(__file__).parent
PLUGINS: Final = {name: FOLDER / f"{name}.py" for name in ("asking", "vouching", "uploading", "clockwork")}
SECTIONS: Final[Mapping[str, Any]] = {
    "authorization": "vouching",
    "execution": "uploading",
    "extras": {"clockwork": {"period_s": 0.5}},
}
CAROL: Final = Contact.parse(f"/ip4/192.0.2.7/tcp/7771/p2p/{keys_of('carol').peer_id}")
"""A peer that bob alone has heard of, and that is away."""

NAMES: Final = {"ada": keys_of("ada").peer_id, "bob": keys_of("bob").peer_id, "carol": CAROL.peer}
BALLAST_BYTES: Final = 600_000
"""So that the module is no message: it is fetched in pieces."""


async def play(network: NodeNetwork, **sections: Any) -> None:
    """Ada asks bob for carol, they vouch, bob runs what ada has written, and their clocks beat."""
    bob = await network.start("bob", routing={"kind": "asking", "peers": [str(CAROL.addresses[0])]}, **sections)
    ada = await network.start("ada", routing={"kind": "asking", "peers": [bob.address]}, **sections)
    assert await ada.node.routing.find(CAROL.peer) == CAROL
    await _vouch(ada, bob)
    await _upload(ada, bob)
    await until(lambda: ada.metric("fluvial_messages_total", protocol="/clockwork/1", outcome="answered") >= 3)
    assert await _call(ada, bob, '("clockwork" "heard") [ada]') >= 1
    await network.stop("ada")
    await until(lambda: bob.events("neighbour_said_goodbye"))


async def _vouch(ada: RunningNode, bob: RunningNode) -> None:
    """Bob counts carol for 7, and ada counts bob for 5: so carol counts for 5 with ada."""
    assert await _call(ada, ada, '("vouch" "weight") [carol]') == 0
    await _call(bob, bob, '("vouch" "trust") [carol 7]')
    await _call(ada, ada, '("vouch" "trust") [bob 5]')
    with anyio.fail_after(30):
        while await _call(ada, ada, '("vouch" "weight") [carol]') != 5:  # noqa: ASYNC110 - a stranger to both
            await anyio.sleep(0.1)
    assert "only the node itself" in await _refusal(ada, bob, '("vouch" "trust") [ada 9]')


async def _upload(ada: RunningNode, bob: RunningNode) -> None:
    """Ada keeps a module that no particle could carry; bob fetches it from her and runs it for whom he trusts enough."""
    module = {"say": {"greet": "Hello, {}!"}, "host": {"now": "clock.now"}, "policy": {"weight": 2}}
    blob = await ada.node.blobs.put(msgspec.json.encode({**module, "ballast": "x" * BALLAST_BYTES}))
    await _call(ada, bob, f'("upload" "add") ["greeting" "{blob}"]')
    assert "counts for less" in await _refusal(ada, bob, '("greeting" "greet") ["Ada"]')
    await _call(bob, bob, '("vouch" "trust") [ada 2]')
    assert await _call(ada, bob, '("greeting" "greet") ["Ada"]') == "Hello, Ada!"
    assert isinstance(await _call(ada, bob, '("greeting" "now") []'), int)


async def _call(by: RunningNode, at: RunningNode, what: str) -> Any:
    script = f'(seq (call at {what} x) (call %init_peer_id% ("return" "") [x]))'
    async with by.run(script, at=at.peer_id, **NAMES) as flow:
        (value,) = await flow.result()
    return value


async def _refusal(by: RunningNode, at: RunningNode, what: str) -> str:
    script = f'(xor (call at {what}) (call %init_peer_id% ("return" "") [%last_error%.$.message]))'
    async with by.run(script, at=at.peer_id, **NAMES) as flow:
        (message,) = await flow.result()
    return str(message)


async def virtually(seed: int, told: list[Transfer]) -> None:
    """The story, then a minute more with some neighbours, over a network with delays."""
    memory = Memory(seed, quality=LinkQuality(latency_s=0.02, jitter_s=0.05))
    memory.watch(told.append)
    with tempfile.TemporaryDirectory() as folder:
        async with nodes(base_dir=Path(folder), plugins=PLUGINS, memory=memory, seed=seed, **SECTIONS) as network:
            await play(network)
            for name in ("ada", "dan", "eve", "fay"):
                await network.start(name, relays=[network.address("bob")], routing={"kind": "asking"})
            for name in network:
                await _call(network["ada"], network[name], f'("vouch" "weight") ["{network[name].peer_id}"]')
            await anyio.sleep(60)


def main() -> None:
    """Print every message of the story."""
    told: list[Transfer] = []
    run(virtually, 1, told)
    for one in told:
        digest = hashlib.sha256(one.payload).hexdigest()[:16]
        print(f"{one.at_s:.9f} {one.source} {one.target} {one.kind} {one.protocol} {digest}")


if __name__ == "__main__":
    sys.exit(main())
