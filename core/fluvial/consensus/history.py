"""Catching up: one peer is asked at a time, and nobody can make us answer often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fluvial.consensus.chain import Chain, is_history
from fluvial.consensus.outputs import Output, StartTimer, StopTimer
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk, HostMessage, Status
from fluvial.identity import PeerId
from fluvial.ledger.statements import ValidatorSet, Verify

ANSWER_PAUSE_MS: Final = 5
"""Shortest time between two histories for one peer."""


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
        chain: Chain,
        delta_ms: int,
        transmit: Callable[[PeerId, HostMessage], None],
        put: Callable[[Output], None],
    ) -> None:
        self._me, self._chain, self._delta_ms = me, chain, delta_ms
        self._transmit, self._put = transmit, put
        self._asked: PeerId | None = None
        self._wanted = False
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
        if self._asked is not None:
            return
        others = [peer for peer in validators.peers if peer != self._me]
        if hint is None and others:
            self._turn += 1
            hint = others[self._turn % len(others)]
        if hint is not None:
            self._asked = hint
            self._transmit(hint, HistoryAsk(self._chain.tip.height))
            self._put(StartTimer("history", 2 * self._delta_ms))

    def expired(self, validators: ValidatorSet) -> None:
        """Nobody has answered: ask the next one."""
        self._asked = None
        if self._wanted:
            self.want(None, validators)

    def accept(
        self, sender: PeerId, answer: HistoryAnswer, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify
    ) -> bool:
        """Whether an answer is from who was asked, and brings blocks with a proof that they are final."""
        if sender != self._asked:
            return False
        self._asked, self._wanted = None, False
        self._put(StopTimer("history"))
        if not answer.blocks or answer.blocks[0].header.height > self._chain.tip.height + 1:
            return False
        return is_history(answer, chain, epoch, validators, verify)

    def answer(self, sender: PeerId, above: int, now: int) -> None:
        """Tell a peer what is above a height; an empty answer says that there is nothing."""
        if now - self._answered.get(sender, -ANSWER_PAUSE_MS) >= ANSWER_PAUSE_MS:
            self._answered[sender] = now
            self._transmit(sender, self._chain.answer(above))

    def tell_behind(self, sender: PeerId, epoch: int, now: int) -> None:
        """Tell a peer that speaks of an epoch that is over how far the ledger is."""
        if now - self._told.get(sender, -self._delta_ms) >= self._delta_ms:
            self._told[sender] = now
            self._transmit(sender, Status(epoch, self._chain.tip.height))
