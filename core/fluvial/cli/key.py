"""``fluvial key``: the peer's identity."""

from __future__ import annotations

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation


@click.group()
def key() -> None:
    """Look at the peer's key."""


@key.command()
@common_options
@pass_invocation
def show(invocation: Invocation) -> None:
    """Print the peer's id and public key; the private key is never shown."""
    from fluvial.identity import KeyPair

    path = invocation.configuration().settings.key_file
    keys = KeyPair.load(path)
    data = {"peer_id": keys.peer_id, "public_key": keys.public_key.hex(), "key_file": str(path)}
    invocation.print(
        data, lambda: [f"peer id     {keys.peer_id}", f"public key  {keys.public_key.hex()}", f"key file    {path}"]
    )
