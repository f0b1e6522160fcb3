"""What a transaction knows of the block it is in."""

from __future__ import annotations

import msgspec

from fluvial.ledger.genesis import Parameters


class BodyFailed(Exception):
    """A transaction's body has no effect; its fee and its nonce are used up all the same. The text is a few words."""


class BodySettled(BodyFailed):
    """What a body wants is on the ledger already, or too old for it; it may have been in time when it was sent."""


class BlockSetting(msgspec.Struct, frozen=True, kw_only=True):
    """The block in which a transaction is executed.

    Attributes:
        chain: id of the ledger.
        height: of the block.
        time_ms: of the block.
        epoch: of the block.
        parameters: as they were before the block.
        verified: whether this peer has verified who signed its transactions before: it is of the peer's own log.
    """

    chain: bytes
    height: int
    time_ms: int
    epoch: int
    parameters: Parameters
    verified: bool = False
