"""``fluvial trust``: who trusts whom, how much, and why. Those commands that look read the database; those that change sign with the owner's key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from fluvial.commands import Invocation, common_options, pass_invocation, reach_options
from fluvial.errors import ConfigError

if TYPE_CHECKING:
    from fluvial.identity import PeerId

    from fluvial_trust_graph.statements import Statement

DAYS_MAX = 36_500
_EXISTING = click.Path(path_type=Path, exists=True, dir_okay=False)
_FILES = click.argument("files", nargs=-1, required=True, type=_EXISTING)
_OUT = click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="A file of credentials to write the statements to."
)
_SCOPE = click.option("--scope", default="", help="Count only trusts that are good for it.  [default: for everything]")


@click.group()
def trust() -> None:
    """Who trusts whom, how much, and why."""


def _peer(ctx: click.Context, parameter: click.Parameter, value: str | None) -> PeerId | None:
    from fluvial.identity import PeerId

    try:
        return None if value is None else PeerId.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


# --- what changes something


@trust.command()
@click.argument("subject", metavar="PEER", callback=_peer)
@click.option("--days", type=click.IntRange(1, DAYS_MAX), default=90, show_default=True, help="How long it holds.")
@click.option("--scope", "scopes", multiple=True, help="What it is good for. May be repeated.  [default: everything]")
@click.option(
    "--depth", type=click.IntRange(0, 255), default=255, help="How many further links may follow.  [default: no limit]"
)
@click.option(
    "--chain",
    "chain",
    multiple=True,
    type=_EXISTING,
    help="Credentials that lead to the issuer, put before the trust in --out.",
)
@_OUT
@reach_options
@common_options
@pass_invocation
def issue(
    invocation: Invocation,
    subject: PeerId,
    days: int,
    scopes: tuple[str, ...],
    depth: int,
    chain: tuple[Path, ...],
    out: Path | None,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """State that this peer, or that of --key, trusts PEER.

    The statement is handed to the running peer, which tells others. With --out it is also written to a file, behind the chain that leads to it: PEER
    shows this file with its flows (`fluvial flow run --credentials FILE`).
    """
    from fluvial_trust_graph import issuing

    signer = issuing.Signer.of(invocation, network=network, key_file=key_file)
    made = signer.trust(subject, days=days, scopes=scopes, depth=depth)
    if out is not None:
        before = issuing.read(chain) or [signer.trust_in_itself(days=days)]
        issuing.write(out, [*before, made])
    _hand_over(invocation, [made], relay=relay, network=network, key_file=key_file, out=out)


@trust.command()
@click.argument("subject", metavar="PEER", callback=_peer)
@_OUT
@reach_options
@common_options
@pass_invocation
def revoke(
    invocation: Invocation,
    subject: PeerId,
    out: Path | None,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Take the trust of this peer, or of that of --key, in PEER back, and ban it."""
    from fluvial_trust_graph import issuing

    made = issuing.Signer.of(invocation, network=network, key_file=key_file).revocation(subject)
    if out is not None:
        issuing.write(out, [made])
    _hand_over(invocation, [made], relay=relay, network=network, key_file=key_file, out=out)


@trust.command()
@_FILES
@reach_options
@common_options
@pass_invocation
def add(
    invocation: Invocation, files: tuple[Path, ...], relay: str | None, network: str | None, key_file: Path | None
) -> None:
    """Hand the statements in FILES, as `issue --out` writes them, to the running peer."""
    from fluvial_trust_graph import issuing

    _hand_over(invocation, issuing.read(files), relay=relay, network=network, key_file=key_file, out=None)


def _hand_over(
    invocation: Invocation,
    statements: Sequence[Statement],
    *,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
    out: Path | None,
) -> None:
    from fluvial.commands import has_peer, reach

    from fluvial_trust_graph import issuing
    from fluvial_trust_graph.service import view_of

    outcomes: Sequence[str] = ["written"] * len(statements)
    if out is None or relay is not None or has_peer(invocation):
        way = reach(invocation, relay=relay, network=network, key_file=None)
        outcomes = issuing.push(way, statements)
    data = [{"outcome": outcome, **_plain(view_of(one))} for outcome, one in zip(outcomes, statements, strict=True)]
    invocation.print(data, lambda: [f"{one['outcome']}: {_line(one)}" for one in data])
    if any(outcome in issuing.REFUSED for outcome in outcomes):
        raise click.exceptions.Exit(1)


# --- what looks


