"""Catching up: one peer is asked at a time, and nobody can make us answer often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.consensus.block_chain import BlockChain, is_history
from fluvial.consensus.bounded import remember
from fluvial.consensus.outputs import Output, StartTimer, StopTimer
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk, HostMessage, LedgerStatus
from fluvial.identity import PeerId
from fluvial.ledger.statements import ValidatorSet, Verify

ANSWER_PAUSE_MS: Final = 5
"""Shortest time between two histories for one peer."""

PAUSE_MAX: Final = 32
"""The pause between two questions grows to so many times Δ."""

PEERS_MAX: Final = 1_024
"""So many peers are remembered as asked, and as answered; anybody can ask, and can say that there is something to ask for."""


class HistorySync:
    """Asks for the blocks above the tip, and answers who asks.

    Args:
        me: this peer.
        chain: the final blocks here.
        delta_ms: how long a message takes at most.
        transmit: sends a message to a peer.
        put: gives an output to the shell.
    """

    def __init__(
        self,
        me: PeerId,
        chain: BlockChain,
        delta_ms: int,
        transmit: Callable[[PeerId, HostMessage], None],
        put: Callable[[Output], None],
    ) -> None:
        self._me, self._chain, self._delta_ms = me, chain, delta_ms
        self._transmit, self._put = transmit, put
        self._asked: dict[PeerId, None] = {}
        self._waits = False
        self._wanted = False
        self._pause_ms = 2 * delta_ms
        self._turn = 0
        self._answered: dict[PeerId, int] = {}
        self._told: dict[PeerId, int] = {}

    def want(self, hint: PeerId | None, validators: ValidatorSet) -> None:
        """Ask for what is above the tip, unless somebody is asked already.

        Args:
            hint: who seems to have it; else each validator in turn.
            validators: of the epoch.
        """
        self._wanted = True
        if self._waits:
            return
        others = [peer for peer in validators.peers if peer != self._me]
        if hint in (None, self._me) and others:
            self._turn += 1
            hint = others[self._turn % len(others)]
        if hint not in (None, self._me):
            assert hint is not None, "nobody is asked otherwise"
            self._waits = True
            remember(self._asked, hint, None, most=PEERS_MAX)
            self._transmit(hint, HistoryAsk(self._chain.tip.height))
            self._put(StartTimer("history", self._pause_ms))

    def expired(self, validators: ValidatorSet) -> None:
        """Nobody has answered in time: ask the next one, and wait longer. A late answer is welcome all the same."""
        self._waits = False
        self._pause_ms = min(self._pause_ms * 3 // 2, PAUSE_MAX * self._delta_ms)
        if self._wanted:
            self.want(None, validators)

    def is_asked(self, sender: PeerId) -> bool:
        """Whether an answer of a peer is waited for."""
        return sender in self._asked

    def accept(
        self, sender: PeerId, answer: HistoryAnswer, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify
    ) -> bool:
        """Whether an answer is from who was asked, and brings blocks with a proof that they are final."""
        if sender not in self._asked:
            return False
        del self._asked[sender]
        self._waits = self._wanted = False
        self._pause_ms = 2 * self._delta_ms
        self._put(StopTimer("history"))
        if not answer.blocks or answer.blocks[0].header.height > self._chain.tip.height + 1:
            return False
        return is_history(answer, chain, epoch, validators, verify)

    def answer(self, sender: PeerId, above: int, now: int) -> None:
        """Tell a peer what is above a height; an empty answer says that there is nothing."""
        if now - self._answered.get(sender, -ANSWER_PAUSE_MS) >= ANSWER_PAUSE_MS:
            remember(self._answered, sender, now, most=PEERS_MAX)
            self._transmit(sender, self._chain.answer(above))

    def tell_behind(self, sender: PeerId, epoch: int, now: int) -> None:
        """Tell a peer that speaks of an epoch that is over how far the ledger is."""
        if now - self._told.get(sender, -self._delta_ms) >= self._delta_ms:
            remember(self._told, sender, now, most=PEERS_MAX)
            self._transmit(sender, LedgerStatus(epoch, self._chain.tip.height))
