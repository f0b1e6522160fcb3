"""Runs a flow written in Aqua. Give it the address of a running peer: ``FLUVIAL_RELAY=/ip4/…/p2p/12D3KooW… python ask_aqua.py``."""

import os

import anyio
import fluvial_aqua
from fluvial.client import connect
from fluvial.errors import ServiceError, Unreachable

FLOWS = fluvial_aqua.load_text("""
aqua Greeting

export greet

service Op("op"):
  concat_strings(a: string, b: string, c: string) -> string

func greet(name: string) -> string:
  on HOST_PEER_ID:
    greeting <- Op.concat_strings("Hello, ", name, "!")
  <- greeting
""")


async def main() -> str:
    """Connect, run the function once, and give back what it returns."""
    async with connect(os.environ["FLUVIAL_RELAY"]) as client:
        try:
            return str(await client.run(FLOWS.greet, name="Ada", ttl_s=20))
        except (ServiceError, Unreachable) as error:
            return f"no answer: {error}"


print(anyio.run(main))  # noqa: T201 - an example prints
