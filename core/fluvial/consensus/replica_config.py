"""What a replica is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fluvial.consensus.block_chain import BlocksInMemory, BlockStore
from fluvial.consensus.engine import ConsensusEngine, EngineSetup
from fluvial.identity import PeerId
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules
from fluvial.ledger.statements import Sign, Verify


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaConfig:
    """What a replica is made of.

    Attributes:
        me, sign: who it is.
        verify: checks signatures.
        genesis: of the ledger.
        make: makes an engine for an epoch.
        certifies_state: whether the engine commits blocks with roots, or orders payloads.
        rules: of the ledger.
        pool: what waits here.
        delta_ms: how long a message takes at most.
        skew_ms: how far a block's time may be ahead of the clock here.
        idle_ms: for how long a payload is held back while nothing waits.
        store: makes the place of the final blocks.
        snapshot_blocks: a snapshot is due every so many blocks, and at the end of an epoch; 0 for never.
        votes_from: the first epoch in which this key may sign.
        stand_in: before that, the engine works under this name and signature, which nobody counts; needed if ``votes_from`` is not 0.
    """

    me: PeerId
    sign: Sign
    verify: Verify
    genesis: Genesis
    make: Callable[[EngineSetup], ConsensusEngine]
    certifies_state: bool
    rules: LedgerRules
    pool: TransactionPool
    delta_ms: int
    skew_ms: int = 500
    idle_ms: int = 0
    store: Callable[[], BlockStore] = BlocksInMemory
    snapshot_blocks: int = 0
    votes_from: int = 0
    stand_in: tuple[PeerId, Sign] | None = None

    def name_in(self, epoch: int) -> tuple[PeerId, Sign]:
        """Under which name the engine of an epoch works: one's own, unless that may have signed in it without anybody remembering what."""
        if epoch >= self.votes_from:
            return self.me, self.sign
        assert self.stand_in is not None, "who must not sign has a stand-in"
        return self.stand_in
