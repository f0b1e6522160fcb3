"""The answer to a delivery: whether the receiver has taken responsibility for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.particles.memory import MEMORY

PROTOCOL: Final = "particle/1"
"""Name of the request that hands a ``Delivery`` over and is answered with a :class:`Receipt`."""

ACCEPTED: Final = ""
REPLAY: Final = "replay"
"""The particle is finished here: it needs no further copy."""

MISSING: Final = "missing"
"""The delivery builds on something that the receiver does not have: values, which the receipt names, or batches. Then it asks for everything."""

QUOTA: Final = "quota"
"""The initiator writes too much to the receiver's disk."""

FAILED: Final = "failed"
"""The flow has come to a limit of the receiver, which takes nothing more of it."""

TEMPORARY: Final = frozenset({"busy", MEMORY, MISSING, QUOTA, "storage", "unreachable"})
"""Reasons that may be gone when the sender tries again."""

REASONS: Final = TEMPORARY | {
    *(REPLAY, "malformed", "network", "expired", "future", "ttl", "hops", "size", "script_hash"),
    *("signature", "script", "broken", FAILED),
}
"""The reasons that core gives. A seat of authorization may give others."""

REASON_CHARACTERS_MAX: Final = 32
EXPLANATION_CHARACTERS_MAX: Final = 500
LACKS_MAX: Final = 1024
RETRY_MS_MAX: Final = 86_400_000


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of a delivery.

    Attributes:
        reason: empty if it was accepted: it is durable there; else a short word.
        explanation: for people.
        lacks: content ids of values that are asked for.
        retry_ms: after how many milliseconds the receiver may take it, if it knows that; 0 otherwise.
        at_relay: whether a relay on the way has refused it, and the receiver was not asked.
    """

    reason: str = ACCEPTED
    explanation: str = ""
    lacks: tuple[bytes, ...] = ()
    retry_ms: int = 0
    at_relay: bool = False

    @classmethod
    def refusal(
        cls, reason: str, explanation: str, lacks: Sequence[bytes] = (), retry_ms: int = 0, *, at_relay: bool = False
    ) -> Receipt:
        """The receipt of a refused delivery, cut to the lengths that a sender accepts. What was cut from ``lacks`` is asked for the next time."""
        return cls(
            reason[:REASON_CHARACTERS_MAX],
            explanation[:EXPLANATION_CHARACTERS_MAX],
            tuple(lacks[:LACKS_MAX]),
            min(retry_ms, RETRY_MS_MAX),
            at_relay,
        )

    @property
    def settled(self) -> bool:
        """Whether the sender has nothing more to do for this peer."""
        return self.reason in (ACCEPTED, REPLAY)

    @property
    def temporary(self) -> bool:
        """Whether trying again may help."""
        return self.reason in TEMPORARY

    @property
    def label(self) -> str:
        """The reason as a metric's label. Unknown words of other peers become ``other``: a metric must not have labels without end."""
        if self.reason == ACCEPTED:
            return "accepted"
        return self.reason if self.reason in REASONS else "other"


ACCEPTANCE: Final = Receipt()
"""Nearly every receipt."""
_ACCEPTANCE_BYTES: Final = encode(ACCEPTANCE)


def encode_receipt(receipt: Receipt) -> bytes:
    """The canonical bytes of a receipt."""
    return _ACCEPTANCE_BYTES if receipt is ACCEPTANCE else encode(receipt)


def decode_receipt(data: bytes) -> Receipt:
    """The receipt that canonical bytes stand for; raises RemoteProtocolError if they are none."""
    if data == _ACCEPTANCE_BYTES:
        return ACCEPTANCE
    receipt = decode(data, Receipt, what="receipt")
    if len(receipt.reason) > REASON_CHARACTERS_MAX or len(receipt.explanation) > EXPLANATION_CHARACTERS_MAX:
        raise RemoteProtocolError("this is no receipt: its texts are too long")
    if len(receipt.lacks) > LACKS_MAX or any(len(key) != 32 for key in receipt.lacks):
        raise RemoteProtocolError("this is no receipt: what it asks for are no content ids, or too many")
    if not 0 <= receipt.retry_ms <= RETRY_MS_MAX:
        raise RemoteProtocolError("this is no receipt: it asks for a pause that is no time")
    return receipt
