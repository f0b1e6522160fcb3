"""``fluvial run``: the peer of a ``fluvial.toml``, until it is told to stop."""

from __future__ import annotations

import os

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation


@click.command()
@common_options
@pass_invocation
def run(invocation: Invocation) -> None:
    """Run the peer until SIGINT or SIGTERM."""
    from fluvial.cli.lean import import_structlog
    from fluvial.garbage import no_collecting

    _open_missing_streams()
    with no_collecting():
        import_structlog()
        _run(invocation)


def _open_missing_streams() -> None:
    """Take the numbers of standard streams that are closed: a file or connection that got one would be written to by whoever writes to that stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _run(invocation: Invocation) -> None:
    from fluvial.cli import serving
    from fluvial.cli.process_end import ProcessEnd
    from fluvial.node import Node

    configuration = invocation.configuration()
    node = Node(configuration)
    ending = ProcessEnd(node.log)
    try:
        serving.run(lambda: serving.serve(node, ending), configuration.settings.event_loop)
    finally:
        ending.loop_closed()
