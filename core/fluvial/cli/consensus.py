"""``fluvial consensus``: the ledger that a running peer holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fluvial.cli.context import Invocation, table
from fluvial.cli.ledger_options import Sender, asking, peer_ids, peer_or_name, say, sending
from fluvial.cli.licences import licence

if TYPE_CHECKING:
    from fluvial.cli.reaching import Reach
    from fluvial.identity import PeerId


@click.group()
def consensus() -> None:
    """The ledger that a running peer holds."""


consensus.add_command(licence)


# --- what looks


@consensus.command()
@asking
def status(invocation: Invocation, way: Reach) -> None:
    """Print where the peer's ledger stands, and what the peer does for it."""
    from fluvial.cli import ledger_calls

    found = ledger_calls.ask(way, "status", answer=dict[str, Any], what="status of the ledger")
    invocation.print(found, lambda: table([(name, str(value)) for name, value in found.items()]))


@consensus.command()
@asking
def validators(invocation: Invocation, way: Reach) -> None:
    """List who decides about the next block, and with how many votes."""
    from fluvial.cli import ledger_calls

    found = ledger_calls.ask(way, "validators", answer=list[ledger_calls.ValidatorAnswer], what="list of validators")
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
@asking
def query(invocation: Invocation, way: Reach, module: str, key: str, genesis: Path | None) -> None:
    """Print what the ledger says of KEY, or that it says nothing, and check the proof of that.

    KEY is a peer id for accounts, a name for names, hexadecimal for perimeters and licences, ISSUER:SUBJECT for
    revocations; validators and parameters have none.
    """
    from fluvial.cli import ledger_calls

    first = ledger_calls.genesis_of(invocation, genesis)
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
@asking
def explain(invocation: Invocation, way: Reach) -> None:
    """Name the validators that have lied, and show the two signatures that convict each."""
    from fluvial.cli import ledger_calls

    found = ledger_calls.offences(way)
    invocation.print(
        found, lambda: [line for one in found for line in ledger_calls.told(one)] or ["no validator was caught"]
    )


# --- what changes something


@consensus.group()
def submit() -> None:
    """Bring a transaction onto the ledger, and wait until it is in a final block."""


@submit.command()
@click.argument("to", metavar="PEER", callback=peer_or_name)
@click.argument("units", type=click.IntRange(0))
@sending
def transfer(sender: Sender, to: str, units: int) -> None:
    """Give UNITS of the key's own to the key of PEER: a peer id, or a name that stands for one."""
    from fluvial.ledger.transactions import TransferUnits

    sender.send(TransferUnits(sender.peer(to).public_key, units))


@submit.command()
@click.argument("name")
@click.argument("target")
@sending
def name(sender: Sender, name: str, target: str) -> None:
    """Take NAME, and let it stand for TARGET: a peer id, a service, a flow, a key of the DHT.

    Two transactions: the first commits to the name without saying which, the second reveals it, so that nobody who sees the wish can be faster.
    """
    say(
        sender.invocation,
        sender.through(lambda ledger: ledger.take_name(sender.keys, name, target, fee_max=sender.fee_max)),
    )


@submit.command()
@click.option("--member", "members", multiple=True, metavar="SERVICE@PEER", help="Who belongs to it. May be repeated.")
@click.option(
    "--administrator",
    "administrators",
    multiple=True,
    callback=peer_ids,
    metavar="PEER",
    help="Who may change it. May be repeated.  [default: the key]",
)
@click.option("--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many must agree.")
@click.option("--id", "perimeter", metavar="HEX", help="Change this one, which has --version, in place of making one.")
@click.option("--version", type=click.IntRange(1), help="The version that is replaced.")
@sending
def perimeter(
    sender: Sender,
    members: tuple[str, ...],
    administrators: list[PeerId],
    threshold: int,
    perimeter: str | None,
    version: int | None,
) -> None:
    """Make a security perimeter, or replace the terms of one."""
    from fluvial.cli import ledger_calls

    done = sender.bring(
        ledger_calls.perimeter_body(sender.keys, members, administrators, threshold, perimeter, version)
    )
    made = {"perimeter": ledger_calls.new_perimeter(sender.keys, done["nonce"])} if perimeter is None else {}
    say(sender.invocation, done, **made)


@submit.command("validators")
@click.option(
    "--add", "added", multiple=True, metavar="PEER[=POWER]", help="Who validates, with so many votes. May be repeated."
)
@click.option("--remove", "removed", multiple=True, metavar="PEER", help="Who does no more. May be repeated.")
@sending
def change_validators(sender: Sender, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Change who validates from the next epoch on; the key must be an administrator's."""
    from fluvial.cli import ledger_calls

    sender.send(ledger_calls.validators_body(added, removed))


@submit.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@sending
def revoke(sender: Sender, path: Path) -> None:
    """Bring the revocation in FILE, as `fluvial trust revoke --out` writes it; the key pays, and need not be the issuer's."""
    from functools import partial

    from fluvial.credentials import read_credentials
    from fluvial.remote_ledger import RemoteLedger

    for statement in read_credentials(path):
        bring = partial(RemoteLedger.revoke, keys=sender.keys, statement=statement, fee_max=sender.fee_max)
        say(sender.invocation, sender.through(bring))


@submit.command("file")
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@asking
def file(invocation: Invocation, way: Reach, path: Path) -> None:
    """Bring a signed transaction in the canonical encoding, such as a program has made."""
    from fluvial.cli import ledger_calls

    say(invocation, ledger_calls.through(way, lambda ledger: ledger.bring(path.read_bytes())))
