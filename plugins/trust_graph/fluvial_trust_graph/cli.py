"""``fluvial trust``: questions about statements of trust that lie in files."""

from __future__ import annotations

import json
from pathlib import Path

import click
from fluvial.commands import Invocation, common_options, pass_invocation
from fluvial.errors import ConfigError

_EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)
_FILES = click.argument("files", nargs=-1, required=True, type=_EXISTING)
_FILE = click.argument("file", type=_EXISTING)


@click.group()
def trust() -> None:
    """Who trusts whom, how much, and why."""


@trust.command()
@_FILES
def evaluate(files: tuple[Path, ...]) -> None:
    """Evaluate files of vectors and print one line of JSON for each."""
    from fluvial_trust_graph.vectors import answer

    for file in files:
        click.echo(json.dumps(answer(_content(file), where=str(file))))


@trust.command()
@_FILE
@click.argument("via")
@click.argument("peer")
@common_options
@pass_invocation
def explain(invocation: Invocation, file: Path, via: str, peer: str) -> None:
    """Explain the weight of PEER by chains that contain VIA.

    FILE is a snapshot file of vectors; VIA and PEER are names of it. For all chains, name PEER twice.
    """
    from fluvial_trust_graph.vectors import explained

    said = explained(_content(file), via, peer, where=str(file))
    invocation.print(said, lambda: "\n".join((f"{peer} has weight {said['weight']}", *said["steps"])))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: it cannot be read: {error.strerror}") from error
