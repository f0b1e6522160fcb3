"""``fluvial run``: the peer of a ``fluvial.toml``, until it is told to stop."""

from __future__ import annotations

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation


@click.command()
@common_options
@pass_invocation
def run(invocation: Invocation) -> None:
    """Run the peer until SIGINT or SIGTERM."""
    import anyio

    from fluvial.cli.serving import serve_until_signalled
    from fluvial.node import Node

    node = Node(invocation.configuration())
    anyio.run(serve_until_signalled, node)
