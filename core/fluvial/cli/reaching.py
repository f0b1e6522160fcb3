"""Where commands that run flows connect to: the relay that an option names, or the peer of the ``fluvial.toml``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import click

from fluvial.cli.context import CONFIG_FILE, Invocation
from fluvial.strangers import printable

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import structlog

    from fluvial.client import Client

_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to dial what listens everywhere

TTL_S: Final = 30.0
LEVELS: Final = ("debug", "info", "warning", "error")

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Reach:
    """Where to connect to."""

    relay: str
    network: str
    key_file: Path | None
    storage_url: str = "memory://"
    credentials: tuple[bytes, ...] = ()
    log: structlog.stdlib.BoundLogger | None = None

    def connect(self) -> AbstractAsyncContextManager[Client]:
        """A client that is connected while its block runs; raises as ``fluvial.client.connect``."""
        from fluvial.client import connect
        from fluvial.identity import KeyPair
        from fluvial.telemetry import make_logger

        keys = KeyPair.load(self.key_file) if self.key_file is not None else None
        return connect(
            self.relay,
            network=self.network,
            keys=keys,
            storage_url=self.storage_url,
            credentials=self.credentials,
            # What a command has to say of its flow it says once, as a notice or an error.
            log=self.log or make_logger(log_format="console", log_level="error"),
            on_slow=lambda what: click.echo(f"waiting: {printable(what)}", err=True),
        )


def reach_options(command: CommandT) -> CommandT:
    """Give a command ``--relay``, ``--network``, ``--key`` and ``--credentials``; :func:`reach` makes a Reach of them."""
    for decorate in (
        click.option(
            "--credentials",
            multiple=True,
            type=click.Path(path_type=Path, dir_okay=False),
            expose_value=False,
            callback=_credentials,
            help="A file of credentials that the flow carries, such as a certificate of trust. May be repeated.",
        ),
        click.option(
            "--key",
            "key_file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Act as the peer of this key file.",
        ),
        click.option(
            "--network", metavar="NAME", help="The network's name.  [default: that of the settings, or fluvial]"
        ),
        click.option(
            "--relay",
            metavar="ADDRESS",
            callback=_contact,
            envvar="FLUVIAL_RELAY",
            help=f"The peer to go through: /ip4/…/tcp/…/p2p/12D3KooW…  [default: the peer of ./{CONFIG_FILE}]",
        ),
    ):
        command = decorate(command)
    return command


def run_options(command: CommandT) -> CommandT:
    """Give a command ``--ttl``, ``--store`` and ``--log``; :func:`keeping` puts the latter two into a Reach."""
    for decorate in (
        click.option(
            "--log",
            "log_level",
            type=click.Choice(LEVELS),
            help="Log to stderr as the settings say, from this level on.",
        ),
        click.option("--store", is_flag=True, help="Keep the particle in the store of the settings, not in memory."),
        click.option(
            "--ttl",
            "ttl_s",
            type=click.FloatRange(min=0.001),
            default=TTL_S,
            show_default=True,
            help="Seconds to live.",
        ),
    ):
        command = decorate(command)
    return command


def keeping(invocation: Invocation, way: Reach, store: bool, log_level: str | None) -> Reach:
    """A Reach that keeps what it runs, and logs it, as the options say.

    Raises:
        ConfigError: the settings, which say where and how, cannot be used.
    """
    from fluvial.telemetry import make_logger

    if store:
        way = replace(way, storage_url=invocation.configuration().settings.storage_url)
    if log_level:
        way = replace(way, log=make_logger(log_format=_log_format(invocation), log_level=log_level))
    return way


def _log_format(invocation: Invocation) -> Literal["console", "json"]:
    """As the settings say; for people where there are none."""
    if invocation.config is None and not Path(CONFIG_FILE).exists():
        return "console"
    return invocation.configuration().settings.telemetry.log_format


def _credentials(ctx: click.Context, parameter: click.Parameter, value: tuple[Path, ...]) -> None:
    from fluvial.credentials import read_credentials

    invocation = ctx.ensure_object(Invocation)
    for path in value:
        invocation.credentials += read_credentials(path)


def _contact(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    from fluvial.addresses import Contact

    try:
        return None if value is None else str(Contact.parse(value).addresses[0])
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def has_peer(invocation: Invocation) -> bool:
    """Whether there are settings of a peer at hand, whether it runs or not."""
    return invocation.config is not None or Path(CONFIG_FILE).exists()


def reach(invocation: Invocation, *, relay: str | None, network: str | None, key_file: Path | None) -> Reach:
    """The Reach that the options describe.

    Raises:
        ConfigError: there is neither a relay nor a peer of our own with an address.
    """
    from fluvial.cli.lean import import_structlog
    from fluvial.errors import ConfigError

    import_structlog()
    here = invocation.config or Path(CONFIG_FILE)
    if relay is not None:
        if network is None and (invocation.config is not None or here.exists()):
            network = invocation.configuration().settings.network
        return Reach(relay, network or "fluvial", key_file, credentials=tuple(invocation.credentials))
    if invocation.config is None and not here.exists():
        raise ConfigError(
            "there is no peer to go through",
            hint=f"give --relay ADDRESS, or run this in the folder of a peer that listens (with its {CONFIG_FILE})",
        )
    settings = invocation.configuration().settings
    from fluvial.addresses import Address
    from fluvial.identity import KeyPair

    listen = getattr(settings.seats["transport"].options, "listen", ())
    if not listen:
        raise ConfigError(
            f"the peer of {here} listens nowhere",
            hint='give --relay ADDRESS, or let it listen: [transport] listen = ["/ip4/127.0.0.1/tcp/7771"]',
        )
    address = Address.parse(str(listen[0]))
    if not address.port:
        raise ConfigError(f"the peer of {here} listens on whatever port it gets", hint="give --relay ADDRESS")
    way = replace(
        address, host=_THIS_MACHINE.get(address.host, address.host), peer=KeyPair.load(settings.key_file).peer_id
    )
    return Reach(str(way), network or settings.network, key_file, credentials=tuple(invocation.credentials))
