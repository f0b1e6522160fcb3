"""``fluvial service``: a service from its sources to its calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from fluvial.commands import Invocation, common_options, pass_invocation, printable, reach_options, table

if TYPE_CHECKING:
    from fluvial.client import Client

_MANIFEST: Final = click.argument(
    "manifest", type=click.Path(path_type=Path), default="service.toml", metavar="[MANIFEST]"
)
LANGUAGES: Final = ("python", "c", "js")


@click.group()
def service() -> None:
    """Services in WebAssembly: made, built, deployed, called."""


@service.command()
@click.option("--lang", type=click.Choice(LANGUAGES), default="python", show_default=True, help="In which language.")
@click.argument("name")
def new(lang: str, name: str) -> None:
    """Make a folder NAME with a small service and its manifest."""
    from fluvial_fce_wasm.cli.templates import make_service

    made = make_service(name, lang, Path.cwd())
    click.echo(f"{made.name}/ is a service: cd {made.name} && fluvial service build && fluvial service deploy")


@service.command()
@_MANIFEST
def build(manifest: Path) -> None:
    """Build the modules that MANIFEST says how to build."""
    from fluvial_fce_wasm.cli.building import build_modules

    for name, file in build_modules(manifest):
        click.echo(f"{name}: {file} ({file.stat().st_size:,} bytes)")


@service.command()
@_MANIFEST
@reach_options
@common_options
@pass_invocation
def deploy(
    invocation: Invocation, manifest: Path, relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """Deploy the service of MANIFEST, or replace the one that has its alias."""
    from fluvial_fce_wasm.cli.asking import with_client
    from fluvial_fce_wasm.remote import deploy as deploy_manifest

    async def work(client: Client) -> Any:
        return await deploy_manifest(client, manifest)

    made = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    invocation.print(
        made, lambda: printable(f"{made['alias']} is {made['service']} ({'replaced' if made['replaced'] else 'new'})")
    )


@service.command()
@click.argument("name")
@click.argument("function")
@click.argument("arguments", nargs=-1, metavar="[ARGUMENT]…")
@reach_options
@common_options
@pass_invocation
def call(
    invocation: Invocation,
    name: str,
    function: str,
    arguments: tuple[str, ...],
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Call FUNCTION of the service NAME; each ARGUMENT is JSON, or a text."""
    import msgspec

    from fluvial_fce_wasm.cli.asking import with_client
    from fluvial_fce_wasm.remote import ask

    def read(text: str) -> Any:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text

    async def work(client: Client) -> Any:
        return await ask(client, name, function, *map(read, arguments))

    answer = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    invocation.print(answer, lambda: msgspec.json.encode(answer).decode())


@service.command("list")
@reach_options
@common_options
@pass_invocation
def list_(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Show the services of the peer."""
    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import with_client

    async def work(client: Client) -> Any:
        return await answers.services(client)

    found = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    rows = [
        ("SERVICE", "NAME", "STATE", "ALIASES"),
        *(
            (one["id"], one["name"], str(one["isolation"]) if one["running"] else "idle", ", ".join(one["aliases"]))
            for one in found
        ),
    ]
    invocation.print(found, lambda: table(rows))


@service.command()
@click.argument("name")
@reach_options
@common_options
@pass_invocation
def show(invocation: Invocation, name: str, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Show the functions of the service NAME with their types."""
    from fluvial_fce_wasm.cli import answers
    from fluvial_fce_wasm.cli.asking import with_client

    async def work(client: Client) -> Any:
        about, functions = await answers.service(client, name)
        return {**about, **functions}

    found = with_client(invocation, work, relay=relay, network=network, key_file=key_file)
    invocation.print(
        found,
        lambda: [
            printable(f"{found['id']}  {found['name']}, of {found['owner']}"),
            *(f"  {printable(one['text'])}" for one in found["functions"]),
        ],
    )


@service.command()
@click.argument("name")
@reach_options
@common_options
@pass_invocation
def remove(invocation: Invocation, name: str, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Remove the service NAME with everything that it has kept."""
    from fluvial_fce_wasm.cli.asking import with_client
    from fluvial_fce_wasm.remote import ask

    async def work(client: Client) -> Any:
        return await ask(client, "srv", "remove", name)

    with_client(invocation, work, relay=relay, network=network, key_file=key_file)
