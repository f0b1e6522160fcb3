"""Checkpoints: where an algorithm does not certify the state, each validator signs the blocks that it has executed, and a quorum of that is the proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.consensus.block_chain import BlockChain
from fluvial.consensus.wire import CheckpointVote
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.statements import (
    CHECKPOINT,
    Certificate,
    Evidence,
    Sign,
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


class CheckpointGathering:
    """The checkpoint votes of this epoch and the last one, and the proofs that they make.

    Args:
        chain: id of the ledger.
        blocks: the final blocks here.
        verify: checks signatures.
        proven: hears of each proof.
        convict: takes evidence.
        alarm: hears (word, details) if a quorum has another block than this peer.
    """

    def __init__(
        self,
        chain: bytes,
        blocks: BlockChain,
        verify: Verify,
        *,
        proven: Callable[[int, FinalityProof], None],
        convict: Callable[[Evidence], None],
        alarm: Callable[[str, str], None],
    ) -> None:
        self._chain, self._blocks, self._verify = chain, blocks, verify
        self._proven, self._convict, self._alarm = proven, convict, alarm
        self._tallies: list[CheckpointTally] = []

    def open_epoch(self, epoch: int, validators: ValidatorSet) -> None:
        """An epoch begins; votes of the one before may still come."""
        self._tallies = [*self._tallies[-1:], CheckpointTally(self._chain, epoch, validators, self._verify)]

    def vote(self, header: BlockHeader, signer: int, sign: Sign) -> CheckpointVote:
        """This peer's vote for a block that it has executed; it is counted here."""
        message = signed_bytes(self._chain, CHECKPOINT, header.epoch, header.height, header.id)
        vote = CheckpointVote(header.epoch, header.height, header.id, signer, sign(message))
        self.take(vote)
        return vote

    def take(self, vote: CheckpointVote) -> None:
        """Count a vote of anybody."""
        for tally in self._tallies:
            if tally.epoch == vote.epoch:
                if (evidence := tally.add(vote, self._blocks.tip.height)) is not None:
                    self._convict(evidence)
                self.certify(vote.epoch, vote.height)

    def certify(self, epoch: int, height: int) -> None:
        """Prove a block, if it is here and a quorum has signed it."""
        store = self._blocks.store
        if height > self._blocks.tip.height or not store.has(height) or store.proof(height) is not None:
            return  # there is nothing to prove, or the block is below a snapshot
        header = self._blocks.header(height)
        for tally in self._tallies:
            if tally.epoch == epoch == header.epoch and (proof := tally.certified(height)) is not None:
                if proof.certificate.digest != header.id:
                    self._alarm("checkpoint", f"a quorum has another block than this peer at height {height}")
                    return
                self._proven(height, proof)
