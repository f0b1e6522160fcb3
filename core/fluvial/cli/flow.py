"""``fluvial flow run`` and ``fluvial call``: particles from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation
from fluvial.cli.ledger_options import peer_called, peer_or_name
from fluvial.cli.reaching import TTL_S, Reach, keeping, reach, reach_options, run_options

if TYPE_CHECKING:
    from fluvial.client import Ending, Flow
    from fluvial.particles.notice import Notice

_CALL: Final = re.compile(r"\s*([^\s.()]+)\.([^\s()]+)\s*\((.*)\)\s*", re.DOTALL)


@click.group()
def flow() -> None:
    """Run flows."""


@flow.command("run")
@click.argument("file", type=click.File("rb"))
@click.option(
    "--arg",
    "-a",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for a name that the script reads or loads; JSON, or a plain text. May be repeated.",
)
@click.option(
    "--until",
    multiple=True,
    default=("return",),
    metavar="SERVICE[.FUNCTION]",
    help="A call on this client that ends the run. May be repeated.  [default: return]",
)
@click.option("--id", "particle_id", help="The particle's id.  [default: a UUID]")
@run_options
@reach_options
@common_options
@pass_invocation
def run(
    invocation: Invocation,
    file: Any,
    arguments: tuple[str, ...],
    until: tuple[str, ...],
    ttl_s: float,
    particle_id: str | None,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
    *,
    store: bool,
    log_level: str | None,
) -> None:
    """Run the AIR script in FILE as a client and print what it returns.

    A script hands its results back with (call %init_peer_id% ("return" "") [...]).
    """
    from fluvial.air.syntax import decode
    from fluvial.script_values import with_values

    script = decode(file.read(), name=file.name)
    values = dict(_argument(text) for text in arguments)
    with_values(script, values, name=file.name)
    way = keeping(invocation, reach(invocation, relay=relay, network=network, key_file=key_file), store, log_level)
    ending, flow = _run(way, script, values, until, ttl_s, particle_id)
    found_id = flow.particle_id
    report = {
        "particle": found_id,
        "ended_by": f"{ending.service}.{ending.function}",
        "result": list(ending.arguments),
        **({"notices": [_notice(notice) for notice in flow.notices]} if flow.notices else {}),
    }
    invocation.print(report, lambda: _lines(ending, default=until == ("return",)))
    if not invocation.json:
        click.echo(f"particle {found_id}", err=True)  # what is on stdout is the result, for `| jq`


@click.command()
@click.argument("expression", metavar="CALL")
@click.option(
    "--on",
    "peer",
    metavar="PEER",
    callback=peer_or_name,
    help="The peer that is called: its id, or a name on the relay's ledger that stands for it.  [default: the relay]",
)
@click.option(
    "--ttl", "ttl_s", type=click.FloatRange(min=0.001), default=TTL_S, show_default=True, help="Seconds to live."
)
@reach_options
@common_options
@pass_invocation
def call(
    invocation: Invocation,
    expression: str,
    peer: str | None,
    ttl_s: float,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Call one function of a service and print its result: fluvial call 'weather.temperature("Oslo")'."""
    import msgspec

    from fluvial.addresses import Contact
    from fluvial.single_call import SingleCall

    service, function, given = _parsed(expression)
    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    called = Contact.parse(way.relay).peer if peer is None else peer_called(invocation, way, peer)
    asked = SingleCall(called, service, function, tuple(given))
    ending, _ = _run(way, asked.script, asked.values, ("return",), ttl_s, None)
    answer = asked.result(ending.function, ending.arguments)
    invocation.print(answer, lambda: [msgspec.json.encode(answer).decode()])


def _run(
    way: Reach, script: str, values: dict[str, Any], until: tuple[str, ...], ttl_s: float, particle_id: str | None
) -> tuple[Ending, Flow]:
    """Run the flow and return the call that ended it; failure notices are printed to stderr as they arrive, but for the one that ends it."""
    import anyio

    from fluvial.cli import serving
    from fluvial.client import notice_text

    async def say(running: Flow) -> None:
        async for notice in running.listen():
            if notice is not running.stopped_by:  # the error says what it says
                click.echo(f"notice: {notice_text(notice)}", err=True)

    async def work() -> tuple[Ending, Flow]:
        async with (
            way.connect() as client,
            client.run(script, ttl_s=ttl_s, particle_id=particle_id, until=until, **values) as running,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(say, running)
            ending = await running.ending()
            tasks.cancel_scope.cancel()
        return ending, running

    return serving.run(work)


def _notice(notice: Notice) -> dict[str, Any]:
    return {
        "peer": notice.peer_id,
        "kind": notice.kind,
        "code": notice.code,
        "message": notice.message,
        "instruction": notice.instruction,
        "at": notice.position,
        "at_ms": notice.at_ms,
    }


def _lines(ending: Ending, *, default: bool) -> list[str]:
    import msgspec

    texts = [msgspec.json.encode(argument).decode() for argument in ending.arguments]
    return texts if default else [f"{ending.service}.{ending.function}({', '.join(texts)})"]


def _argument(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise click.UsageError(f"--arg {text!r}: expected NAME=VALUE")
    return name, _value(value)


def _value(text: str) -> Any:
    """JSON, or the text itself if it is none."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _parsed(expression: str) -> tuple[str, str, list[Any]]:
    import msgspec

    found = _CALL.fullmatch(expression)
    try:
        if found is None:
            raise ValueError("it does not have the form SERVICE.FUNCTION(ARGUMENTS)")
        if '"' in found[1] + found[2]:
            raise ValueError("names of services and functions have no quotes")
        return found[1], found[2], msgspec.json.decode(f"[{found[3]}]", type=list[Any])
    except (ValueError, msgspec.MsgspecError) as error:
        raise click.UsageError(f"{expression!r} is no call: {error}; write 'weather.temperature(\"Oslo\")'") from error
