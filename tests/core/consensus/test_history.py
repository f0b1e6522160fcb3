"""Whoever asks for history, or says that there is some, costs a bounded memory."""

from __future__ import annotations

import pytest
from fluvial.consensus.block_chain import BlockChain, BlocksInMemory
from fluvial.consensus.history import ANSWER_PAUSE_MS, PEERS_MAX, HistorySync
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk, HostMessage
from fluvial.identity import PeerId, verify
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import Validator, ValidatorSet

from tests.support.nodes import keys_of

ME = keys_of("me")
ALONE = ValidatorSet((Validator(ME.peer_id),))
STRANGERS = [PeerId.from_public_key(number.to_bytes(32, "big")) for number in range(PEERS_MAX + 1)]


class Sync:
    """A peer that catches up, and what it has sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[PeerId, HostMessage]] = []
        chain = BlockChain(Anchor(0, 0, bytes(32), bytes(32), 0), BlocksInMemory())
        self.sync = HistorySync(ME.peer_id, chain, 100, lambda to, what: self.sent.append((to, what)), lambda _: None)

    def led_to(self, peer: PeerId) -> None:
        """Somebody says that it has more, and does not answer."""
        self.sync.want(peer, ALONE)
        self.sync.expired(ALONE)


def test_late_answers_are_waited_for_from_so_many_peers() -> None:
    one = Sync()
    for peer in STRANGERS:
        one.led_to(peer)
    assert one.sent == [(peer, HistoryAsk(0)) for peer in STRANGERS]
    assert [one.sync.is_asked(peer) for peer in (*STRANGERS[:2], STRANGERS[-1])] == [False, True, True]
    assert not one.sync.accept(STRANGERS[-1], HistoryAnswer((), None, 0), b"", 0, ALONE, verify)
    assert not one.sync.is_asked(STRANGERS[-1])


@pytest.mark.parametrize(("strangers", "answers"), [(PEERS_MAX - 1, 1), (PEERS_MAX, 2)])
def test_who_asks_again_at_once_is_answered_once_as_long_as_it_is_remembered(strangers: int, answers: int) -> None:
    one = Sync()
    one.sync.answer(ME.peer_id, 0, 0)
    for peer in STRANGERS[:strangers]:
        one.sync.answer(peer, 0, 0)
    one.sync.answer(ME.peer_id, 0, ANSWER_PAUSE_MS - 1)
    assert [to for to, _ in one.sent].count(ME.peer_id) == answers
