"""What a replica asks of the shell around it: disk, network, timers, and who wants to know."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from fluvial.consensus.effects import MessageClass
from fluvial.consensus.snapshot_shelf import ProvenState
from fluvial.identity import PeerId
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.ledger.execution import Executed
from fluvial.ledger.statements import Evidence


class Append(msgspec.Struct, frozen=True):
    """Write an entry at the end of the log; it need not be durable yet."""

    entry: bytes


class Sync(msgspec.Struct, frozen=True):
    """Make all entries so far durable, then call ``synced`` with this number."""

    number: int


class Transmit(msgspec.Struct, frozen=True):
    """Send to a peer, or to all validators and followers if ``to`` is None."""

    to: PeerId | None
    data: bytes
    kind: MessageClass


class PublishEntry(msgspec.Struct, frozen=True):
    """Put an entry into the log of the ordering service."""

    data: bytes


class StartTimer(msgspec.Struct, frozen=True):
    """Call ``fired`` with this name after so many milliseconds; replaces a timer of the same name."""

    name: str
    after_ms: int


class StopTimer(msgspec.Struct, frozen=True):
    """The timer must not fire any more."""

    name: str


class BlockFinal(msgspec.Struct, frozen=True):
    """A block was added to the ledger.

    Attributes:
        reference: the id under which the engine knew it: the block's own, or that of an ``Order``.
    """

    block: LedgerBlock
    executed: Executed
    reference: bytes


class BlockProven(msgspec.Struct, frozen=True):
    """A proof of a block's finality is known."""

    height: int
    proof: FinalityProof


class Convicted(msgspec.Struct, frozen=True):
    """Evidence against a validator is held."""

    evidence: Evidence


class Alarmed(msgspec.Struct, frozen=True):
    """Something happened that must not; this peer signs nothing any more."""

    what: str
    details: str


class EpochBegan(msgspec.Struct, frozen=True):
    """An epoch begins here; comes before anything that is signed in it.

    Attributes:
        votes: whether this peer's key decides in it.
    """

    epoch: int
    votes: bool


class SnapshotDue(msgspec.Struct, frozen=True):
    """The log may begin with this snapshot from now on, in place of all blocks up to its own."""

    snapshot: ProvenState


class SnapshotFetched(msgspec.Struct, frozen=True):
    """A snapshot came from others, far ahead of the blocks here: make it durable as the beginning of the log, then call ``installed`` with it."""

    snapshot: ProvenState


class StateInstalled(msgspec.Struct, frozen=True):
    """The ledger goes on behind a snapshot; the blocks before it are not here."""

    snapshot: ProvenState


class Misled(msgspec.Struct, frozen=True):
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
