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
