"""The ledger as a replica uses it: building, checking and executing payloads."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, TRANSACTIONS_MAX
from fluvial.ledger.execution import BlockExecution, Executed, Invalid, Late, execute
from fluvial.ledger.ordered import FRAMING, LIE, ORDERED_WITHIN, SKIPPED_MAX, chosen
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.state import State
from fluvial.ledger.transactions import decode_payload, encode_payload


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadLimits:
    """How large a payload may be that this peer proposes: bytes, and transactions."""

    bytes_max: int = PAYLOAD_BYTES_MAX - 4096
    transactions_max: int = TRANSACTIONS_MAX


class LedgerRules:
    """The rules of one ledger, without any state. The laboratory makes liars by overriding it.

    Args:
        chain: id of the ledger.
        limits: of the payloads that this peer makes.
    """

    def __init__(self, chain: bytes, limits: PayloadLimits) -> None:
        self.chain = chain
        self.limits = limits

    def root(self, state: State) -> bytes:
        """What this peer says the root of a state is."""
        return state.root

    def build(self, state: State, pool: TransactionPool, *, height: int, time_ms: int) -> tuple[bytes, Executed]:
        """A payload that is valid on a state, and what it makes of it."""
        most = self.limits
        waiting = pool.take(state, bytes_max=most.bytes_max, count_max=most.transactions_max, height=height)
        done = execute(state, waiting, chain=self.chain, height=height, time_ms=time_ms, strict=False)
        return encode_payload(done.transactions), done

    def gather(
        self, state: State, pool: TransactionPool, without: Container[bytes], bytes_max: int, *, height: int
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """A payload of what waits, for engines that order before anything is executed; and its transactions.

        Args:
            state: the newest.
            pool: what waits.
            without: ids of what is on its way already.
            bytes_max: of the payload.
            height: of the next block; the payload may come into one that is ``ORDERED_WITHIN`` higher.
        """
        waiting = pool.take(
            state,
            bytes_max=min(self.limits.bytes_max, bytes_max - FRAMING),
            count_max=self.limits.transactions_max,
            without=without,
            height=height + ORDERED_WITHIN,
        )
        return encode_payload(waiting), tuple(waiting)

    def check(self, state: State, payload: bytes, *, height: int, time_ms: int) -> Executed:
        """What a proposed payload makes of a state.

        Raises:
            Invalid: it must not be in a block.
        """
        return self._executed(state, payload, height, time_ms)

    def replay(self, state: State, payload: bytes, *, height: int, time_ms: int) -> Executed:
        """As :meth:`check`, of a block in the peer's own log: who has signed its transactions was verified before it was written."""
        return self._executed(state, payload, height, time_ms, verified=True)

    def _executed(self, state: State, payload: bytes, height: int, time_ms: int, *, verified: bool = False) -> Executed:
        try:
            transactions = decode_payload(payload)
        except RemoteProtocolError as error:
            raise Invalid("payload") from error
        return execute(
            state, transactions, chain=self.chain, height=height, time_ms=time_ms, strict=True, verified=verified
        )

    def order(
        self,
        state: State,
        payloads: Sequence[bytes],
        *,
        height: int,
        time_ms: int,
        authors: Sequence[int] = (),
        proposer: int = 0,
    ) -> Executed:
        """What payloads make of a state whose transactions nobody has checked; those that must not be there are skipped.

        Nobody pays for what is skipped, so after ``SKIPPED_MAX`` of one author the rest of what it has proposed is left out of this block.

        Args:
            state: before the block.
            payloads: in their order.
            height: of the block.
            time_ms: of the block.
            authors: who made each payload; empty if each counts as another's.
            proposer: the author whose turn the block was.
        """
        block = BlockExecution(state, chain=self.chain, height=height, time_ms=time_ms)
        skipped: dict[int, int] = {}
        for one in chosen(payloads, authors, first=proposer):
            if one.transaction in block or skipped.get(one.author, 0) >= SKIPPED_MAX:
                continue
            try:
                block.add(one.transaction)
            except Late:
                skipped[one.author] = skipped.get(one.author, 0) + 1
            except Invalid:
                skipped[one.author] = skipped.get(one.author, 0) + LIE
        return block.done()
