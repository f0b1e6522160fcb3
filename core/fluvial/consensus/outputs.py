"""What a replica asks of the shell around it: disk, network, timers, and who wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fluvial.consensus.effects import MessageClass
from fluvial.identity import PeerId
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.ledger.execution import Executed
from fluvial.ledger.statements import Evidence


@dataclass(frozen=True, slots=True)
class Append:
    """Write an entry at the end of the log; it need not be durable yet."""

    entry: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Make all entries so far durable, then call ``synced`` with this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send to a peer, or to all validators and followers if ``to`` is None."""

    to: PeerId | None
    data: bytes
    kind: MessageClass


@dataclass(frozen=True, slots=True)
class PublishEntry:
    """Put an entry into the log of the ordering service."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Call ``fired`` with this name after so many milliseconds; replaces a timer of the same name."""

    name: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class StopTimer:
    """The timer must not fire any more."""

    name: str


@dataclass(frozen=True, slots=True)
class BlockFinal:
    """A block was added to the ledger.

    Attributes:
        reference: the id under which the engine knew it: the block's own, or that of an ``Order``.
    """

    block: LedgerBlock
    executed: Executed
    reference: bytes


@dataclass(frozen=True, slots=True)
class BlockProven:
    """A proof of a block's finality is known."""

    height: int
    proof: FinalityProof


@dataclass(frozen=True, slots=True)
class Convicted:
    """Evidence against a validator is held."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Alarmed:
    """Something happened that must not; this peer signs nothing any more."""

    what: str
    details: str


Output: TypeAlias = (
    Append | Sync | Transmit | PublishEntry | StartTimer | StopTimer | BlockFinal | BlockProven | Convicted | Alarmed
)
