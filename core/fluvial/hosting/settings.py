"""``[ledger]`` of ``fluvial.toml``: the ledger that a peer holds or follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fluvial.consensus.engine import MakeEngine, ReadPayloads
from fluvial.consensus.ordering import OrderingService


class LedgerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[ledger]``."""

    genesis: Annotated[
        str,
        Meta(
            description="the file that the ledger begins with, the same at all its peers; `fluvial testnet init` makes one"
        ),
    ] = ""
    follow: Annotated[
        bool,
        Meta(description='hold the ledger without deciding about it, with consensus = "none"; every block is proven'),
    ] = False
    delta_ms: Annotated[
        int, Meta(ge=1, le=60_000, description="how long a message to another validator takes at most, in milliseconds")
    ] = 500
    idle_ms: Annotated[
        int,
        Meta(ge=0, le=60_000, description="how long a block is held back while no transaction waits, in milliseconds"),
    ] = 1_000
    block_transactions_max: Annotated[
        int,
        Meta(
            ge=1,
            le=5_000,
            description="transactions of one block that this peer proposes, or signatures in them; bounds how long a block takes",
        ),
    ] = 1_000
    snapshot_blocks: Annotated[
        int,
        Meta(
            ge=0,
            le=10**12,
            description="a snapshot of the state is written every so many blocks, so that a restart reads that and the blocks since; 0 for never",
        ),
    ] = 1_000
    kept_blocks: Annotated[
        int,
        Meta(
            ge=0,
            le=10**12,
            description="older blocks than so many below the newest snapshot are removed; others cannot get them here any more",
        ),
    ] = 100_000
    kept_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=2**53,
            description="and so are the oldest of them if all together have more bytes than this",
        ),
    ] = 256 << 20
    state_bytes_max: Annotated[
        int,
        Meta(
            ge=0,
            le=2**53,
            description="once the state takes more memory, a validator takes nothing from keys without units that adds to it",
        ),
    ] = 64 << 20
    prices: Annotated[
        dict[str, Annotated[int, Meta(ge=1, le=2**62)]],
        Meta(
            max_length=1_000,
            description="units of the ledger that a call of a service of this peer costs its initiator, by service; needs a ledger",
        ),
    ] = {}


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is made for.

    Attributes:
        section: ``[ledger]``.
        key_file: the peer's key, as the settings name it; a mark that it has voted is kept beside it.
        algorithm: the engine's name; empty for a follower.
        make: makes the engine of an epoch.
        options: of the engine.
        certifies_state: whether it commits blocks with roots, or orders payloads.
        fault_model: what the engine tolerates: ``byzantine`` or ``crash``.
        payloads: reads the payloads in messages of the engine; None if nothing is done ahead with them.
        ordering: makes the service outside that puts payloads into an order; None for engines that do so themselves.
    """

    section: LedgerSection
    key_file: Path
    algorithm: str
    make: MakeEngine
    options: msgspec.Struct
    certifies_state: bool
    fault_model: str
    payloads: ReadPayloads | None = None
    ordering: Callable[[], OrderingService] | None = None
