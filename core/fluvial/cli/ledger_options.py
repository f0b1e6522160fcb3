"""What the commands of ``fluvial consensus`` share: how a peer's ledger is reached, who signs a transaction, and how its outcome is printed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fluvial.cli.context import Invocation, common_options, pass_invocation
from fluvial.cli.reaching import Reach, reach, reach_options
from fluvial.strangers import printable

if TYPE_CHECKING:
    from fluvial.identity import KeyPair, PeerId
    from fluvial.ledger.transactions import Body
    from fluvial.remote_ledger import RemoteLedger

T = TypeVar("T")


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """A command that asks a peer's ledger: called with the invocation, the way to the peer, and its own options by name."""

    def run(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None, **own: Any) -> None:
        command(invocation, reach(invocation, relay=relay, network=network, key_file=key_file), **own)

    wrapped: Callable[..., None] = wraps(command)(run)
    return reach_options(common_options(pass_invocation(wrapped)))


@dataclass(frozen=True, slots=True)
class Sender:
    """Who brings transactions onto the ledger of a peer.

    Attributes:
        invocation: of the command.
        keys: sign and pay.
        way: to the peer.
        fee_max: the highest fee of each transaction, in units.
    """

    invocation: Invocation
    keys: KeyPair
    way: Reach
    fee_max: int

    def through(self, work: Callable[[RemoteLedger], Awaitable[T]]) -> T:
        """What some work with the ledger results in; raises as the work."""
        from fluvial.cli import ledger_calls

        return ledger_calls.through(self.way, work)

    def bring(self, *bodies: Body) -> dict[str, Any]:
        """The outcome of the last of some transactions; raises as ``RemoteLedger.submit``."""
        return dict(self.through(lambda ledger: ledger.submit(self.keys, bodies, fee_max=self.fee_max))[-1])

    def send(self, *bodies: Body) -> None:
        """Bring transactions, and print the outcome of the last."""
        say(self.invocation, self.bring(*bodies))

    def peer(self, text: str) -> PeerId:
        """As :func:`peer_called`."""
        return peer_called(self.invocation, self.way, text)


def sending(command: Callable[..., None]) -> Callable[..., None]:
    """A command that brings transactions: called with a :class:`Sender`, and its own options by name."""

    def run(
        invocation: Invocation,
        relay: str | None,
        network: str | None,
        key_file: Path | None,
        fee_max: int,
        **own: Any,
    ) -> None:
        from fluvial.cli import ledger_calls

        keys = ledger_calls.keys_of(invocation, key_file)
        way = ledger_calls.way_of(invocation, keys, relay=relay, network=network, key_file=key_file)
        command(Sender(invocation, keys, way, fee_max), **own)

    fee = click.option(
        "--fee-max", type=click.IntRange(0), default=0, show_default=True, help="The highest fee, in units."
    )
    wrapped: Callable[..., None] = wraps(command)(run)
    return fee(reach_options(common_options(pass_invocation(wrapped))))


def say(invocation: Invocation, done: dict[str, Any], **made: str) -> None:
    """Print the outcome of a transaction, and what it has made; a command whose transaction had no effect fails."""
    failed = f", without effect: {printable(done['failed'])}" if done["failed"] else ""
    lines = [f"{name} {value}" for name, value in made.items() if not failed]
    invocation.print({**done, **made}, lambda: [*lines, f"{done['transaction']} is in block {done['height']}{failed}"])
    if done["failed"]:
        raise click.exceptions.Exit(1)


def peer_ids(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[PeerId]:
    """Callback of an option that takes peer ids."""
    from fluvial.identity import PeerId

    try:
        return [PeerId.parse(one) for one in value]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def peer_or_name(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Callback of an option or argument that is a peer id, or a name of one; :func:`peer_called` finds out which."""
    from fluvial.identity import PeerId
    from fluvial.ledger.names import is_name

    if value is None or is_name(value):
        return value
    try:
        return str(PeerId.parse(value))
    except ValueError as error:
        raise click.BadParameter(f"this is neither a peer id nor a name on the ledger: {error}") from error


def peer_called(invocation: Invocation, way: Reach, text: str) -> PeerId:
    """The peer that a peer id or a name stands for.

    A name is looked up on the ledger of the relay. Where the settings name a genesis the proof is checked, elsewhere the relay is believed.

    Raises:
        ServiceError: nobody has the name, or the relay holds no ledger. Refused: it does not stand for a peer.
        RemoteProtocolError: the proof is wrong.
    """
    from fluvial.errors import Refused
    from fluvial.identity import PeerId
    from fluvial.ledger.names import is_name

    target = text
    if is_name(text):
        from fluvial.cli import ledger_calls

        target = ledger_calls.target_of(invocation, way, text)
    try:
        return PeerId.parse(target)
    except ValueError as error:
        raise Refused(
            f"the name {text} stands for {target[:80]!r}, which is no peer",
            reason="name",
            hint="`fluvial consensus query names NAME` shows it",
        ) from error
