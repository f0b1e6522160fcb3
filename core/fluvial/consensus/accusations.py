"""Evidence at one replica: what an engine, a peer or the ledger brings is checked, kept, passed on, and brought onto the ledger."""

from __future__ import annotations

from collections.abc import Callable

from fluvial.consensus.outputs import Convicted, Output
from fluvial.consensus.wire import EvidenceEntry, EvidenceMessage
from fluvial.identity import PeerId
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.state import State
from fluvial.ledger.statements import Evidence, ValidatorSet, Verify
from fluvial.ledger.transactions import report


class Accusations:
    """What is held against validators.

    Args:
        chain: id of the ledger.
        verify: checks signatures.
        pool: evidence waits here for a block.
        write: appends to the log.
        broadcast: sends to the validators.
        put: gives an output to the shell.

    Attributes:
        held: by the offender's key.
    """

    def __init__(
        self,
        chain: bytes,
        verify: Verify,
        pool: TransactionPool,
        *,
        write: Callable[[EvidenceEntry], None],
        broadcast: Callable[[EvidenceMessage], None],
        put: Callable[[Output], None],
    ) -> None:
        self.held: dict[bytes, Evidence] = {}
        self._chain, self._verify, self._pool = chain, verify, pool
        self._write, self._broadcast, self._put = write, broadcast, put

    def convict(self, evidence: Evidence, validators: ValidatorSet, state: State) -> None:
        """Take evidence of anybody against a validator: keep it, pass it on, and bring it onto the ledger."""
        if evidence.offender in self.held or validators.index(PeerId.from_public_key(evidence.offender)) is None:
            return
        if not evidence.convicts(self._chain, self._verify):
            return
        self.hold(evidence)
        self._broadcast(EvidenceMessage(evidence))
        self._pool.report(report(evidence), state)

    def hold(self, evidence: Evidence) -> None:
        """Keep evidence that was checked."""
        if evidence.offender not in self.held:
            self.held[evidence.offender] = evidence
            self._write(EvidenceEntry(evidence))
            self._put(Convicted(evidence))
