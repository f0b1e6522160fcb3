"""What a replica hands out to those who are too far behind for blocks: its newest snapshots, and who validated in each epoch.

A snapshot is a state that is kept, nothing is copied: versions of the state share what they have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fluvial.consensus.block_chain import BlockChain
from fluvial.consensus.wire import SnapshotAnswer, SnapshotAsk
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import BlockHeader, FinalityProof, LedgerBlock
from fluvial.ledger.genesis import VALIDATORS
from fluvial.ledger.light_client import ProvenFact, prove_fact
from fluvial.ledger.snapshots import chunk_at
from fluvial.ledger.state import State

SNAPSHOTS_MAX: Final = 3
"""Snapshots that are handed out; which nobody asks for goes first, so that who is in the middle of one can end it."""
UNPROVEN_MAX: Final = 64
"""Blocks whose snapshot or epoch step waits for a proof."""
STEPS_BYTES: Final = 32_768
"""No further step is added to an answer that is as large."""
STEPS_MAX: Final = 16
"""Epoch steps in one answer."""


DUE_BYTES: Final = 16 << 20
"""A snapshot is due after so many bytes of payloads as well: until then all of them stay, and are executed again after a start, for two seconds or so."""


@dataclass(frozen=True, slots=True)
class ProvenState:
    """The state after a block, the block, and the proof that it is final."""

    header: BlockHeader
    proof: FinalityProof
    state: State


class SnapshotShelf:
    """See the module's docstring.

    Args:
        chain: the final blocks.
        every: a snapshot is due at each multiple of this height, at the end of an epoch, and after ``DUE_BYTES``; 0 for never.

    Attributes:
        steps: by epoch: the proof of who validates after it.
    """

    def __init__(self, chain: BlockChain, every: int) -> None:
        self.steps: dict[int, ProvenFact] = {}
        self._chain, self._every = chain, every
        self._unproven: dict[int, tuple[BlockHeader, State, bool]] = {}
        self._kept: dict[int, ProvenState] = {}
        self._bytes = 0

    def note(self, block: LedgerBlock, state: State, *, terminal: bool) -> None:
        """A block was added; its state may be due for a snapshot."""
        header = block.header
        self._bytes += len(block.payload)
        if terminal or (self._every and (header.height % self._every == 0 or self._bytes >= DUE_BYTES)):
            self._bytes = 0
            self._unproven[header.height] = header, state, terminal
            if len(self._unproven) > UNPROVEN_MAX:
                del self._unproven[next(iter(self._unproven))]

    def prove(self, later: int, proof: FinalityProof) -> tuple[list[ProvenFact], list[ProvenState]]:
        """A block is proven, and with it those before: the epoch steps and the snapshots that are proven now."""
        steps: list[ProvenFact] = []
        snapshots: list[ProvenState] = []
        for height in [one for one in self._unproven if one <= later]:
            mine = self._chain.proof_by(height, later, proof)
            if mine is None:
                continue  # in an earlier epoch, whose own proof is still to come; or too far back
            header, state, terminal = self._unproven.pop(height)
            if terminal:
                steps.append(prove_fact(state, header, mine, VALIDATORS, b""))
                self.steps[header.epoch] = steps[-1]
            if self._every:
                snapshots.append(ProvenState(header, mine, state))
                self.put(snapshots[-1])
        return steps, snapshots

    def put(self, snapshot: ProvenState) -> None:
        """Hand out a snapshot from now on."""
        while len(self._kept) >= SNAPSHOTS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[snapshot.header.height] = snapshot

    def steps_from(self, epoch: int) -> tuple[ProvenFact, ...]:
        """The steps from an epoch on, as many as an answer takes."""
        found: list[ProvenFact] = []
        size = 0
        while epoch in self.steps and len(found) < STEPS_MAX and size < STEPS_BYTES:
            step = self.steps[epoch]
            found.append(step)
            size += 70 * len(step.finality.certificate.signatures) + len(step.value or b"")
            epoch += 1
        return tuple(found)

    def answer(self, ask: SnapshotAsk) -> SnapshotAnswer:
        """What somebody is told who asks for a part of a snapshot. Another height than the one asked for means that that one is gone."""
        steps = self.steps_from(ask.epoch)
        newest = max(self._kept, default=0)
        found = self._kept.get(ask.height) or self._kept.get(newest)
        if found is None:
            return SnapshotAnswer(steps)
        if found.header.height == ask.height:
            self._kept[ask.height] = self._kept.pop(ask.height)  # it is in use
            start = ask.start
        else:
            start = bytes(32)
        try:
            chunk = chunk_at(found.state, start)
        except RemoteProtocolError:
            return SnapshotAnswer(steps)
        return SnapshotAnswer(steps, found.header, found.proof, chunk)
