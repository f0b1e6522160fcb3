"""What hosts say to each other, and what they write into their logs."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from fluvial.ledger.blocks import BlockHeader, FinalityProof, LedgerBlock
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
    """

    blocks: Annotated[tuple[LedgerBlock, ...], msgspec.Meta(max_length=256)]
    proof: FinalityProof | None
    height: Slot


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


HostMessage: TypeAlias = EngineMessage | HistoryAsk | HistoryAnswer | LedgerStatus | CheckpointVote | EvidenceMessage

# --- the log ------------------------------------------------------------------------------------------------------------


class RecordEntry(msgspec.Struct, frozen=True, array_like=True, tag="record"):
    """What an engine has persisted; ``fresh`` makes those before it obsolete."""

    epoch: Slot
    record: bytes
    fresh: bool = False


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


LogEntry: TypeAlias = SnapshotEntry | RecordEntry | BlockEntry | ProofEntry | EvidenceEntry


def tag_of(data: bytes) -> bytes:
    """The tag of what seems to be a message, without decoding all of it; empty if there is none."""
    if len(data) < 2 or data[0] & 0xF0 != 0x90 or data[1] & 0xE0 != 0xA0:  # a short array that begins with a short text
        return b""
    return data[2 : 2 + (data[1] & 0x1F)]
