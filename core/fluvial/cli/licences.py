"""``fluvial consensus licence``: services of other peers that cost units, and what own services have earned."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fluvial.cli.context import Invocation, table
from fluvial.cli.ledger_options import Sender, asking, peer_or_name, say, sending
from fluvial.strangers import as_expected, from_hex, shaped

if TYPE_CHECKING:
    from fluvial.cli.ledger_calls import HeldAnswer
    from fluvial.cli.reaching import Reach
    from fluvial.remote_ledger import RemoteLedger

BLOCKS: Final = 100_000
"""For how many blocks a licence is good unless its licensee says so."""


@click.group()
def licence() -> None:
    """Licences: services that are paid for by the call."""


def _id(ctx: click.Context, parameter: click.Parameter, value: str) -> bytes:
    try:
        name = bytes.fromhex(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if len(name) != 32:
        raise click.BadParameter("the id of a licence has 64 hexadecimal digits")
    return name


_ID = click.argument("name", metavar="LICENCE", callback=_id)


# --- the licensee


@licence.command("open")
@click.argument("provider", metavar="PEER", callback=peer_or_name)
@click.argument("service")
@click.argument("units", type=click.IntRange(1))
@click.option(
    "--blocks", type=click.IntRange(1), default=BLOCKS, show_default=True, help="For how many blocks it is good."
)
@sending
def open_licence(sender: Sender, provider: str, service: str, units: int, blocks: int) -> None:
    """Lock UNITS of the key's own for calls of SERVICE on PEER, and print the id of the licence.

    SERVICE is written as in scripts. What no voucher was given for comes back when the licence is closed.
    """
    from fluvial.ledger.licences import OpenLicence, licence_id

    now = sender.through(lambda ledger: ledger.standing()).height
    done = sender.bring(OpenLicence(sender.peer(provider).public_key, service, units, now + blocks))
    say(sender.invocation, done, licence=licence_id(sender.keys.public_key, done["nonce"]).hex())


@licence.command()
@_ID
@click.option("--units", type=click.IntRange(0), default=0, help="Lock so many more.")
@click.option("--blocks", type=click.IntRange(0), default=0, help="Good for so many blocks from now on.")
@sending
def extend(sender: Sender, name: bytes, units: int, blocks: int) -> None:
    """Lock more units for a licence of the key's own, or let it last longer."""
    from fluvial.ledger.licences import ExtendLicence

    now = sender.through(lambda ledger: ledger.standing()).height
    sender.send(ExtendLicence(name, units, now + blocks if blocks else 0))


@licence.command()
@_ID
@click.argument("units", type=click.IntRange(1))
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The licensee's key file."
)
@click.option(
    "--genesis",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The ledger's first file.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file of credentials to write."
)
def voucher(name: bytes, units: int, key_file: Path, genesis: Path, out: Path) -> None:
    """Sign that all calls under a licence so far, and those to come with this voucher, cost up to UNITS together.

    The sum grows from voucher to voucher: after 10 units were used, a voucher of 15 pays for 5 more. Show it with
    `fluvial call … --key FILE --credentials OUT`.
    """
    from fluvial.encoding import encode
    from fluvial.errors import ConfigError
    from fluvial.hosting.genesis_file import read_genesis
    from fluvial.identity import KeyPair
    from fluvial.ledger.licences import sign_voucher

    signed = encode(sign_voucher(KeyPair.load(key_file), read_genesis(genesis).chain, name, units))
    text = f"# a voucher of {units} units for the licence {name.hex()}\n{base64.b64encode(signed).decode()}\n"
    try:
        out.write_text(text, encoding="ascii")
    except OSError as error:
        raise ConfigError(f"{out}: it cannot be written: {error.strerror}") from error
    click.echo(f"{out} has a voucher of {units} units")


# --- both


@licence.command()
@_ID
@sending
def close(sender: Sender, name: bytes) -> None:
    """End a licence: the provider at any time, the licensee 10,000 blocks after it has expired."""
    from fluvial.ledger.licences import CloseLicence

    sender.send(CloseLicence(name))


# --- the provider


async def _held(ledger: RemoteLedger) -> list[HeldAnswer]:
    """The vouchers that a peer holds; raises as ``RemoteLedger.asked``."""
    from fluvial.cli.ledger_calls import HeldAnswer

    return shaped(await ledger.ask("held", service="licence"), list[HeldAnswer], what="list of vouchers")


@licence.command()
@asking
def show(invocation: Invocation, way: Reach) -> None:
    """List the licences under which services of the peer were called: what was signed for, and what is used."""
    from fluvial.cli import ledger_calls

    found = ledger_calls.through(way, _held)
    rows = [(one["licence"], one["service"], f"{one['used']} of {one['amount']}", one["licensee"]) for one in found]
    invocation.print(
        found, lambda: table([("licence", "service", "used", "licensee"), *rows]) if rows else ["no licence was used"]
    )


@licence.command()
@sending
def settle(sender: Sender) -> None:
    """Be paid what was used of each licence: run it with the settings of the peer that has provided the services.

    It settles the whole of each voucher, which its licensee has signed for in advance.
    """
    from fluvial.ledger.licences import SettleLicence

    done = []
    for one in sender.through(_held):
        settled = _settled(sender, one["licence"])
        if settled is not None and one["amount"] > settled:
            licence_id, signature = (from_hex(one[part], what="voucher") for part in ("licence", "signature"))
            body = SettleLicence(licence_id, one["amount"], signature)
            done.append({"licence": one["licence"], "units": one["amount"] - settled, **sender.bring(body)})
    rows = [(one["licence"], f"{one['units']} units", one["failed"] or f"in block {one['height']}") for one in done]
    sender.invocation.print(done, lambda: table(rows) if rows else ["nothing is to be settled"])
    if any(one["failed"] for one in done):
        raise click.exceptions.Exit(1)


def _settled(sender: Sender, name: str) -> int | None:
    """What of a licence was paid out; None if it is closed."""
    from fluvial.encoding import decode
    from fluvial.ledger.licences import LICENCES, LicenceRecord

    what = "licence of the ledger"
    value = sender.through(lambda ledger: ledger.ask("get", LICENCES, name))
    return None if value is None else decode(as_expected(value, bytes, what=what), LicenceRecord, what=what).settled
