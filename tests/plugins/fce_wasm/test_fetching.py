"""Modules that a blueprint names come from whoever has them, found through the directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.testing.nodes import NodeNetwork, keys_of, nodes
from fluvial.virtual.loop import BACKEND

from tests.plugins.fce_wasm.deploying import ask, deployed, refusal

ADA = str(keys_of("ada").peer_id)
EXECUTION = {"kind": "wasm", "deployers": [ADA]}


@pytest.fixture
def anyio_backend() -> Any:
    return BACKEND


async def start(network: NodeNetwork, *names: str) -> None:
    await network.start("seed", routing={"kind": "kademlia"}, execution=EXECUTION)
    for name in names:
        routing = {"kind": "kademlia", "peers": [network.address("seed")]}
        await network.start(name, routing=routing, execution=EXECUTION)


async def test_modules_come_from_a_peer_that_neither_the_caller_nor_the_deployer_has_named(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        await start(network, "author", "ada", "y", "z")
        author, ada = network["author"], network["ada"]
        service = await deployed(author, author, "counter", "store", "front")
        blueprint = (await ask(ada, author, "srv info", service))["blueprint"]
        await anyio.sleep(10)
        made = await ask(ada, network["y"], "srv create", blueprint)
        assert await ask(ada, network["y"], f"{made} bump") == 1
        await anyio.sleep(10)
        await network.stop("author")
        again = await ask(ada, network["z"], "srv create", blueprint)  # from the peer that has fetched them
        assert await ask(ada, network["z"], f"{again} label", "hé") == "hé"


async def test_what_nobody_has_is_refused_with_its_id_and_nothing_is_left_behind(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path, blobs={"download_timeout_s": 5}) as network:
        await start(network, "author", "ada", "y")
        author, ada, y = network["author"], network["ada"], network["y"]
        service = await deployed(author, author, "counter", "store", "front")
        blueprint = (await ask(ada, author, "srv info", service))["blueprint"]
        await network.stop("author")
        code, text = await refusal(ada, y, "srv create", blueprint)
        assert code == 503
        assert blueprint in text
        assert await ask(ada, y, "srv list") == []
        assert await ask(ada, y, "dist list_modules") == []
