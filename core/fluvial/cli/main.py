"""The root of the command line: finds commands, and turns errors into text and exit codes.

Core's own commands are in the table below; those of plugins are found by ``installed.py``.

Exit codes: 0 ok, 1 failed, 2 usage, 3 refused by policy, 4 unreachable.

This module and those of the commands import nothing heavy at their top, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from fluvial import __version__
from fluvial.cli.context import common_options
from fluvial.errors import FluvialError, Refused, Unreachable
from fluvial.strangers import escaped

COMMANDS: Final[dict[str, str]] = {
    "demo": "fluvial.cli.demo:demo",
    "init": "fluvial.cli.init:init",
    "run": "fluvial.cli.run:run",
    "call": "fluvial.cli.flow:call",
    "flow": "fluvial.cli.flow:flow",
    "particle": "fluvial.cli.particle:particle",
    "air": "fluvial.cli.air:air",
    "config": "fluvial.cli.config:config",
    "plugins": "fluvial.cli.plugins:plugins",
    "key": "fluvial.cli.key:key",
    "doctor": "fluvial.cli.doctor.command:doctor",
    "explain": "fluvial.cli.explain:explain",
    "consensus": "fluvial.cli.consensus:consensus",
    "testnet": "fluvial.cli.testnet:testnet",
}
"""Where each command of core is: ``module:object``, in the order of ``--help``. No plugin can take these names."""

_OF_PLUGINS: Final = "fluvial.cli.main.of_plugins"
"""The key under which a command line's context keeps the commands that were found, so that they are looked for once."""

EXIT_FAILED: Final = 1
EXIT_REFUSED: Final = 3
EXIT_UNREACHABLE: Final = 4


class Failure(click.ClickException):
    """A FluvialError on its way to the terminal: what, where, what next, code."""

    def __init__(self, error: FluvialError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click only reads it
        """The exit code; it says who must act."""
        if isinstance(self.error, Refused):
            return EXIT_REFUSED
        return EXIT_UNREACHABLE if isinstance(self.error, Unreachable) else EXIT_FAILED

    def show(self, file: Any = None) -> None:
        """Write the error to stderr."""
        text = escaped(str(self.error))
        if self.error.code not in text:  # errors in scripts contain the code already, behind the place
            text = f"{click.style('error', fg='red', bold=True)} {self.error.code}: {text}"
        text += f"\n    `fluvial explain {self.error.code}` says more"
        # The context, which knows about colours, is gone when an error is shown.
        click.echo(text, file=file, err=file is None, color=False if os.environ.get("NO_COLOR") else None)


class Root(click.Group):
    """The group of all commands; imports the module of a command when it is asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program.

        When it ends, Python would look through all objects for garbage several times, and take apart what it finds: a fifth of a second after
        ``fluvial run``, for memory that the system takes back anyhow. Objects that are set aside are not looked at.
        """
        atexit.unregister(gc.freeze)  # tests run many commands in one process
        atexit.register(gc.freeze)
        return super().main(*args, **kwargs)

    def _of_plugins(self, ctx: click.Context) -> Mapping[str, click.Command]:
        from fluvial.cli.deferred import commands_of_plugins

        if _OF_PLUGINS not in ctx.meta:
            ctx.meta[_OF_PLUGINS] = commands_of_plugins(COMMANDS)
        found: Mapping[str, click.Command] = ctx.meta[_OF_PLUGINS]
        return found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Core's names in the order of the table, then those of plugins."""
        return [*COMMANDS, *self._of_plugins(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or None."""
        if cmd_name not in COMMANDS:
            return self._of_plugins(ctx).get(cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write core's commands and those of plugins under headings of their own."""
        width = max(map(len, self.list_commands(ctx)))
        for heading, names in (("Commands", [*COMMANDS]), ("Commands of plugins", [*self._of_plugins(ctx)])):
            found = [(name, self.get_command(ctx, name)) for name in names]
            commands = [(name, one) for name, one in found if one is not None and not one.hidden]
            if commands:
                with formatter.section(heading):
                    room = formatter.width - 6 - width
                    formatter.write_dl([(name.ljust(width), one.get_short_help_str(room)) for name, one in commands])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors that fluvial raises on purpose become a :class:`Failure`."""
        try:
            return super().invoke(ctx)
        except FluvialError as error:
            raise Failure(error) from error


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fluvial")
@common_options
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fluvial, a peer-to-peer runtime for applications that nobody owns alone."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False
