"""Catching up: one validator is asked at a time, and besides it one stranger; nobody can make us ask or answer often.

Anybody may say that there are blocks above the tip, and proofs alone are believed, so strangers are asked as well. Nothing that a stranger says or keeps to itself changes
when validators are asked. Whoever has said so and brings nothing, again and again, is asked less and less often for saying it; validators still have their turns.
"""

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

REST_MAX: Final = 32
"""Who has brought nothing rests for so many Δ at most before its word leads to another question."""

STRANGERS_GAP: Final = 2
"""So many Δ are at least between questions to strangers, unless the one before has brought blocks."""

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
        self._asked_strangers: dict[PeerId, None] = {}
        self._strangers_rest_until = 0
        self._in_vain: dict[PeerId, tuple[int, int]] = {}  # questions since it has brought something; rests until
        self._answered: dict[PeerId, int] = {}
        self._told: dict[PeerId, int] = {}

    def want(self, hint: PeerId | None, validators: ValidatorSet, now: int) -> None:
        """Ask a validator for what is above the tip, unless one is asked already.

        Args:
            hint: who seems to have it; if it is no validator, or has lately brought nothing, and without a hint each validator in turn.
            validators: of the epoch.
            now: in milliseconds.
        """
        self._wanted = True
        if self._waits:
            return
        others = [peer for peer in validators.peers if peer != self._me]
        if hint in others and self._may_ask(hint, now):
            self._ask(hint)
        elif others:
            self._turn += 1
            self._ask(others[self._turn % len(others)])

    def heard(self, peer: PeerId, validators: ValidatorSet, now: int) -> None:
        """A peer says that it has what is above the tip: ask it, unless another of its kind is asked, or it has brought nothing lately."""
        if peer == self._me:
            return
        if validators.index(peer) is not None:
            if not self._waits and self._may_ask(peer, now):
                self._wanted = True
                self._ask(peer)
        elif now >= self._strangers_rest_until and self._may_ask(peer, now):
            self._strangers_rest_until = now + STRANGERS_GAP * self._delta_ms
            remember(self._asked_strangers, peer, None, most=PEERS_MAX)
            self._transmit(peer, HistoryAsk(self._chain.tip.height))

    def expired(self, validators: ValidatorSet, now: int) -> None:
        """No validator has answered in time: ask the next one, and wait longer. A late answer is welcome all the same."""
        self._waits = False
        self._pause_ms = min(self._pause_ms * 3 // 2, PAUSE_MAX * self._delta_ms)
        if self._wanted:
            self.want(None, validators, now)

    def is_asked(self, sender: PeerId) -> bool:
        """Whether an answer of a peer is waited for."""
        return sender in self._asked or sender in self._asked_strangers

    def accept(
        self, sender: PeerId, answer: HistoryAnswer, chain: bytes, epoch: int, validators: ValidatorSet, verify: Verify
    ) -> bool:
        """Whether an answer is from who was asked, and brings new blocks with a proof that they are final."""
        if not self.is_asked(sender):
            return False
        self._asked_strangers.pop(sender, None)
        if sender in self._asked:
            del self._asked[sender]
            self._waits = self._wanted = False
            self._pause_ms = 2 * self._delta_ms
            self._put(StopTimer("history"))
        above = self._chain.tip.height + 1
        if not answer.blocks or not answer.blocks[0].header.height <= above <= answer.blocks[-1].header.height:
            return False  # looked at before any signature is verified
        if not is_history(answer, chain, epoch, validators, verify):
            return False
        self._in_vain.pop(sender, None)
        if validators.index(sender) is None:
            self._strangers_rest_until = 0
        return True

    def _ask(self, validator: PeerId) -> None:
        self._waits = True
        remember(self._asked, validator, None, most=PEERS_MAX)
        self._transmit(validator, HistoryAsk(self._chain.tip.height))
        self._put(StartTimer("history", self._pause_ms))

    def _may_ask(self, peer: PeerId, now: int) -> bool:
        """Whether a peer is asked because of its word; if so, it counts as in vain until blocks come.

        Once is usual: somebody else was faster, or its newest blocks have no proof yet.
        """
        vain, until = self._in_vain.get(peer, (0, 0))
        if now < until:
            return False
        rest = min(1 << min(vain, 10), REST_MAX) * self._delta_ms if vain else 0
        remember(self._in_vain, peer, (vain + 1, now + rest), most=PEERS_MAX)
        return True

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