@trust.command("list")
@click.argument("peer", required=False, callback=_peer)
@click.option("--limit", type=click.IntRange(1), default=1_000, show_default=True, help="How many at most.")
@common_options
@pass_invocation
def list_(invocation: Invocation, peer: PeerId | None, limit: int) -> None:
    """List the statements that this peer keeps; with PEER, those by it and about it."""
    from itertools import islice

    from fluvial_trust_graph import looking
    from fluvial_trust_graph.service import view_of

    known = looking.known(invocation)
    found = (one for one in known.statements() if peer is None or peer in (one.issuer, one.subject))
    data = [_plain(view_of(one)) for one in islice(found, limit)]
    invocation.print(data, lambda: [_line(one) for one in data] or ["no statements are here"])


@trust.command()
@click.argument("peer", callback=_peer)
@_SCOPE
@common_options
@pass_invocation
def weight(invocation: Invocation, peer: PeerId, scope: str) -> None:
    """Print how much PEER counts for this peer."""
    from fluvial_trust_graph import looking

    found = looking.known(invocation).weight_for(peer, looking.scope_of(scope))
    invocation.print({"peer": peer, "weight": found}, lambda: str(found))


@trust.command()
@click.argument("peers", nargs=-1, required=True, metavar="[A] B | FILE VIA PEER")
@_SCOPE
@common_options
@pass_invocation
def explain(invocation: Invocation, peers: tuple[str, ...], scope: str) -> None:
    """Explain the weight of B for this peer: the chain and the arithmetic, or the reason for zero.

    With A, by chains that contain A. With three arguments, FILE is a snapshot file of vectors, and VIA and PEER are names of it; for all
    chains, name PEER twice.
    """
    if len(peers) == 3:
        said = _explained_vector(*peers)
    elif len(peers) <= 2:
        said = _explained(invocation, [_parsed(text) for text in peers], scope)
    else:
        raise click.UsageError("give [A] B, or FILE VIA PEER")
    invocation.print(said, lambda: "\n".join((f"{peers[-1]} has weight {said['weight']}", *said["steps"])))


def _explained(invocation: Invocation, peers: Sequence[PeerId], scope: str) -> dict[str, Any]:
    from fluvial_trust_graph import looking
    from fluvial_trust_graph.explaining import explain, explain_weight

    evaluation = looking.known(invocation).evaluation(looking.scope_of(scope))
    found = explain_weight(evaluation, peers[0]) if len(peers) == 1 else explain(evaluation, peers[0], peers[1])
    return {"peer": found.peer, "weight": found.weight, "chain": list(found.chain), "steps": list(found.steps)}


def _explained_vector(file: str, via: str, peer: str) -> dict[str, Any]:
    from fluvial_trust_graph.vectors import explained

    return explained(_content(Path(file)), via, peer, where=file)


def _parsed(text: str) -> PeerId:
    from fluvial.identity import PeerId

    try:
        return PeerId.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@trust.command()
@click.argument("peer", callback=_peer)
@click.option("--hops", type=click.IntRange(1, 5), default=2, show_default=True, help="How far to go from PEER.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "svg"]),
    help="How to draw.  [default: by the suffix of --output, or mermaid]",
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file to write instead of printing.")
@_SCOPE
@common_options
@pass_invocation
def graph(invocation: Invocation, peer: PeerId, hops: int, form: str | None, output: Path | None, scope: str) -> None:
    """Draw who trusts and who bans whom around PEER."""
    from fluvial_trust_graph import drawing, looking

    found = drawing.neighbourhood(looking.known(invocation), peer, hops=hops, scope=looking.scope_of(scope))
    form = form or ("svg" if output is not None and output.suffix.lower() == ".svg" else "mermaid")
    text = drawing.svg(found) if form == "svg" else drawing.mermaid(found)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: this cannot be written: {error.strerror}") from error
    click.echo(f"wrote {output}", err=True)


# --- vectors


@trust.command()
@_FILES
def evaluate(files: tuple[Path, ...]) -> None:
    """Evaluate files of vectors and print one line of JSON for each."""
    from fluvial_trust_graph.vectors import answer

    for file in files:
        click.echo(json.dumps(answer(_content(file), where=str(file))))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: it cannot be read: {error.strerror}") from error


def _plain(view: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


def _line(view: dict[str, Any]) -> str:
    from fluvial_trust_graph.looking import day

    since = f"since {day(view['issued_at'])}"
    if view["kind"] == "revocation":
        return f"{view['issuer']} bans {view['subject']} {since}"
    for_what = f" for {', '.join(view['scopes'])}" if view["scopes"] else ""
    return f"{view['issuer']} trusts {view['subject']}{for_what} {since} until {day(view['expires_at'])}"
