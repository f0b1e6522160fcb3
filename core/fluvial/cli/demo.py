"""``fluvial demo``: the white paper over six processes, told while it happens and drawn afterwards."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation

NAMES = ("bob", "carol")


@click.command()
@click.option("--message", default="hello from the white paper", show_default=True, help="What alice says.")
@click.option("--aqua", is_flag=True, help="Run the paper's script in Aqua, not the one in AIR; needs fluvial-aqua.")
@click.option("--offline", type=click.Choice(NAMES), help="A member that is not there.")
@click.option("--keep", is_flag=True, help="Leave the network up until Ctrl-C, to send more messages.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".fluvial-demo"),
    show_default=True,
    help="Where the peers' folders and the drawing go.",
)
@common_options
@pass_invocation
def demo(invocation: Invocation, message: str, offline: str | None, folder: Path, *, aqua: bool, keep: bool) -> None:
    """Run the white paper on this machine: six processes that find each other, their ledger, and the chat.

    alice (a client behind a relay) is let in by a certificate, and sends a message to bob and carol; a members service and a history service help. Then she
    is revoked on the ledger, and her next message is refused; not with --keep, which says how to do that. With --json the figures are printed at the end;
    what happens is told on stderr.
    """
    from fluvial.cli import serving
    from fluvial.demo.network import Network
    from fluvial.demo.show import Show

    if aqua:
        _need_aqua()
    show = Show(
        Network.prepare(folder.absolute()), offline=offline, aqua=aqua, say=partial(click.echo, err=invocation.json)
    )
    came_as_expected = False

    async def work() -> None:
        nonlocal came_as_expected
        async with show.played(message, revoke=not keep) as came_as_expected:
            if invocation.json:
                invocation.print(show.figures, tuple)
            if keep:
                await show.keep()

    serving.run(lambda: serving.until_signalled(work))
    if not came_as_expected:
        raise click.exceptions.Exit(1)


def _need_aqua() -> None:
    from importlib.metadata import entry_points

    from fluvial.errors import PluginError

    if not entry_points(group="fluvial.commands", name="aqua"):
        raise PluginError("no compiler for Aqua is installed", hint="install it: pip install fluvial-aqua")
