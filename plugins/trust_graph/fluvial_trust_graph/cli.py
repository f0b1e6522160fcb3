"""``fluvial trust``: questions about statements of trust that lie in files."""

from __future__ import annotations

import json
from pathlib import Path

import click
from fluvial.errors import ConfigError

_FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True)
)


@click.group()
def trust() -> None:
    """Who trusts whom, how much, and why."""


@trust.command()
@_FILES
def evaluate(files: tuple[Path, ...]) -> None:
    """Evaluate files of vectors and print one line of JSON for each."""
    from fluvial_trust_graph.vectors import answer

    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConfigError(f"{file}: it cannot be read: {error.strerror}") from error
        click.echo(json.dumps(answer(content, where=str(file))))
