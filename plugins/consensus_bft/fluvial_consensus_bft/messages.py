"""The messages of Simplex, and the records that it persists."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from fluvial.consensus.engine import MessageDescription
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import LedgerBlock
from fluvial.ledger.statements import (
    FINALIZE,
    KIND_NAMES,
    NOTARIZE,
    NULLIFY,
    Certificate,
    Digest,
    Index,
    Signature,
    Slot,
)

JUSTIFICATION_MAX = 256
"""Certificates in one proposal: the parent's, and one for each view that was skipped."""
VIEWS_MAX = 32
"""Views about which one message may ask."""


class Vote(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A signed vote.

    Attributes:
        kind: NOTARIZE, NULLIFY or FINALIZE.
        signer: index of who votes.
        leader: the leader's own signature on the block, in a NOTARIZE: who sees two blocks with it holds the proof against the leader.
        retry: whether it was sent before, so that its sender seems to be stuck and wants to be told what it missed.
    """

    kind: Annotated[int, msgspec.Meta(ge=NOTARIZE, le=FINALIZE)]
    view: Slot
    digest: Digest
    signer: Index
    signature: Signature
    leader: Signature | None = None
    retry: bool = False


class Proof(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A certificate on its way."""

    certificate: Certificate


class Proposal(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A leader's block, with all that shows that it may be built where it is.

    Attributes:
        block: the block.
        signature: the leader's NOTARIZE vote for it.
        justification: the parent's certificate and the nullifications of the views between; a proposal explains itself.
    """

    block: LedgerBlock
    signature: Signature
    justification: Annotated[tuple[Certificate, ...], msgspec.Meta(max_length=JUSTIFICATION_MAX)] = ()


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Ask for the certificates and blocks of some views."""

    views: Annotated[tuple[Slot, ...], msgspec.Meta(max_length=VIEWS_MAX)]


Message: TypeAlias = Vote | Proof | Proposal | Ask


class VoteRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A vote of one's own, with the proposal it is for if that must not be lost."""

    vote: Vote
    proposal: Proposal | None = None


class BaseRecord(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The votes that still matter; everything before it may be forgotten."""

    votes: tuple[VoteRecord, ...]


Record: TypeAlias = VoteRecord | BaseRecord


def read_message(data: bytes) -> Message | None:
    """The message that bytes stand for; None if they stand for none."""
    try:
        return decode(data, Message, what="message of Simplex")  # type: ignore[arg-type]  # a union
    except RemoteProtocolError:
        return None


def describe(data: bytes) -> MessageDescription | None:
    """What a message is about; for the laboratory."""
    match read_message(data):
        case Vote(kind=kind, view=view, digest=digest, signer=signer):
            return MessageDescription(KIND_NAMES[kind], 0, view, signer, digest if kind != NULLIFY else b"")
        case Proof(certificate):
            kind_name = KIND_NAMES[certificate.kind]
            return MessageDescription(
                f"{kind_name} certificate", certificate.epoch, certificate.slot, None, certificate.digest
            )
        case Proposal(block):
            return MessageDescription(
                "proposal", block.header.epoch, block.header.slot, block.header.proposer, block.id
            )
        case Ask(views):
            return MessageDescription("ask", 0, max(views, default=0), None)
    return None


def reseal(data: bytes, signer: int) -> bytes | None:
    """The same message under another validator's name; its signature is wrong then."""
    match read_message(data):
        case Vote() as vote:
            return encode(msgspec.structs.replace(vote, signer=signer))
        case Proposal(block) as proposal:
            header = msgspec.structs.replace(block.header, proposer=signer)
            return encode(msgspec.structs.replace(proposal, block=LedgerBlock(header, block.payload)))
    return None
