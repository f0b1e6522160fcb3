"""What an engine asks of its host, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fluvial.identity import PeerId
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.ledger.statements import Evidence

MessageClass: TypeAlias = Literal["proposal", "vote", "certificate", "sync", "evidence", "other"]
"""What a message is for; the laboratory counts and disturbs messages by it."""


@dataclass(frozen=True, slots=True)
class Persist:
    """A barrier: no message of this batch *or of any later one* leaves before the record is durable. Neighbours share one sync.

    Attributes:
        record: what ``start`` gets after a crash.
        fresh: earlier records of the engine are not needed any more.
    """

    record: bytes
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to all other validators, and to followers; never delivered to oneself."""

    data: bytes
    kind: MessageClass = "other"


@dataclass(frozen=True, slots=True)
class Send:
    """Send to one peer."""

    to: PeerId
    data: bytes
    kind: MessageClass = "other"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ask for ``TimerFired`` after so many milliseconds; replaces a timer of the same name."""

    name: str
    after_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """The timer must not fire any more."""

    name: str


@dataclass(frozen=True, slots=True)
class BuildPayload:
    """Ask for ``PayloadBuilt``.

    Attributes:
        request: comes back with the answer.
        parent: the block on whose state it must be valid; None if the engine orders payloads without executing them.
    """

    request: int
    parent: bytes | None


@dataclass(frozen=True, slots=True)
class CheckPayload:
    """Ask for ``PayloadChecked``: execute it on the parent's state, compare the root, judge the time."""

    block: LedgerBlock


@dataclass(frozen=True, slots=True)
class Commit:
    """These blocks are final, oldest first; the proof is for the last one. Only of engines that certify state.

    Attributes:
        blocks: without fillers; each one's parent is the one before.
        proof: for the last of them.
    """

    blocks: tuple[LedgerBlock, ...]
    proof: FinalityProof


@dataclass(frozen=True, slots=True)
class Order:
    """These payloads are final, in this order; the host makes one block of what is valid in them. Of engines that do not certify state.

    Attributes:
        slot: the engine's count, growing.
        proposer: index of the validator whose turn the slot was.
        time_ms: a time on which all correct validators agree.
        payloads: of several authors; what they repeat is skipped.
        reference: the engine's own id for this decision.
    """

    slot: int
    proposer: int
    time_ms: int
    payloads: tuple[bytes, ...]
    reference: bytes


@dataclass(frozen=True, slots=True)
class Publish:
    """Put an entry into the log of the ordering service; it comes back as ``PayloadOrdered``. Of engines over a service."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Accuse:
    """Proof that a validator has cheated."""

    evidence: Evidence


@dataclass(frozen=True, slots=True)
class NeedHistory:
    """Final blocks are missing: the host fetches them, and says ``Synced``.

    Attributes:
        hint: who seems to have them.
    """

    hint: PeerId | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """More than the tolerated number must be faulty, for instance since a fork was seen. The engine signs nothing from now on.

    Attributes:
        what: one word.
        details: for people.
    """

    what: str
    details: str = ""


Effect: TypeAlias = (
    Persist
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
