"""Checkpoints: where an algorithm does not certify the state, each validator signs the blocks that it has executed, and a quorum of that is the proof."""

from __future__ import annotations

from typing import Final

from fluvial.consensus.wire import CheckpointVote
from fluvial.ledger.blocks import FinalityProof
from fluvial.ledger.statements import (
    CHECKPOINT,
    Certificate,
    Evidence,
    ValidatorSet,
    Verify,
    signed_bytes,
    sorted_signatures,
)

WINDOW: Final = 64
"""How many heights around the ledger's are gathered; so votes take a bounded room."""


class CheckpointTally:
    """The checkpoint votes of one epoch.

    Args:
        chain: id of the ledger.
        epoch: whose validators vote.
        validators: of that epoch.
        verify: checks signatures.
    """

    def __init__(self, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify) -> None:
        self.epoch: Final = epoch
        self._chain, self._validators, self._verify = chain, validators, verify
        self._votes: dict[int, dict[int, dict[bytes, bytes]]] = {}

    def add(self, vote: CheckpointVote, height: int) -> Evidence | None:
        """Count a vote; returns proof of an offence if its signer has signed another block at the same height.

        Args:
            vote: of anybody.
            height: of the ledger here.
        """
        if not height - WINDOW < vote.height <= height + WINDOW or vote.signer >= len(self._validators):
            return None
        mine = self._votes.setdefault(vote.height, {}).setdefault(vote.signer, {})
        if vote.block in mine or len(mine) >= 2:
            return None
        key = self._validators.keys[vote.signer]
        message = signed_bytes(self._chain, CHECKPOINT, self.epoch, vote.height, vote.block)
        if not self._verify(key, vote.signature, message):
            return None
        mine[vote.block] = vote.signature
        for old in [one for one in self._votes if one <= height - WINDOW]:
            del self._votes[old]
        if len(mine) == 2:
            (first, one), (second, other) = mine.items()
            return Evidence(self.epoch, vote.height, key, (CHECKPOINT, first, one), (CHECKPOINT, second, other))
        return None

    def certified(self, height: int) -> FinalityProof | None:
        """The proof of whichever block at a height has a quorum."""
        signatures: dict[bytes, dict[int, bytes]] = {}
        for signer, votes in self._votes.get(height, {}).items():
            for block, signature in votes.items():
                signatures.setdefault(block, {})[signer] = signature
        for block, mine in signatures.items():
            if self._validators.weight(mine) >= self._validators.quorum:
                return FinalityProof(Certificate(CHECKPOINT, self.epoch, height, block, tuple(sorted_signatures(mine))))
        return None
