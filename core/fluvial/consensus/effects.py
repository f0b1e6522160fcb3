"""What an engine asks of its host, in order."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from fluvial.identity import PeerId
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, FinalityProof, LedgerBlock
from fluvial.ledger.statements import Evidence

MessageClass: TypeAlias = Literal["proposal", "vote", "certificate", "sync", "evidence", "other"]
"""What a message is for; the laboratory counts and disturbs messages by it."""


class Persist(msgspec.Struct, frozen=True):
    """A barrier: no message of this batch *or of any later one* leaves before the record is durable. Neighbours share one sync.

    Attributes:
        record: what ``start`` gets after a crash.
        fresh: earlier records of the engine are not needed any more.
    """

    record: bytes
    fresh: bool = False


class Forget(msgspec.Struct, frozen=True):
    """Of the records so far, those of an earlier run included, only the last ones are needed any more.

    Attributes:
        keep: how many of them.
    """

    keep: int


class Broadcast(msgspec.Struct, frozen=True):
    """Send to all other validators, and to followers; never delivered to oneself."""

    data: bytes
    kind: MessageClass = "other"


class Send(msgspec.Struct, frozen=True):
    """Send to one peer."""

    to: PeerId
    data: bytes
    kind: MessageClass = "other"


class SetTimer(msgspec.Struct, frozen=True):
    """Ask for ``TimerFired`` after so many milliseconds; replaces a timer of the same name."""

    name: str
    after_ms: int


class CancelTimer(msgspec.Struct, frozen=True):
    """The timer must not fire any more."""

    name: str


class BuildPayload(msgspec.Struct, frozen=True):
    """Ask for ``PayloadBuilt``.

    Attributes:
        request: comes back with the answer.
        parent: the block on whose state it must be valid; None if the engine orders payloads without executing them.
        bytes_max: of the payload, if it has no parent: where several payloads are ordered together each may have to be smaller than a block's.
    """

    request: int
    parent: bytes | None
    bytes_max: int = PAYLOAD_BYTES_MAX


class CheckPayload(msgspec.Struct, frozen=True):
    """Ask for ``PayloadChecked``: execute it on the parent's state, compare the root, judge the time."""

    block: LedgerBlock


class Commit(msgspec.Struct, frozen=True):
    """These blocks are final, oldest first; the proof is for the last one. Only of engines that certify state.

    Attributes:
        blocks: without fillers; each one's parent is the one before.
        proof: for the last of them.
    """

    blocks: tuple[LedgerBlock, ...]
    proof: FinalityProof


class Order(msgspec.Struct, frozen=True):
    """These payloads are final, in this order; the host makes one block of what is valid in them. Of engines that do not certify state.

    Attributes:
        slot: the engine's count, growing.
        proposer: index of the validator whose turn the slot was.
        time_ms: a time on which all correct validators agree.
        payloads: of several authors; what they repeat is skipped, and what does not fit into the block is left out.
        reference: the engine's own id for this decision.
        authors: indices of the validators that made the payloads, one for each, so that they share the block; empty if each counts as another's.
    """

    slot: int
    proposer: int
    time_ms: int
    payloads: tuple[bytes, ...]
    reference: bytes
    authors: tuple[int, ...] = ()


class Publish(msgspec.Struct, frozen=True):
    """Put an entry into the log of the ordering service; it comes back as ``PayloadOrdered``. Of engines over a service."""

    data: bytes


class Accuse(msgspec.Struct, frozen=True):
    """Proof that a validator has cheated."""

    evidence: Evidence


class NeedHistory(msgspec.Struct, frozen=True):
    """Final blocks are missing: the host fetches them, and says ``Synced``.

    Attributes:
        hint: who seems to have them.
    """

    hint: PeerId | None = None


class Alarm(msgspec.Struct, frozen=True):
    """More than the tolerated number must be faulty, for instance since a fork was seen. The engine signs nothing from now on.

    Attributes:
        what: one word.
        details: for people.
    """

    what: str
    details: str = ""


Effect: TypeAlias = (
    Persist
    | Forget
    | Broadcast
    | Send
    | SetTimer
    | CancelTimer
    | BuildPayload
    | CheckPayload
    | Commit
    | Order
    | Publish
    | Accuse
    | NeedHistory
    | Alarm
)
