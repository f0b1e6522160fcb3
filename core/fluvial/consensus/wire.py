"""What hosts say to each other, and what they write into their logs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from fluvial.encoding import decode
from fluvial.ledger.blocks import BlockHeader, FinalityProof, LedgerBlock
from fluvial.ledger.light_client import ProvenFact
from fluvial.ledger.snapshots import SnapshotChunk
from fluvial.ledger.statements import Digest, Evidence, Index, Signature, Slot

# --- messages -----------------------------------------------------------------------------------------------------------


class EngineMessage(msgspec.Struct, frozen=True, array_like=True, tag="engine"):
    """Bytes of an engine to its likes."""

    epoch: Slot
    data: bytes


class HistoryAsk(msgspec.Struct, frozen=True, array_like=True, tag="ask"):
    """Ask for the final blocks above a height."""

    above: Slot


class HistoryAnswer(msgspec.Struct, frozen=True, array_like=True, tag="history"):
    """Final blocks of one epoch, oldest first.

    Attributes:
        blocks: whose parents are each other; empty if there are none above what was asked.
        proof: for the last one; None if there are none.
        height: how many blocks the answering peer has.
        base: it has no blocks up to this height any more; who lacks some of them needs a snapshot.
    """

    blocks: Annotated[tuple[LedgerBlock, ...], msgspec.Meta(max_length=256)]
    proof: FinalityProof | None
    height: Slot
    base: Slot = 0


class SnapshotAsk(msgspec.Struct, frozen=True, array_like=True, tag="wants"):
    """Ask for a part of the state.

    Attributes:
        epoch: the newest one whose validators the asking peer knows.
        height: of the snapshot; 0 for the newest one.
        start: the place of the state from which on keys are missing.
    """

    epoch: Slot
    height: Slot
    start: Digest


class SnapshotAnswer(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """A part of the state, and how its block is reached from the epoch that the asking peer knows.

    Attributes:
        steps: each shows the validators of the next epoch; if there are more, who asks again names a later epoch.
        header, proof: the block after which the state was so; None if there is no such snapshot.
        chunk: that begins where it was asked for.
    """

    steps: Annotated[tuple[ProvenFact, ...], msgspec.Meta(max_length=16)]
    header: BlockHeader | None = None
    proof: FinalityProof | None = None
    chunk: SnapshotChunk | None = None


class LedgerStatus(msgspec.Struct, frozen=True, array_like=True, tag="status"):
    """Tell a peer that seems to be behind how far the ledger is."""

    epoch: Slot
    height: Slot


class CheckpointVote(msgspec.Struct, frozen=True, array_like=True, tag="checkpoint"):
    """A validator's signature on a block that it has executed."""

    epoch: Slot
    height: Slot
    block: Digest
    signer: Index
    signature: Signature


class EvidenceMessage(msgspec.Struct, frozen=True, array_like=True, tag="evidence"):
    """Proof of an offence."""

    evidence: Evidence


HostMessage: TypeAlias = (
    EngineMessage
    | HistoryAsk
    | HistoryAnswer
    | LedgerStatus
    | CheckpointVote
    | EvidenceMessage
    | SnapshotAsk
    | SnapshotAnswer
)


def decode_message(data: bytes) -> HostMessage:
    """The message that bytes stand for; raises RemoteProtocolError if they are none."""
    return decode(data, HostMessage, what="message of the consensus")  # type: ignore[arg-type]  # a union


# --- the log ------------------------------------------------------------------------------------------------------------


class RecordEntry(msgspec.Struct, frozen=True, array_like=True, tag="record"):
    """What an engine has persisted; ``fresh`` makes those before it obsolete."""

    epoch: Slot
    record: bytes
    fresh: bool = False


class ForgetEntry(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """Of the records before, those but the last ones are obsolete."""

    epoch: Slot
    keep: Slot


class BlockEntry(msgspec.Struct, frozen=True, array_like=True, tag="block"):
    """A final block, with its proof if there was one at once."""

    block: LedgerBlock
    proof: FinalityProof | None = None


class ProofEntry(msgspec.Struct, frozen=True, array_like=True, tag="proof"):
    """The proof of a block that was written before."""

    height: Slot
    proof: FinalityProof


class EvidenceEntry(msgspec.Struct, frozen=True, array_like=True, tag="offence"):
    """Proof of an offence that this peer holds."""

    evidence: Evidence


class SnapshotEntry(msgspec.Struct, frozen=True, array_like=True, tag="snapshot"):
    """A part of the state after a block; all parts of one snapshot follow each other at the beginning of a log."""

    header: BlockHeader
    proof: FinalityProof
    chunk: SnapshotChunk


class EpochEntry(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """Who validates after an epoch, proven by its own validators: for who comes later, and never pruned."""

    step: ProvenFact


LogEntry: TypeAlias = SnapshotEntry | EpochEntry | RecordEntry | ForgetEntry | BlockEntry | ProofEntry | EvidenceEntry


def decode_entry(data: bytes) -> LogEntry:
    """The entry of a log that bytes stand for; raises RemoteProtocolError if they are none."""
    return decode(data, LogEntry, what="log entry")  # type: ignore[arg-type]  # a union


def tag_of(data: bytes) -> bytes:
    """The tag of what seems to be a message, without decoding all of it; empty if there is none."""
    if len(data) < 2 or data[0] & 0xF0 != 0x90 or data[1] & 0xE0 != 0xA0:  # a short array that begins with a short text
        return b""
    return data[2 : 2 + (data[1] & 0x1F)]
