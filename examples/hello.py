"""``fluvial hello``: asks a peer who it is."""

from pathlib import Path
from typing import Any

import click
from fluvial.commands import Invocation, common_options, pass_invocation, reach, reach_options, table

SCRIPT = """
(seq (call relay ("peer" "identify") [] info)
     (call %init_peer_id% ("return" "") [info]))
"""


@click.command()
@reach_options
@common_options
@pass_invocation
def hello(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Ask a peer who it is."""
    import anyio  # here, so that `fluvial hello --help` need not wait for it

    way = reach(invocation, relay=relay, network=network, key_file=key_file)

    async def ask() -> dict[str, Any]:
        async with way.connect() as client, client.run(SCRIPT, relay=client.relay_id, ttl_s=5) as flow:
            (info,) = await flow.result()
            return {"peer": client.relay_id, "version": info["node_version"]}

    answer = anyio.run(ask)
    invocation.print(answer, lambda: table([(name, str(value)) for name, value in answer.items()]))
