"""``fluvial aqua``: compile, check, format, simulate and run programs in Aqua."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
from fluvial.commands import (
    Invocation,
    common_options,
    keeping,
    pass_invocation,
    reach,
    reach_options,
    run_options,
)
from fluvial.commands import run as in_loop
from fluvial.strangers import escaped

if TYPE_CHECKING:
    from fluvial_aqua.compiler import CompilerOptions

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)
FILE = click.argument("file", type=_EXISTING)
FILES = click.argument("files", nargs=-1, required=True, type=_EXISTING)


@click.group()
def aqua() -> None:
    """Compile, check, format, simulate and run programs in Aqua."""


def program_options(command: CommandT) -> CommandT:
    """Give a command the options that say what a program is made of."""
    for decorate in (
        click.option(
            "--const",
            "constants",
            multiple=True,
            metavar="NAME=VALUE",
            help="A value for a constant that is defined with `?=`. May be repeated.",
        ),
        click.option("--imports", "mapping", type=_EXISTING, help="A JSON file that says where imports are."),
        click.option(
            "--import",
            "folders",
            multiple=True,
            type=click.Path(path_type=Path, file_okay=False),
            help="A folder to look for imports in. May be repeated.",
        ),
        click.option(
            "--paper-service", default="app", show_default=True, help="`def` scripts: service of plain calls."
        ),
        click.option(
            "--sender-service", default="chat", show_default=True, help="`def` scripts: service of calls on the sender."
        ),
    ):
        command = decorate(command)
    return command


def surround_options(command: CommandT) -> CommandT:
    """Give a command the options that say what is put around a function."""
    for decorate in (
        click.option("--no-relay", is_flag=True, help="For a peer that is behind no relay."),
        click.option("--no-errors", is_flag=True, help="Do not tell the host of errors that nobody catches."),
        click.option("--empty-response", is_flag=True, help="A function without results answers all the same."),
    ):
        command = decorate(command)
    return command


def _options(given: dict[str, Any]) -> CompilerOptions:
    from fluvial_aqua.checking.context import PaperOptions
    from fluvial_aqua.compiler import CompilerOptions
    from fluvial_aqua.constants import parse_constants
    from fluvial_aqua.files import import_table
    from fluvial_aqua.model.lowering import Surround

    return CompilerOptions(
        surround=Surround(
            relay=not given.get("no_relay", False),
            report_errors=not given.get("no_errors", False),
            empty_response=given.get("empty_response", False),
        ),
        imports=import_table(given["folders"], given["mapping"]),
        constants=parse_constants(given["constants"]),
        paper=PaperOptions(given["paper_service"], given["sender_service"]),
    )


@aqua.command("compile")
@FILE
@click.option("--func", "-f", "only", help="Only this function.  [default: all that are exported]")
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), help="Write NAME.air files here.")
@click.option("--source-map", is_flag=True, help="With --output: also NAME.map.json, the Aqua lines of AIR lines.")
@program_options
@surround_options
@common_options
@pass_invocation
def compile_(
    invocation: Invocation, /, file: Path, only: str | None, output: Path | None, *, source_map: bool, **given: Any
) -> None:
    """Compile the functions that FILE exports to AIR."""
    from msgspec import to_builtins

    from fluvial_aqua.files import compile_file

    compilation = compile_file(file, _options(given))
    functions = [compilation.function(only)] if only is not None else compilation.functions()
    if output is not None:
        _write(output, functions, source_map=source_map)
    report = [
        {"name": one.name, "signature": one.signature, "air": one.air, "source_map": to_builtins(one.source_map)}
        for one in functions
    ]

    def lines() -> list[str]:
        if output is not None:
            return [f"{output / one.name}.air: {one.signature}" for one in functions]
        return [f"; {one.signature}\n{one.air}" for one in functions]

    for warning in compilation.diagnostics:
        click.echo(warning.render(compilation.sources.get(warning.file)), err=True)
    invocation.print(report, lines)


def _write(folder: Path, functions: Any, *, source_map: bool) -> None:
    from msgspec.json import encode
    from msgspec.json import format as indent

    folder.mkdir(parents=True, exist_ok=True)
    for one in functions:
        (folder / f"{one.name}.air").write_text(f"; {one.signature}\n{one.air}", encoding="utf-8")
        if source_map:
            (folder / f"{one.name}.map.json").write_bytes(indent(encode(one.source_map), indent=1))


@aqua.command()
@FILES
@program_options
@common_options
@pass_invocation
def check(invocation: Invocation, /, files: tuple[Path, ...], **given: Any) -> None:
    """Say what is wrong with programs, and what is odd; ends with 1 if something is wrong."""
    from msgspec import to_builtins

    from fluvial_aqua.files import compile_file

    options = _options(given)
    found, lines = [], []
    for file in files:
        compilation = compile_file(file, options)
        for one in compilation.diagnostics:
            if one not in found:
                found.append(one)
                lines.append(one.render(compilation.sources.get(one.file)))
        if compilation.ok:
            count = len(compilation.program.exports)
            lines.append(f"{file}: ok, exports {count} function{'s' * (count != 1)}")
    invocation.print(to_builtins(found), lambda: lines)
    if any(one.severity == "error" for one in found):
        raise click.exceptions.Exit(1)


@aqua.command()
@FILES
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file is not formatted.")
def fmt(files: tuple[Path, ...], *, only_check: bool) -> None:
    """Format programs in place; comments are kept."""
    from fluvial_aqua.files import read_file
    from fluvial_aqua.formatting import format_text

    changed = []
    for path in files:
        text = read_file(str(path)) or ""
        formatted = format_text(str(path), text)
        if formatted != text:
            changed.append(path)
            if not only_check:
                path.write_text(formatted, encoding="utf-8")
    for path in changed:
        click.echo(f"{path}: {'would be formatted' if only_check else 'formatted'}")
    if only_check and changed:
        raise click.exceptions.Exit(1)


@aqua.command()
@click.argument("cases", nargs=-1, required=True, type=_EXISTING)
def simulate(cases: tuple[Path, ...]) -> None:
    """Play cases in process and print what was observed, as one line of JSON per case."""
    from msgspec.json import encode

    from fluvial_aqua.simulation import Case, play

    for path in cases:
        click.echo(encode(play(Case.load(path))).decode())


@aqua.command()
@FILE
@click.argument("func")
@program_options
@surround_options
@common_options
@pass_invocation
def explain(invocation: Invocation, /, file: Path, func: str, **given: Any) -> None:
    """Show the way of a function from peer to peer, and why each hop is there."""
    from msgspec import to_builtins

    from fluvial_aqua.explaining import route, route_text
    from fluvial_aqua.files import compile_file

    steps = route(compile_file(file, _options(given)).placed(func))
    invocation.print(to_builtins(steps), lambda: route_text(steps))


@aqua.command()
@FILE
@program_options
@common_options
@pass_invocation
def types(invocation: Invocation, /, file: Path, **given: Any) -> None:
    """List what FILE defines and exports, with types: for editors, and for those who call it."""
    from msgspec import to_builtins

    from fluvial_aqua.files import compile_file
    from fluvial_aqua.outline import outline

    compilation = compile_file(file, _options(given))
    compilation.require()
    entries = outline(compilation)
    invocation.print(to_builtins(entries), lambda: [one.text for one in entries])


@aqua.command()
@click.argument("description", type=click.File("rb"))
@click.option("--name", required=True, help="Of the service in Aqua, with a capital: Counter.")
@click.option(
    "--id", "service_id", default="", help="By which it is called, such as its alias.  [default: programs say it]"
)
def export(description: IO[bytes], name: str, service_id: str) -> None:
    """Declare a service in Aqua.

    DESCRIPTION is what `fluvial service show NAME --json` or `fluvial module inspect FILE --json` prints; - reads it from stdin.
    """
    from fluvial_aqua.exporting import declarations

    click.echo(escaped(declarations(description.read(), service=name, service_id=service_id)), nl=False)


@aqua.command()
@FILE
@click.argument("func")
@click.option(
    "--arg",
    "-a",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="An argument of the function; JSON, or a plain text. May be repeated.",
)
@click.option(
    "--until",
    multiple=True,
    metavar="SERVICE[.FUNCTION]",
    help="A call on this client that ends the run, beside the function's own result. May be repeated.",
)
@run_options
@program_options
@reach_options
@common_options
@pass_invocation
def run(
    invocation: Invocation,
    /,
    file: Path,
    func: str,
    arguments: tuple[str, ...],
    until: tuple[str, ...],
    ttl_s: float,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
    *,
    store: bool,
    log_level: str | None,
    **given: Any,
) -> None:
    """Run the function FUNC of FILE as a client and print what it returns."""
    from fluvial.client import Ending
    from msgspec.json import encode

    from fluvial_aqua.flows import load

    flow = load(file, options=_options(given))[func]
    values = flow.parse_arguments(arguments)
    flow.check_arguments(values)
    if until:
        flow = flow.until(*until)
    way = keeping(invocation, reach(invocation, relay=relay, network=network, key_file=key_file), store, log_level)

    async def main() -> Any:
        async with way.connect() as client:
            return await flow.run(client, ttl_s=ttl_s, **values)

    result = in_loop(main)
    if isinstance(result, Ending):
        report = {"ended_by": f"{result.service}.{result.function}", "result": list(result.arguments)}
        invocation.print(report, lambda: [f"{report['ended_by']}: {encode(report['result']).decode()}"])
    else:
        invocation.print({"result": result}, lambda: [] if result is None else [encode(result).decode()])


@aqua.command()
@program_options
def lsp(**given: Any) -> None:
    """Serve an editor over stdin and stdout: diagnostics, types, definitions, completion, renaming, formatting."""
    from fluvial.errors import PluginError

    options = _options(given)
    try:
        from fluvial_aqua.server import serve
    except ImportError as error:
        raise PluginError(
            f"the language server needs more: {error}", hint="install it: pip install 'fluvial-aqua[editor]'"
        ) from error
    serve(options)
