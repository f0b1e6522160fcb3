"""A crowd that joins with ids nearest to a key and names each other alone: ``python -m tests.support.dht_crowd SEED KEY COUNT``, until it is ended."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import anyio
import structlog
from fluvial.addresses import Contact
from fluvial.config import from_values, load
from fluvial.node import running
from fluvial.plugins import load_plugins
from fluvial_dht_kademlia.machine.challenges import open_challenge

from tests.support.dht_lies import Liars, keys_near, names_accomplices
from tests.support.processes import NETWORK

TRIES_EACH: Final = 256
"""Key pairs that are made for each id."""


async def join(seed: str, key: str, count: int) -> None:
    """Join, say so, and lie."""
    liars = Liars(names_accomplices)
    plugins = load_plugins(given={"liars": liars})
    values = {
        "network": NETWORK,
        "transport": {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]},
        "routing": {"kind": "liar", "peers": [seed]},
        "storage": {"url": "sqlite://"},
        "blobs": {"folder": ""},
    }
    configuration = load(from_values(values, base_dir=Path()), plugins=plugins)
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    async with AsyncExitStack() as stack:
        for keys in keys_near(open_challenge(key).key, count, of=count * TRIES_EACH):
            node = await stack.enter_async_context(running(configuration, keys=keys, log=log))
            liars.accomplices.append(Contact(node.peer_id, tuple(node.addresses)))
        await anyio.sleep(2)
        print("joined", flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(join, sys.argv[1], sys.argv[2], int(sys.argv[3]))
