"""``fluvial module``: components as files, and on a peer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from fluvial.commands import Invocation, common_options, pass_invocation, printable, reach_options, table

if TYPE_CHECKING:
    from fluvial.client import Client

_FILE: Final = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group()
def module() -> None:
    """Modules: WebAssembly components of which services are made."""


@module.command()
@_FILE
@reach_options
@common_options
@pass_invocation
def inspect(invocation: Invocation, file: Path, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Show what the component FILE exports, and what it needs others to give it.

    In the folder of a peer that runs, or with --relay, also which of that the peer can grant.
    """
    from fluvial.errors import FluvialError

    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import own_limits, with_client
    from fluvial_fce_wasm.cli.inspection import inspected, inspection_lines

    async def work(client: Client) -> Any:
        return {one["interface"]: one["effector"] for one in await answers.interfaces(client)}

    limits = own_limits(invocation) if relay is None else None
    effectors = None
    if relay is not None or limits is not None:
        try:
            effectors = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
        except FluvialError as error:
            click.echo(f"what the peer can grant is not known: {printable(error.message)}", err=True)
    about = inspected(file, effectors=effectors, limits=limits)
    invocation.print(about, lambda: inspection_lines(about))


@module.command()
@_FILE
@click.option("--name", default="", help="A name for people.  [default: that of the file]")
@reach_options
@common_options
@pass_invocation
def add(
    invocation: Invocation, file: Path, name: str, relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """Let the peer fetch and compile the component FILE; prints its id."""
    from fluvial_fce_wasm.cli.asking import with_client
    from fluvial_fce_wasm.remote import ask

    path = file.absolute()

    async def work(client: Client) -> Any:
        blob = await client.node.blobs.put(path)
        return await ask(client, "dist", "add_module", str(blob), name or file.stem)

    found = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    invocation.print(found, lambda: str(found))


@module.command("list")
@reach_options
@common_options
@pass_invocation
def list_(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Show the modules that the peer has."""
    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import with_client

    async def work(client: Client) -> Any:
        return await answers.modules(client)

    found = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    rows = [("MODULE", "BYTES", "NAME"), *((one["id"], f"{one['size']:,}", one["name"] or "–") for one in found)]
    invocation.print(found, lambda: table(rows))


@module.command()
@reach_options
@common_options
@pass_invocation
def interfaces(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Show the interfaces that the peer has for modules to import, and the effectors behind them."""
    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import with_client

    async def work(client: Client) -> Any:
        return await answers.interfaces(client)

    found = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    rows = [("INTERFACE", "EFFECTOR"), *((one["interface"], one["effector"]) for one in found)]
    invocation.print(found, lambda: table(rows))


@module.command()
@click.argument("module_id", metavar="MODULE")
@reach_options
@common_options
@pass_invocation
def remove(
    invocation: Invocation, module_id: str, relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """Let the peer forget MODULE, by its id; blueprints that name it and have no service go with it."""
    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import with_client
    from fluvial_fce_wasm.remote import ask

    async def work(client: Client) -> Any:
        for one in await answers.blueprints(client):
            if any(part.get("/") == module_id for part in one["dependencies"]):
                await ask(client, "dist", "remove_blueprint", one["id"])
        return await ask(client, "dist", "remove_module", module_id)

    with_client(invocation, work, relay=relay, network=network, key_file=key_file)
