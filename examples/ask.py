"""Asks a peer for a greeting. Give it the address of a running peer: ``FLUVIAL_RELAY=/ip4/…/p2p/12D3KooW… python ask.py``."""

import os

import anyio
from fluvial.client import connect
from fluvial.errors import Unreachable

SCRIPT = """
(seq
  (call relay ("op" "concat_strings") ["Hello, " name "!"] greeting)
  (call %init_peer_id% ("return" "") [greeting]))
"""


async def main() -> str:
    """Connect, run the script once, and give back what it returns."""
    async with (
        connect(os.environ["FLUVIAL_RELAY"]) as client,
        client.run(SCRIPT, relay=client.relay_id, name="Ada", ttl_s=20) as flow,
    ):
        try:
            (greeting,) = await flow.result()
        except Unreachable as error:
            return f"no answer: {error}"
    return str(greeting)


print(anyio.run(main))  # noqa: T201 - an example prints
