"""``fluvial air``: scripts and scenarios, without any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))


@click.group()
def air() -> None:
    """Check, format, show and simulate AIR scripts."""


@air.command()
@FILES
@common_options
@pass_invocation
def check(invocation: Invocation, files: tuple[Path, ...]) -> None:
    """Say whether scripts can be run, and if not, where they are wrong."""
    from fluvial.air.syntax import AirSyntaxError, parse_bytes

    verdicts: list[dict[str, Any]] = []
    for path in files:
        try:
            script = parse_bytes(path.read_bytes(), name=str(path))
        except AirSyntaxError as error:
            verdicts.append({"file": str(path), "ok": False, "error": str(error)})
        else:
            verdicts.append({"file": str(path), "ok": True, "instructions": script.size, "older_forms": script.paper})
    invocation.print(verdicts, lambda: [_verdict(verdict) for verdict in verdicts])
    if not all(verdict["ok"] for verdict in verdicts):
        raise click.exceptions.Exit(1)


def _verdict(verdict: dict[str, Any]) -> str:
    if not verdict["ok"]:
        return str(verdict["error"])
    paper = ", with older forms of the white paper" if verdict["older_forms"] else ""
    return f"{verdict['file']}: ok, {verdict['instructions']} instructions{paper}"


@air.command()
@FILES
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file is not formatted.")
def fmt(files: tuple[Path, ...], *, only_check: bool) -> None:
    """Format scripts in place; comments and spelling are kept. What cannot be run is reported and stays as it is."""
    from fluvial.air.syntax import AirSyntaxError, decode, format_text

    changed, wrong = [], False
    for path in files:
        try:
            text = decode(path.read_bytes(), name=str(path))
            _check_but_for_values(text, str(path))
        except AirSyntaxError as error:
            click.echo(str(error), err=True)
            wrong = True
            continue
        formatted = format_text(text, name=str(path))
        if formatted != text:
            changed.append(path)
            if not only_check:
                path.write_text(formatted, encoding="utf-8")
    for path in changed:
        click.echo(f"{path}: {'would be formatted' if only_check else 'formatted'}")
    if wrong or (only_check and changed):
        raise click.exceptions.Exit(1)


def _check_but_for_values(text: str, name: str) -> None:
    """Raise AirSyntaxError if a script is wrong whatever values a client gives it."""
    from fluvial.air.syntax import UndefinedName, parse

    given: list[str] = []
    while True:
        try:
            parse(text, name=name, given=given)
        except UndefinedName as error:
            given.append(error.undefined)
        else:
            return


@air.command()
@FILES
def show(files: tuple[Path, ...]) -> None:
    """Print scripts as the interpreter sees them: in today's AIR, older forms translated."""
    from fluvial.air.syntax import parse_bytes, to_text

    for path in files:
        click.echo(to_text(parse_bytes(path.read_bytes(), name=str(path)).root))


@air.command()
@FILES
@click.option("--timing", is_flag=True, help="Add what the interpreters took: runs, interpreter_ms, bytes_sent.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="With --timing: the median of so many."
)
def simulate(files: tuple[Path, ...], *, timing: bool, repeat: int) -> None:
    """Play scenario files in process and print what was observed, as one line of JSON per file."""
    import msgspec

    from fluvial.simulation.network import simulate as play
    from fluvial.simulation.scenario import Scenario

    for path in files:
        observation = msgspec.to_builtins(play(Scenario.load(path), repeat=repeat if timing else 0))
        observation |= observation.pop("timing", {})
        click.echo(msgspec.json.encode(observation).decode())
