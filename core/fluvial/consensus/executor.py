"""The ledger's head at one replica: the final state, and blocks that are executed on top of it before they are final."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from fluvial.consensus.block_chain import BlockChain
from fluvial.consensus.bounded import remember
from fluvial.consensus.effects import Order
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import BlockHeader, LedgerBlock, payload_hash
from fluvial.ledger.execution import Executed, Invalid
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules
from fluvial.ledger.state import State
from fluvial.ledger.statements import ValidatorSet
from fluvial.ledger.transactions import encode_payload

TENTATIVE_MAX: Final = 256
"""Blocks that are executed and not final."""


class Executor:
    """Executes blocks, each at most once.

    Args:
        chain: the final blocks.
        state: after the last of them.
        rules: of the ledger.
        skew_ms: how far a block's time may be ahead of the clock here.
    """

    def __init__(self, chain: BlockChain, state: State, rules: LedgerRules, skew_ms: int) -> None:
        self.chain, self.state = chain, state
        self._rules, self._skew_ms = rules, skew_ms
        self._results: dict[tuple[bytes, bytes, int], tuple[int, Executed]] = {}
        self._blocks: dict[bytes, tuple[BlockHeader, Executed]] = {}

    def clear(self) -> None:
        """Forget everything that is not final."""
        self._results.clear()
        self._blocks.clear()

    def build(self, parent: bytes, pool: TransactionPool, wall_ms: int) -> tuple[bytes, bytes, int, bool]:
        """A payload on a block: payload, root of the state after it, the block's time, and whether it changes the validators."""
        height, time_ms, state = self._parent(parent)
        time_ms = max(time_ms + 1, wall_ms)
        payload, done = self._rules.build(state, pool, height=height + 1, time_ms=time_ms)
        self._remember((parent, payload, time_ms), height + 1, done)
        return payload, self._rules.root(done.state), time_ms, done.terminal

    def gather(
        self, pool: TransactionPool, without: Container[bytes], bytes_max: int
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """A payload of what waits, and its transactions; nothing is executed."""
        return self._rules.gather(self.state, pool, without, bytes_max, height=self.chain.tip.height + 1)

    def check(self, block: LedgerBlock, wall_ms: int) -> Executed:
        """Execute a proposed block.

        Raises:
            Invalid: nobody should vote for it.
            KeyError: its parent was never checked.
        """
        header = block.header
        if header.id in self._blocks:
            return self._blocks[header.id][1]
        height, time_ms, state = self._parent(header.parent)
        if header.height != height + 1 or not block.is_whole():
            raise Invalid("malformed")
        if not time_ms < header.time_ms <= wall_ms + self._skew_ms:
            raise Invalid("time")
        return self._run(block, state)

    def final(self, block: LedgerBlock) -> Executed:
        """What a final block makes of the state, of which it must be the next.

        Raises:
            Invalid: it does not lead to the state that it names. Then this peer, or a quorum, is wrong.
        """
        known = self._blocks.get(block.id)
        return known[1] if known is not None else self._run(block, self.state)

    def order(self, order: Order, chain: bytes, epoch: int, validators: ValidatorSet) -> tuple[LedgerBlock, Executed]:
        """The next block out of ordered payloads: what is valid in them."""
        tip = self.chain.tip
        time_ms = max(tip.time_ms + 1, order.time_ms)
        done = self._rules.order(
            self.state,
            order.payloads,
            height=tip.height + 1,
            time_ms=time_ms,
            authors=order.authors,
            proposer=order.proposer,
        )
        payload = encode_payload(done.transactions)
        header = BlockHeader(
            chain=chain,
            epoch=epoch,
            slot=order.slot,
            height=tip.height + 1,
            parent=tip.id,
            payload=payload_hash(payload),
            state=self._rules.root(done.state),
            validators=validators.digest,
            proposer=order.proposer,
            time_ms=time_ms,
        )
        return LedgerBlock(header, payload), done

    def replay(self, block: LedgerBlock) -> Executed:
        """Execute and add a block of the log; returns what it has become.

        Raises:
            RemoteProtocolError: it does not lead to the state that it names.
        """
        header = block.header
        if not block.is_whole():
            raise RemoteProtocolError(f"block {header.height} of the log has another payload than it names")
        try:
            done = self._rules.replay(self.state, block.payload, height=header.height, time_ms=header.time_ms)
        except Invalid as error:
            raise RemoteProtocolError(f"block {header.height} of the log is invalid: {error}") from error
        if self._rules.root(done.state) != header.state:
            raise RemoteProtocolError(f"block {header.height} of the log does not lead to the state that it names")
        self.advance(block, done)
        return done

    def advance(self, block: LedgerBlock, done: Executed) -> None:
        """Add a final block."""
        self.chain.append(block)
        self.state = done.state
        height = block.header.height
        for old in [one for one, (known, _) in self._blocks.items() if known.height <= height]:
            del self._blocks[old]
        for past in [one for one, (of, _) in self._results.items() if of <= height]:
            del self._results[past]

    def _parent(self, block: bytes) -> tuple[int, int, State]:
        """Height, time and state of the tip, or of a block that was checked."""
        if block == self.chain.tip.id:
            return self.chain.tip.height, self.chain.tip.time_ms, self.state
        header, done = self._blocks[block]
        return header.height, header.time_ms, done.state

    def _run(self, block: LedgerBlock, state: State) -> Executed:
        header = block.header
        key = (header.parent, block.payload, header.time_ms)
        if (known := self._results.get(key)) is not None:
            done = known[1]
        else:
            done = self._rules.check(state, block.payload, height=header.height, time_ms=header.time_ms)
            self._remember(key, header.height, done)
        if self._rules.root(done.state) != header.state:
            raise Invalid("state root")
        remember(self._blocks, header.id, (header, done), most=TENTATIVE_MAX)
        return done

    def _remember(self, key: tuple[bytes, bytes, int], height: int, done: Executed) -> None:
        remember(self._results, key, (height, done), most=TENTATIVE_MAX)
