"""Approvals: what several keys must agree on, beside the one that sends the transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Protocol, TypeAlias

import msgspec

from fluvial.encoding import encode
from fluvial.identity import verify
from fluvial.ledger.genesis import Key
from fluvial.ledger.statements import Signature

Approvals: TypeAlias = Annotated[tuple[tuple[Key, Signature], ...], msgspec.Meta(max_length=64)]
"""(public key, signature of :func:`approval_bytes`) of others than the sender."""


class NeedsApproval(Protocol):
    """A body with approvals."""

    @property
    def approvals(self) -> tuple[tuple[bytes, bytes], ...]:
        """Who agrees."""
        ...


def approval_bytes(chain: bytes, body: NeedsApproval) -> bytes:
    """What a key signs to approve a change on this ledger."""
    unsigned = msgspec.structs.replace(body, approvals=())  # type: ignore[type-var]  # bodies are Structs
    return b"fluvial/approval/1\0" + chain + encode(unsigned)


def agreeing(chain: bytes, sender: bytes, body: NeedsApproval, administrators: Collection[bytes]) -> int:
    """How many administrators want this: the sender, if it is one, and those whose approval is right. Of each key the last approval counts."""
    message = approval_bytes(chain, body)
    asked = set(administrators)
    approvals = {key: signature for key, signature in body.approvals if key in asked and key != sender}
    return (sender in asked) + sum(verify(key, signature, message) for key, signature in approvals.items())
