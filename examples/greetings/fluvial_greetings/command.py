"""``fluvial hello``: lets a peer greet another one."""

from pathlib import Path

import click
from fluvial.commands import Invocation, common_options, pass_invocation, reach, reach_options, table

SCRIPT = """
(seq (call relay ("greetings" "greet") [peer] word)
     (call %init_peer_id% ("return" "") [word]))
"""


@click.command()
@click.argument("peer")
@reach_options
@common_options
@pass_invocation
def hello(invocation: Invocation, peer: str, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Let the peer here greet PEER, and print what it says."""
    import anyio  # here, so that `fluvial hello --help` need not wait for it

    way = reach(invocation, relay=relay, network=network, key_file=key_file)

    async def ask() -> str:
        async with way.connect() as client, client.run(SCRIPT, relay=client.relay_id, peer=peer, ttl_s=20) as flow:
            (word,) = await flow.result()
            return str(word)

    word = anyio.run(ask)
    invocation.print({"peer": peer, "word": word}, lambda: table([(peer, word)]))
