"""``fluvial consensus``: the ledger that a running peer holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation, table
from fluvial.cli.reaching import reach, reach_options

if TYPE_CHECKING:
    from fluvial.identity import PeerId
    from fluvial.ledger.transactions import Body


@click.group()
def consensus() -> None:
    """The ledger that a running peer holds."""


def _peer(ctx: click.Context, parameter: click.Parameter, value: str | None) -> PeerId | None:
    from fluvial.identity import PeerId

    try:
        return None if value is None else PeerId.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


# --- what looks


@consensus.command()
@reach_options
@common_options
@pass_invocation
def status(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Print where the peer's ledger stands, and what the peer does for it."""
    from fluvial.cli import ledger_calls

    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    found = ledger_calls.ask(way, "status")
    invocation.print(found, lambda: table([(name, str(value)) for name, value in found.items()]))


@consensus.command()
@reach_options
@common_options
@pass_invocation
def validators(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """List who decides about the next block, and with how many votes."""
    from fluvial.cli import ledger_calls

    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    found = ledger_calls.ask(way, "validators")
    invocation.print(found, lambda: table([(one["peer"], str(one["power"])) for one in found]))


@consensus.command()
@click.argument(
    "module",
    type=click.Choice(["accounts", "names", "perimeters", "licences", "revocations", "validators", "parameters"]),
)
@click.argument("key", required=False, default="")
@click.option(
    "--genesis",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The ledger's first file, which the proof is checked with.  [default: that of the settings]",
)
@reach_options
@common_options
@pass_invocation
def query(
    invocation: Invocation,
    module: str,
    key: str,
    genesis: Path | None,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Print what the ledger says of KEY, or that it says nothing, and check the proof of that.

    KEY is a peer id for accounts, a name for names, hexadecimal for perimeters and licences, ISSUER:SUBJECT for
    revocations; validators and parameters have none.
    """
    from fluvial.cli import ledger_calls

    first = ledger_calls.genesis_of(invocation, genesis)
    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    place = ledger_calls.key_of(module, key, way.network)
    found = ledger_calls.proven(way, first, module, place)
    invocation.print(
        found,
        lambda: [
            f"{module} {key}".rstrip() + f", proven as of height {found['height']}:",
            ledger_calls.shown(found["value"]) if found["value"] is not None else "nothing",
        ],
    )


@consensus.command()
@reach_options
@common_options
@pass_invocation
def explain(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Name the validators that have lied, and show the two signatures that convict each."""
    from fluvial.cli import ledger_calls

    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    found = ledger_calls.offences(way)
    invocation.print(
        found, lambda: [line for one in found for line in ledger_calls.told(one)] or ["no validator was caught"]
    )


# --- what changes something


@consensus.group()
def submit() -> None:
    """Bring a transaction onto the ledger, and wait until it is in a final block."""


def _send(
    invocation: Invocation, body: Body, relay: str | None, network: str | None, key_file: Path | None, fee_max: int
) -> None:
    from fluvial.cli import ledger_calls

    keys = ledger_calls.keys_of(invocation, key_file)
    way = ledger_calls.way_of(invocation, keys, relay=relay, network=network, key_file=key_file)
    _say(invocation, ledger_calls.through(way, lambda ledger: ledger.submit(keys, [body], fee_max=fee_max))[-1])


def _say(invocation: Invocation, done: Any) -> None:
    failed = f", without effect: {done['failed']}" if done["failed"] else ""
    invocation.print(done, lambda: [f"{done['transaction']} is in block {done['height']}{failed}"])
    if done["failed"]:
        raise click.exceptions.Exit(1)


_FEE = click.option(
    "--fee-max", type=click.IntRange(0), default=0, show_default=True, help="The highest fee, in units."
)


@submit.command()
@click.argument("to", metavar="PEER", callback=_peer)
@click.argument("units", type=click.IntRange(0))
@_FEE
@reach_options
@common_options
@pass_invocation
def transfer(
    invocation: Invocation,
    to: PeerId,
    units: int,
    fee_max: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Give UNITS of the key's own to the key of PEER."""
    from fluvial.ledger.transactions import TransferUnits

    _send(invocation, TransferUnits(to.public_key, units), relay, network, key_file, fee_max)


@submit.command()
@click.argument("name")
@click.argument("target")
@_FEE
@reach_options
@common_options
@pass_invocation
def name(
    invocation: Invocation,
    name: str,
    target: str,
    fee_max: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Take NAME, and let it stand for TARGET: a peer id, a service, a flow, a key of the DHT.

    Two transactions: the first commits to the name without saying which, the second reveals it, so that nobody who sees the wish can be faster.
    """
    from fluvial.cli import ledger_calls

    keys = ledger_calls.keys_of(invocation, key_file)
    way = ledger_calls.way_of(invocation, keys, relay=relay, network=network, key_file=key_file)
    _say(invocation, ledger_calls.through(way, lambda ledger: ledger.take_name(keys, name, target, fee_max=fee_max)))


@submit.command()
@click.option("--member", "members", multiple=True, metavar="SERVICE@PEER", help="Who belongs to it. May be repeated.")
@click.option(
    "--administrator",
    "administrators",
    multiple=True,
    callback=lambda c, p, v: [_peer(c, p, one) for one in v],
    metavar="PEER",
    help="Who may change it. May be repeated.  [default: the key]",
)
@click.option("--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many must agree.")
@click.option("--id", "perimeter", metavar="HEX", help="Change this one, which has --version, in place of making one.")
@click.option("--version", type=click.IntRange(1), help="The version that is replaced.")
@_FEE
@reach_options
@common_options
@pass_invocation
def perimeter(
    invocation: Invocation,
    members: tuple[str, ...],
    administrators: list[PeerId],
    threshold: int,
    perimeter: str | None,
    version: int | None,
    fee_max: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Make a security perimeter, or replace the terms of one."""
    from fluvial.cli import ledger_calls

    keys = ledger_calls.keys_of(invocation, key_file)
    way = ledger_calls.way_of(invocation, keys, relay=relay, network=network, key_file=key_file)
    body = ledger_calls.perimeter_body(keys, members, administrators, threshold, perimeter, version)
    done = ledger_calls.through(way, lambda ledger: ledger.submit(keys, [body], fee_max=fee_max))[-1]
    if perimeter is None:
        done["perimeter"] = ledger_calls.new_perimeter(keys, done["nonce"])
        if not invocation.json:
            click.echo(f"perimeter {done['perimeter']}")
    _say(invocation, done)


@submit.command("validators")
@click.option(
    "--add", "added", multiple=True, metavar="PEER[=POWER]", help="Who validates, with so many votes. May be repeated."
)
@click.option("--remove", "removed", multiple=True, metavar="PEER", help="Who does no more. May be repeated.")
@_FEE
@reach_options
@common_options
@pass_invocation
def change_validators(
    invocation: Invocation,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    fee_max: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Change who validates from the next epoch on; the key must be an administrator's."""
    from fluvial.cli import ledger_calls

    _send(invocation, ledger_calls.validators_body(added, removed), relay, network, key_file, fee_max)


@submit.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_FEE
@reach_options
@common_options
@pass_invocation
def revoke(
    invocation: Invocation,
    path: Path,
    fee_max: int,
    relay: str | None,
    network: str | None,
    key_file: Path | None,
) -> None:
    """Bring the revocation in FILE, as `fluvial trust revoke --out` writes it; the key pays, and need not be the issuer's."""
    from functools import partial

    from fluvial.cli import ledger_calls
    from fluvial.credentials import read_credentials
    from fluvial.remote_ledger import RemoteLedger

    keys = ledger_calls.keys_of(invocation, key_file)
    way = ledger_calls.way_of(invocation, keys, relay=relay, network=network, key_file=key_file)
    for statement in read_credentials(path):
        _say(
            invocation,
            ledger_calls.through(way, partial(RemoteLedger.revoke, keys=keys, statement=statement, fee_max=fee_max)),
        )


@submit.command("file")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@reach_options
@common_options
@pass_invocation
def file(invocation: Invocation, path: Path, relay: str | None, network: str | None, key_file: Path | None) -> None:
    """Bring a signed transaction in the canonical encoding, such as a program has made."""
    from fluvial.cli import ledger_calls

    way = reach(invocation, relay=relay, network=network, key_file=key_file)
    _say(invocation, ledger_calls.through(way, lambda ledger: ledger.bring(path.read_bytes())))
