"""What a replica asks of the shell around it: disk, network, timers, and who wants to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from fluvial.consensus.effects import MessageClass
from fluvial.consensus.snapshot_shelf import ProvenState
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


@dataclass(frozen=True, slots=True)
class EpochBegan:
    """An epoch begins here; comes before anything that is signed in it.

    Attributes:
        votes: whether this peer's key decides in it.
    """

    epoch: int
    votes: bool


@dataclass(frozen=True, slots=True)
class SnapshotDue:
    """The log may begin with this snapshot from now on, in place of all blocks up to its own."""

    snapshot: ProvenState


@dataclass(frozen=True, slots=True)
class SnapshotFetched:
    """A snapshot came from others, far ahead of the blocks here: make it durable as the beginning of the log, then call ``installed`` with it."""

    snapshot: ProvenState


@dataclass(frozen=True, slots=True)
class StateInstalled:
    """The ledger goes on behind a snapshot; the blocks before it are not here."""

    snapshot: ProvenState


@dataclass(frozen=True, slots=True)
class Misled:
    """A peer has sent what is provably wrong."""

    sender: PeerId
    why: str


Output: TypeAlias = (
    Append
    | Sync
    | Transmit
    | PublishEntry
    | StartTimer
    | StopTimer
    | BlockFinal
    | BlockProven
    | Convicted
    | Alarmed
    | EpochBegan
    | SnapshotDue
    | SnapshotFetched
    | StateInstalled
    | Misled
)
