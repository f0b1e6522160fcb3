"""The settings of a node: core's own sections as Structs, and what the loader makes of a whole ``fluvial.toml``.

The descriptions are what ``fluvial init`` writes as comments and ``fluvial config schema`` exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from fluvial.addresses import Contact
from fluvial.blobs.settings import BlobsSection
from fluvial.hosting.settings import LedgerSection
from fluvial.offers import Offer
from fluvial.particle import NETWORK_PATTERN
from fluvial.particles.limits import DiskLimits, ParticleLimits
from fluvial.seats import SeatName
from fluvial.services.limits import ServiceLimits
from fluvial.telemetry import LINES_PER_S

SEAT_DEFAULTS: Final[Mapping[SeatName, str]] = {
    "transport": "tcp",
    "routing": "static",
    "authorization": "signatures",
    "execution": "native",
    "consensus": "none",
}
"""The offer that takes a seat which the config does not mention."""

INIT_SEATS: Final[Mapping[SeatName, str]] = {
    "routing": "kademlia",
    "authorization": "trust_graph",
    "execution": "wasm",
}
"""The offer that ``fluvial init`` puts into a seat instead of the default, where it is installed."""


LoopKind: TypeAlias = Literal["asyncio", "uvloop"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of ``fluvial.toml``."""


class IdentitySection(_Section, frozen=True):
    """``[identity]``."""

    key_file: Annotated[str, Meta(description="the peer's Ed25519 key (PEM), made by `fluvial init`, mode 0600")] = (
        "secrets/peer.key"
    )


class PluginsSection(_Section, frozen=True):
    """``[plugins]``."""

    disabled: Annotated[tuple[str, ...], Meta(description="names of plugins and commands never to import")] = ()
    on_failure: Annotated[
        Literal["quarantine", "refuse"],
        Meta(description="a plugin that cannot be loaded: quarantine it and run without, or refuse to start"),
    ] = "quarantine"
    path: Annotated[str, Meta(description="folder with one-file plugins, such as plugins.d; empty for none")] = ""


class StorageSection(DiskLimits, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[storage]``."""

    url: Annotated[str, Meta(min_length=1, description="SQLAlchemy URL: sqlite:///… or postgresql+psycopg://…")] = (
        "sqlite:///state/fluvial.db"
    )


class TelemetrySection(_Section, frozen=True):
    """``[telemetry]``."""

    log_format: Annotated[Literal["console", "json"], Meta(description="for people or for machines")] = "console"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="the least that is logged")] = (
        "info"
    )
    lines_per_s_max: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="lines of one event that are written in a second, ten times as many at once; 0 for any number",
        ),
    ] = LINES_PER_S
    metrics_listen: Annotated[
        str,
        Meta(
            description="where the metrics are shown over HTTP, such as /ip4/127.0.0.1/tcp/9464; empty for nowhere; whoever reaches it may read them"
        ),
    ] = ""


class CoreSections(_Section, frozen=True):
    """The keys of ``fluvial.toml`` that core itself reads; the seats, ``[effectors.NAME]`` and ``[extras.NAME]`` belong to plugins."""

    network: Annotated[
        str,
        Meta(
            description="name of the network; peers of different networks never talk to each other",
            extra_json_schema={"pattern": NETWORK_PATTERN},
        ),
    ] = "fluvial"
    relays: Annotated[
        tuple[str, ...],
        Meta(
            description="peers to stay connected to (/ip4/…/p2p/…); one without listen addresses is reached through them"
        ),
    ] = ()
    event_loop: Annotated[
        LoopKind,
        Meta(
            description="of `fluvial run`; uvloop must be installed (`fluvial[uvloop]`) and was not clearly faster where it was measured"
        ),
    ] = "asyncio"
    identity: IdentitySection = IdentitySection()
    plugins: PluginsSection = PluginsSection()
    particles: ParticleLimits = ParticleLimits()
    services: ServiceLimits = ServiceLimits()
    storage: StorageSection = StorageSection()
    blobs: BlobsSection = BlobsSection()
    ledger: LedgerSection = LedgerSection()
    telemetry: TelemetrySection = TelemetrySection()


class Choice(msgspec.Struct, frozen=True):
    """A chosen offer for a seat, an effector or an extra, with its checked options."""

    offer: Offer
    options: msgspec.Struct

    @property
    def kind(self) -> str:
        """The name by which the config chose it."""
        return self.offer.name

    def build(self, context: Any) -> Any:
        """Build the part; an effector gets its options alone."""
        if self.offer.kind == "effector":
            return self.offer.factory(self.options)
        return self.offer.factory(context, self.options)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a node, checked.

    Attributes:
        base_dir: the folder of ``fluvial.toml``; relative paths start there.
        network: name of the network.
        relays: peers to stay connected to.
        event_loop: in which ``fluvial run`` runs it.
        seats: who takes each of the five seats.
        effectors, extras: those that are switched on, by name.
    """

    base_dir: Path
    network: str
    relays: tuple[Contact, ...]
    event_loop: LoopKind
    identity: IdentitySection
    plugins: PluginsSection
    particles: ParticleLimits
    services: ServiceLimits
    storage: StorageSection
    blobs: BlobsSection
    ledger: LedgerSection
    telemetry: TelemetrySection
    seats: Mapping[SeatName, Choice]
    effectors: Mapping[str, Choice]
    extras: Mapping[str, Choice]

    @property
    def key_file(self) -> Path:
        """Where the peer's key lies."""
        return self.base_dir / self.identity.key_file

    @property
    def storage_url(self) -> str:
        """The database's URL; a relative path of SQLite made absolute."""
        return resolve_sqlite(self.storage.url, self.base_dir)


def resolve_sqlite(url: str, base_dir: Path) -> str:
    """``url`` with the relative path of a SQLite file made absolute; other URLs as they are.

    Source: SQLAlchemy, "SQLite dialect, connect strings": three slashes and a relative path, or four and an absolute one.
    """
    scheme, found, path = url.partition(":///")
    if not found or not scheme.startswith("sqlite") or path in ("", ":memory:") or path.startswith("file:"):
        return url
    return f"{scheme}:///{base_dir.absolute() / path}"
