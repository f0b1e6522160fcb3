"""The demo's services in WebAssembly: who is in the chat, and what was said."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fluvial.testing.nodes import RunningNode, keys_of, nodes
from wasmtime import wat2wasm

from tests.plugins.fce_wasm.deploying import ask, refusal

GRANT = {"effector": "kv", "owners": [str(keys_of("bob").peer_id)], "settings": {"bytes_max": 600}}
SECTIONS = {"extras": {"kv": {}}, "execution": {"kind": "wasm", "grants": [GRANT]}}


async def deploy(bob: RunningNode, name: str) -> None:
    text = (files("fluvial.demo") / name / f"{name}.wat").read_text()
    blob = await bob.node.blobs.put(bytes(wat2wasm(text)))
    blueprint = await ask(bob, bob, "dist add_blueprint", {"name": name, "dependencies": [{"/": str(blob)}]})
    await ask(bob, bob, "srv add_alias", name, await ask(bob, bob, "srv create", blueprint))


async def test_members_are_added_found_and_listed(tmp_path: Path) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path, **SECTIONS) as network:
        ada, bob = network["ada"], network["bob"]
        await deploy(bob, "members")
        assert await ask(ada, bob, "members list") == []
        assert await ask(ada, bob, "members is_member") is False
        await ask(ada, bob, "members add", ada.peer_id)
        await ask(ada, bob, "members add", ada.peer_id)
        assert await ask(ada, bob, "members is_member") is True
        assert await ask(bob, bob, "members is_member") is False
        assert await ask(bob, bob, "members is_member", ada.peer_id) is True
        await ask(ada, bob, "members add", bob.peer_id)
        assert await ask(ada, bob, "members list") == sorted([ada.peer_id, bob.peer_id])
        assert (await refusal(ada, bob, "members is_member", ada.peer_id, 1))[0] == 4
        assert (await refusal(ada, bob, "members add", "x" * 600))[0] == 101


async def test_messages_are_numbered_and_kept(tmp_path: Path) -> None:
    kept = {"storage": {"url": f"sqlite:///{tmp_path}/bob.db"}, "blobs": {"folder": "blobs"}}
    async with nodes(base_dir=tmp_path) as network:
        bob = await network.start("bob", **SECTIONS, **kept)
        await deploy(bob, "history")
        for number in range(1, 13):
            assert await ask(bob, bob, "history message_sent", f"é {number}") == number
        await network.stop("bob")
        bob = await network.start("bob", **SECTIONS, **kept)
        assert await ask(bob, bob, "history message_sent", "") == 13
        told = [await ask(bob, bob, "history message", number) for number in (0, 1, 12, 13, 14)]
        assert told == [None, "é 1", "é 12", "", None]
        assert (await refusal(bob, bob, "history message_sent", "x" * 600))[0] == 101
        assert await ask(bob, bob, "history message_sent", "still the next") == 14
