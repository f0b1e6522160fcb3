"""``fluvial init``: a settings file and a key for a new peer."""

from __future__ import annotations

from pathlib import Path

import click

from fluvial.cli.context import CONFIG_FILE, Invocation, common_options, pass_invocation


@click.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where to write; made if missing.  [default: the working directory]",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="An address to listen on, such as /ip4/127.0.0.1/tcp/7771. May be repeated; without it the peer only dials out.",
)
@common_options
@pass_invocation
def init(invocation: Invocation, folder: Path, listen: tuple[str, ...]) -> None:
    """Write a commented fluvial.toml and the peer's key.

    Nothing is ever overwritten: an existing key is kept, an existing fluvial.toml is an error.
    """
    from fluvial.addresses import Address
    from fluvial.config.settings import SEATS_OF_NEW_PEERS
    from fluvial.config.template import render
    from fluvial.errors import ConfigError
    from fluvial.identity import KeyPair
    from fluvial.plugins import load_plugins

    for address in listen:
        try:
            Address.parse(address)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--listen") from error
    settings, key_file = folder / CONFIG_FILE, folder / "secrets" / "peer.key"
    plugins = load_plugins()
    chosen: dict[str, dict[str, object]] = {
        seat: {"kind": kind} for seat, kind in SEATS_OF_NEW_PEERS.items() if len(plugins.offers_of(seat, kind)) == 1
    }
    if listen:
        chosen["transport"] = {"listen": list(listen)}
    text = render(plugins, chosen)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with settings.open("x", encoding="utf-8") as file:
            file.write(text)
        key_file.parent.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(
            f"{settings}: this file is there already", hint="move it away, or choose another --dir"
        ) from error
    except OSError as error:
        raise ConfigError(f"{error.filename}: this cannot be written: {error.strerror}") from error
    kept = key_file.exists()
    if kept:
        keys = KeyPair.load(key_file)
    else:
        keys = KeyPair.generate()
        keys.save(key_file)
    command = "fluvial" if folder == Path() else f"fluvial --config {settings}"
    data = {"config": str(settings), "key_file": str(key_file), "peer_id": keys.peer_id, "key_kept": kept}
    invocation.print(
        data,
        lambda: [
            f"wrote {settings}" + (f"; kept {key_file}" if kept else f", {key_file} (0600)"),
            f"this peer is {keys.peer_id}",
            f"next: {command} doctor, then {command} run",
        ],
    )
