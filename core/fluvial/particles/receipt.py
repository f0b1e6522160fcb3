"""The answer to a delivery: whether the receiver has taken responsibility for it."""

from __future__ import annotations

from typing import Final

import msgspec

from fluvial.encoding import decode, encode

PROTOCOL: Final = "particle/1"
"""Name of the request that hands a ``Delivery`` over and is answered with a :class:`Receipt`."""

ACCEPTED: Final = ""
REPLAY: Final = "replay"
"""The particle is finished here: nothing is lost by not taking another copy."""

TEMPORARY: Final = frozenset({"busy", "storage", "unreachable"})
"""Reasons that may be gone when the sender tries again."""


class Receipt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What became of a delivery.

    Attributes:
        reason: empty if it was accepted: it is durable there; else a short word.
        explanation: for people.
    """

    reason: str = ACCEPTED
    explanation: str = ""

    @property
    def settled(self) -> bool:
        """Whether the sender has nothing more to do for this peer."""
        return self.reason in (ACCEPTED, REPLAY)

    @property
    def temporary(self) -> bool:
        """Whether trying again may help."""
        return self.reason in TEMPORARY


def encode_receipt(receipt: Receipt) -> bytes:
    """The canonical bytes of a receipt."""
    return encode(receipt)


def decode_receipt(data: bytes) -> Receipt:
    """The receipt that canonical bytes stand for; raises RemoteProtocolError if they are none."""
    return decode(data, Receipt, what="receipt")
