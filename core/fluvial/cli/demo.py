"""``fluvial demo``: the white paper's chat over six processes, reported while it happens and drawn afterwards."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation

if TYPE_CHECKING:
    from fluvial.demo.network import Network
    from fluvial.demo.telling import Tally, Teller
    from fluvial.story.story import Story

NAMES = ("bob", "carol")

Say: TypeAlias = Callable[[str], None]
"""Prints a line for people."""


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
    """Run the white paper's chat over six processes on this machine.

    alice (a client behind a relay) sends a message to bob and carol; a members service and a history service help. With --json the
    figures are printed at the end; what happens is told on stderr.
    """
    from fluvial.cli import serving
    from fluvial.demo.network import Network
    from fluvial.demo.telling import Teller
    from fluvial.story.merging import merge_stories

    if aqua:
        _need_aqua()
    network = Network.prepare(folder.absolute())
    say = partial(click.echo, err=invocation.json)
    came_as_expected = False

    async def work() -> None:
        nonlocal came_as_expected
        teller = Teller(network.names, say, lambda text, colour: click.style(text, fg=colour))
        async with network.running(offline, teller.hear) as seconds:
            _introduce(network, seconds, offline, say)
            teller.begin()
            delivered = await _send(network, teller, message, ttl_s=6 if offline else 30, aqua=aqua)
            _sum_up(teller.tally, delivered, offline, say)
            page = _draw(network, merge_stories(await _stories(network)), say)
            if invocation.json:
                invocation.print(_figures(network, teller.tally, page, delivered=delivered, offline=offline), tuple)
            lost = set(teller.tally.unreachable)
            came_as_expected = delivered if offline is None else not delivered and lost == {offline}
            if keep:
                await _keep(network, say, aqua=aqua)

    serving.run(lambda: serving.until_signalled(work))
    if not came_as_expected:
        raise click.exceptions.Exit(1)


def _need_aqua() -> None:
    from importlib.metadata import entry_points

    from fluvial.errors import PluginError

    if not entry_points(group="fluvial.commands", name="aqua"):
        raise PluginError("no compiler for Aqua is installed", hint="install it: pip install fluvial-aqua")


def _introduce(network: Network, seconds: float, offline: str | None, say: Say) -> None:
    from fluvial.demo.network import SERVERS

    up = len(SERVERS) - (offline is not None)
    say(
        f"{up} peers up in {seconds:.1f} s on 127.0.0.1 (tcp, tls 1.3, ed25519); "
        f"data in {network.folder}, alice is the {_ordinal(up + 1)} process\n"
    )


async def _send(network: Network, teller: Teller, message: str, *, ttl_s: float, aqua: bool) -> bool:
    """Run the flow in alice's process; True if the chat reported that the message was delivered."""
    import anyio

    from fluvial.demo.network import INITIATOR, events, stop

    words = [*network.flow_command(message, ttl_s=ttl_s, aqua=aqua), "--store", "--log", "debug", "--json"]
    async with await anyio.open_process(
        [sys.executable, "-m", "fluvial", *words], stdin=None, start_new_session=True
    ) as process:
        output = b""

        async def read() -> None:
            nonlocal output
            assert process.stdout is not None
            async for chunk in process.stdout:
                output += chunk

        try:
            async with anyio.create_task_group() as reading:
                reading.start_soon(read)
                async for event in events(process):
                    await teller.hear(INITIATOR, event)
            await process.wait()
        finally:
            await stop(process)
    return b"chat.delivered" in output


def _sum_up(tally: Tally, delivered: bool, offline: str | None, say: Say) -> None:
    figures = (
        f"{tally.calls} calls, {tally.hops} hops (longest path {tally.longest_path}), {tally.bytes:,} bytes, "
        f"{tally.signatures} signatures checked, {(tally.last_s - tally.first_s) * 1000:.0f} ms"
    )
    if delivered:
        say(f"\n{click.style('✓ delivered', fg='green', bold=True)} to bob and carol: {figures}")
        return
    lost = ", ".join(f"{name} ({error})" for name, error in tally.unreachable.items()) or "nobody"
    mark = click.style("✗ not delivered to everybody", fg="yellow", bold=True)
    say(f"\n{mark}: {figures}\n  lost on the way to: {lost}")
    if offline:
        say(f"  {offline} was offline; the others have the message, and every peer is well")


def _figures(network: Network, tally: Tally, page: Path, *, delivered: bool, offline: str | None) -> dict[str, Any]:
    return {
        "delivered": delivered,
        "offline": offline,
        "calls": tally.calls,
        "hops": tally.hops,
        "longest_path": tally.longest_path,
        "bytes": tally.bytes,
        "signatures": tally.signatures,
        "took_ms": round((tally.last_s - tally.first_s) * 1000),
        "unreachable": tally.unreachable,
        "folder": str(network.folder),
        "drawing": str(page),
        "peers": {name: peer for peer, name in network.names.items()},
    }


async def _stories(network: Network) -> list[Story]:
    """The story of the chat as each peer has stored it: of the particle that the relay had last."""
    from fluvial.config import load, read
    from fluvial.storage import open_store
    from fluvial.story.story import tell

    stories: list[Story] = []
    for member in network.members.values():
        settings = load(read(member.config)).settings
        if not (member.folder / "state" / "fluvial.db").exists():
            continue
        async with open_store(settings.storage_url, base_dir=settings.base_dir, read_only=True) as store:
            for summary in await store.particles.recent(1):
                if (stored := await store.particles.load(summary.key)) is not None:
                    handed = await store.particles.handed(summary.key)
                    stories.append(tell(stored, member.peer_id, handed))
    last = next((one.particle_id for one in stories if one.told_by == network.members["relay"].peer_id), None)
    return [one for one in stories if last in (None, one.particle_id)]


def _draw(network: Network, story: Story, say: Say) -> Path:
    from fluvial.story.html import render as html
    from fluvial.story.svg import render as svg

    page, picture = network.folder / "chat.html", network.folder / "chat.svg"
    page.write_text(html(story, names=network.names), encoding="utf-8")
    picture.write_text(svg(story, names=network.names), encoding="utf-8")
    say(f"  drawn from the peers' stores: {page}")
    say(f"  the same as text: fluvial particle list --config {network.members['relay'].config}")
    return page


async def _keep(network: Network, say: Say, *, aqua: bool) -> None:
    import anyio

    command = shlex.join(["fluvial", *network.flow_command("hello again", ttl_s=30, aqua=aqua)])
    say(f"\nThe network stays up. Send more messages with:\n\n  {command}\n\nCtrl-C ends it.")
    await anyio.sleep_forever()


def _ordinal(number: int) -> str:
    return {5: "fifth", 6: "sixth"}.get(number, f"{number}th")
