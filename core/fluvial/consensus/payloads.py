"""Payloads for an engine: built of what waits, and checked when others propose them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.consensus.effects import BuildPayload
from fluvial.consensus.events import Event, PayloadBuilt, PayloadChecked
from fluvial.consensus.executor import Executor
from fluvial.consensus.outputs import Output, StartTimer
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import LedgerBlock
from fluvial.ledger.execution import Invalid
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.transactions import decode_payload, transaction_id

TIMER: Final = "build"
IN_FLIGHT_BLOCKS: Final = 256
"""After so many blocks a transaction that still waits is proposed again, whatever has become of the payload that it was in: nothing is executed twice."""


class PayloadDesk:
    """Answers the engine of the epoch that goes on.

    Args:
        executor: of the replica.
        pool: what waits.
        idle_ms: for how long a payload is held back while nothing waits that can be in it.
        happened: takes an event for the engine.
        put: gives an output to the shell.
    """

    def __init__(
        self,
        executor: Executor,
        pool: TransactionPool,
        idle_ms: int,
        *,
        happened: Callable[[Event], None],
        put: Callable[[Output], None],
    ) -> None:
        self._executor, self._pool, self._idle_ms = executor, pool, idle_ms
        self._happened, self._put = happened, put
        self._wish: BuildPayload | None = None
        self._in_flight: dict[bytes, int] = {}  # at which height it was proposed, oldest first
        self._built_at = -1
        self._held_back = False  # for as long as an idle ledger waits: the timer that runs is for that

    def clear(self) -> None:
        """Another epoch begins."""
        self._wish = None
        self._in_flight.clear()

    def want(self, wish: BuildPayload, now: int, wall_ms: int) -> None:
        """The engine asks for a payload."""
        self._wish, self._held_back = wish, False
        self.build(now, wall_ms)

    def fired(self, now: int, wall_ms: int) -> None:
        """The timer ran out."""
        self.build(now, wall_ms, due=self._held_back)

    def build(self, now: int, wall_ms: int, *, due: bool = False) -> None:
        """Answer the engine's wish, if there is one, at most once in a millisecond; an idle ledger waits for a transaction, unless that was long enough (``due``)."""
        wish = self._wish
        if wish is None:
            return
        if self._built_at == now:
            self._put(StartTimer(TIMER, 1))
            return
        if not due and not self._pool.is_ready and self._idle_ms:
            if not self._held_back:
                self._held_back = True
                self._put(StartTimer(TIMER, self._idle_ms))
            return
        self._wish = None
        self._built_at = now
        if wish.parent is None:
            height = self._executor.chain.tip.height
            while self._in_flight and next(iter(self._in_flight.values())) < height - IN_FLIGHT_BLOCKS:
                del self._in_flight[next(iter(self._in_flight))]
            payload, transactions = self._executor.gather(self._pool, self._in_flight, wish.bytes_max)
            self._in_flight.update(dict.fromkeys(map(transaction_id, transactions), height))
            self._happened(PayloadBuilt(wish.request, payload, b"", wall_ms))
            return
        payload, root, time_ms, terminal = self._executor.build(wish.parent, self._pool, wall_ms)
        self._happened(PayloadBuilt(wish.request, payload, root, time_ms, terminal))

    def check(self, block: LedgerBlock, wall_ms: int) -> None:
        """Execute and judge what somebody proposes."""
        reason, terminal = "", False
        try:
            terminal = self._executor.check(block, wall_ms).terminal
        except (Invalid, KeyError) as error:
            reason = str(error) or "invalid"
        self._happened(PayloadChecked(block.id, reason, terminal))

    def release(self, payload: bytes) -> None:
        """Transactions of an ordered payload may be proposed again, if they still wait."""
        try:
            for transaction in decode_payload(payload):
                self._in_flight.pop(transaction_id(transaction), None)
        except RemoteProtocolError:
            return  # of a validator that lies; the rules skip it, too
