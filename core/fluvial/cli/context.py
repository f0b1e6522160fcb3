"""What all commands share: the options ``--config``, ``--set`` and ``--json``, and how their data is printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from fluvial.strangers import escaped, printable

if TYPE_CHECKING:
    from fluvial.config import Configuration, Document

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

CONFIG_FILE: Final = "fluvial.toml"


@dataclass(slots=True)
class Invocation:
    """What the shared options of one command line say; the options may stand before or after the command."""

    config: Path | None = None
    assignments: list[str] = field(default_factory=list)
    json: bool = False
    credentials: list[bytes] = field(default_factory=list)

    def document(self, *, required: bool = True) -> Document:
        """The merged values of file, environment and ``--set``.

        Args:
            required: whether a missing ``fluvial.toml`` in the working directory is an error; a missing one that
                ``--config`` names always is.

        Raises:
            ConfigError: the file or an override cannot be read.
        """
        from fluvial.config import read

        path = self.config or Path(CONFIG_FILE)
        if self.config is None and not required and not path.exists():
            return read(None, environment=os.environ, assignments=self.assignments)
        return read(path, environment=os.environ, assignments=self.assignments)

    def configuration(self) -> Configuration:
        """The checked settings and the plugins.

        Raises:
            ConfigError: something is wrong with them.
            PluginError: a plugin failed and the config refuses to go on without it.
        """
        from fluvial.config import load

        return load(self.document())

    def print(self, data: Any, lines: Callable[[], Sequence[str]], *, styled: bool = False) -> None:
        r"""Print ``data`` as JSON if the user asked for it, else the text or the lines made for people.

        What a terminal may take for a command is written as ``\u009b`` in both, so nothing that another peer said can do harm; a line of
        JSON means the same afterwards.

        Args:
            data: for programs.
            lines: makes the text or the lines.
            styled: whether there are colours in the lines, which stay then: the caller has made :func:`~fluvial.strangers.printable` what others said.
        """
        if self.json:
            from msgspec.json import encode
            from msgspec.json import format as indent

            click.echo(escaped(indent(encode(data, enc_hook=str), indent=2).decode()))
        else:
            text = lines()
            for line in [text] if isinstance(text, str) else text:
                click.echo(line if styled else escaped(line))


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def common_options(command: CommandT) -> CommandT:
    """Give a command ``--config``, ``--set`` and ``--json``; they end up in its :class:`Invocation`."""
    for decorate in (
        click.option("--json", is_flag=True, default=None, expose_value=False, callback=_keep, help="Print JSON."),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="KEY=VALUE",
            expose_value=False,
            callback=_keep,
            help="Override a setting: section.key=value. May be repeated.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="FLUVIAL_CONFIG",
            expose_value=False,
            callback=_keep,
            help=f"The settings.  [default: ./{CONFIG_FILE}; env: FLUVIAL_CONFIG]",
        ),
    ):
        command = decorate(command)
    return command


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    invocation = ctx.ensure_object(Invocation)
    if parameter.name == "assignments":
        invocation.assignments += value
    elif value is not None and not _weaker(ctx, parameter):
        setattr(invocation, str(parameter.name), value)


def _weaker(ctx: click.Context, parameter: click.Parameter) -> bool:
    """Whether the value comes from the environment although the command line has named one before (``fluvial --config X check``)."""
    source = ctx.get_parameter_source(str(parameter.name))
    return source is click.core.ParameterSource.ENVIRONMENT and ctx.parent is not None


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns, each cell made printable; the last column has no fixed width."""
    if not rows:
        return []
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
