"""Blocks of the ledger: one shape for every algorithm, and the proof that one is final."""

from __future__ import annotations

from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from fluvial.encoding import encode
from fluvial.ledger.statements import (
    CHECKPOINT,
    FINALIZE,
    NOTHING,
    Certificate,
    Digest,
    Slot,
    ValidatorSet,
    Verify,
)

PAYLOAD_BYTES_MAX: Final = 1 << 20
TRANSACTIONS_MAX: Final = 5_000
"""Of any block: the same at all peers of all ledgers, since what counts must not depend on anybody's settings."""
LINKS_MAX: Final = 64
TIME_MAX: Final = 2**53


class BlockHeader(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """What is signed of a block; its hash is the block's id.

    Attributes:
        chain: id of the ledger, 32 bytes.
        epoch, slot: when it was proposed, in the algorithm's own count: a view of Simplex, a round of the DAG.
        height: 1 for the first block.
        parent: id of the block before.
        payload: hash of the payload.
        state: root of the state after it was executed.
        validators: digest of the set that decides about it.
        proposer: index in that set.
        time_ms: the proposer's clock, milliseconds since 1970, later than the parent's.
        filler: it only makes the last block of an epoch final; it has its parent's height and state, and is no block of the ledger.
    """

    chain: Digest
    epoch: Slot
    slot: Slot
    height: Slot
    parent: Digest
    payload: Digest
    state: Digest
    validators: Digest
    proposer: Slot
    time_ms: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]
    filler: bool = False

    @cached_property
    def id(self) -> bytes:
        """The block's id."""
        return sha256(b"fluvial/block/1\0" + encode(self)).digest()


class LedgerBlock(msgspec.Struct, frozen=True, array_like=True):
    """A header with its payload, which only the ledger understands."""

    header: BlockHeader
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)] = b""

    @property
    def id(self) -> bytes:
        """The block's id."""
        return self.header.id

    def is_whole(self) -> bool:
        """Whether the payload is the one that the header names."""
        return payload_hash(self.payload) == self.header.payload


class FinalityProof(msgspec.Struct, frozen=True, array_like=True):
    """Proof that a block is final: a certificate for it, or for one of its descendants.

    Attributes:
        certificate: a FINALIZE or a CHECKPOINT.
        links: the headers from the block's child to the certified block, oldest first; empty if the block itself is certified.
    """

    certificate: Certificate
    links: Annotated[tuple[BlockHeader, ...], msgspec.Meta(max_length=LINKS_MAX)] = ()

    def proves(self, header: BlockHeader, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify) -> bool:
        """Whether it proves that this block is final.

        Args:
            header: of the block.
            chain: which ledger.
            epoch: the epoch that the header must be of.
            validators: of that epoch.
            verify: checks a signature.
        """
        last = header
        for link in self.links:
            if link.parent != last.id or link.epoch != epoch or link.chain != chain:
                return False
            last = link
        certificate = self.certificate
        slot = {FINALIZE: last.slot, CHECKPOINT: last.height}.get(certificate.kind)
        return (
            header.chain == chain
            and header.epoch == epoch == certificate.epoch
            and certificate.slot == slot
            and certificate.digest == last.id
            and certificate.proves(chain, validators, verify)
        )


class Anchor(msgspec.Struct, frozen=True, array_like=True):
    """A final block from which an engine goes on: the genesis, the last block of an epoch, or what the host knows after a restart.

    Attributes:
        slot: where in the epoch it is; 0 if it is of an earlier epoch.
    """

    height: int
    slot: int
    id: Digest
    state: Digest
    time_ms: int


def payload_hash(payload: bytes) -> bytes:
    """What a header says of a payload."""
    return sha256(b"fluvial/payload/1\0" + payload).digest() if payload else NOTHING
