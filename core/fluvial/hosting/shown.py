"""What a host shows of its ledger: the newest durable view, the newest state with a proof, and what became of transactions lately."""

from __future__ import annotations

from collections import OrderedDict, deque
from statistics import median
from typing import Final

from fluvial.consensus.outputs import BlockFinal
from fluvial.hosting.certified import CertifiedStates
from fluvial.hosting.view import StateView
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.state import State
from fluvial.ledger.transactions import transaction_id
from fluvial.ports import NO_BLOCKS, View

OUTCOMES_MAX: Final = 16_384
"""Transactions whose outcome is remembered."""
DELAYS_MAX: Final = 256
"""Blocks over which their delay is told."""


class ShownLedger:
    """See the module's docstring.

    Attributes:
        view: the state after the last block that is final and durable here.
        certified: states with proofs.
        outcomes: what became of transactions, by their ids: height, and why there was no effect.
        transactions: how many were executed since the start.
    """

    def __init__(self) -> None:
        self.view: View = NO_BLOCKS
        self.certified: Final = CertifiedStates()
        self.outcomes: Final[OrderedDict[bytes, tuple[int, str]]] = OrderedDict()
        self.transactions = 0
        self._delays_ms: deque[int] = deque(maxlen=DELAYS_MAX)
        self._changes: dict[str, int] = {}
        self._since = 0

    @property
    def block_ms(self) -> int:
        """The median of how long the last blocks took from their proposal until they were durable here, in milliseconds."""
        return int(median(self._delays_ms)) if self._delays_ms else 0

    def open(self, height: int, state: State, tip: BlockHeader | None, proof: FinalityProof | None) -> None:
        """The ledger as the log has it, or behind a snapshot that was fetched: everything may be new.

        Args:
            height: how many blocks there are.
            state: after them.
            tip: the last of them; None if there is none.
            proof: of the last one, if it is known.
        """
        self._since, self._changes = height, {}
        self.view = StateView(height, state, self._changes, self._since)
        if tip is not None:
            self.certified.put(tip, state)
            if proof is not None:
                self.certified.prove(tip.height, proof)

    def show(self, final: BlockFinal, wall_ms: int) -> None:
        """A block is durable: show the state after it."""
        header, done = final.block.header, final.executed
        self._changes = {**self._changes, **dict.fromkeys(done.modules, header.height)}
        self.view = StateView(header.height, done.state, self._changes, self._since)
        self.certified.put(header, done.state)
        self.transactions += len(done.transactions)
        self._delays_ms.append(max(0, wall_ms - header.time_ms))
        for transaction, failed in zip(done.transactions, done.results, strict=True):
            self.outcomes[transaction_id(transaction)] = header.height, failed
        while len(self.outcomes) > OUTCOMES_MAX:
            self.outcomes.popitem(last=False)
