"""Whoever asks for history, or says that there is some, costs a bounded memory and a bounded number of questions, and keeps nobody from asking validators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from fluvial.consensus.block_chain import ANSWER_BYTES_MAX, BlockChain, BlocksInMemory
from fluvial.consensus.following import PAUSE, Following
from fluvial.consensus.history import ANSWER_PAUSE_MS, PEERS_MAX, REST_MAX, STRANGERS_GAP, HistorySync
from fluvial.consensus.lab.keys import verify_once
from fluvial.consensus.outputs import Output, StartTimer, StopTimer, Transmit
from fluvial.consensus.replica import Replica
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk, HostMessage, LedgerStatus, SnapshotAsk, decode_message
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor, BlockHeader, FinalityProof, LedgerBlock, payload_hash
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.perimeters import CreatePerimeter, PerimeterMember, PerimeterTerms
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import (
    CHECKPOINT,
    FINALIZE,
    NOTHING,
    Certificate,
    Validator,
    ValidatorSet,
    signed_bytes,
)
from fluvial.ledger.transactions import encode_payload, sign_transaction

from tests.support.nodes import keys_of

DELTA_MS = 100
ME = keys_of("me")
EVE = keys_of("eve").peer_id
GENESIS = Genesis(
    name="history", time_ms=0, validators=tuple(Validator(str(keys_of(f"validator {n}").peer_id)) for n in range(4))
)
DECIDING = ValidatorSet(GENESIS.validators)
STRANGERS = [PeerId.from_public_key(number.to_bytes(32, "big")) for number in range(PEERS_MAX + 1)]
AHEAD = 10**9
EMPTY = HistoryAnswer((), None, AHEAD)


def block(height: int, parent: bytes) -> LedgerBlock:
    header = BlockHeader(GENESIS.chain, 0, height, height, parent, payload_hash(b""), NOTHING, NOTHING, 0, height)
    return LedgerBlock(header)


class Sync:
    """A peer that catches up, what it has sent, and its timer."""

    def __init__(self, height: int = 0) -> None:
        self.sent: list[tuple[PeerId, HostMessage]] = []
        self.outputs: list[Output] = []
        self.chain = BlockChain(Anchor(0, 0, bytes(32), bytes(32), 0), BlocksInMemory())
        for number in range(1, height + 1):
            self.chain.append(block(number, self.chain.tip.id))
        self.verified: list[object] = []
        self.now = 0
        self.sync = HistorySync(
            ME.peer_id, self.chain, DELTA_MS, lambda to, what: self.sent.append((to, what)), self.outputs.append
        )

    def hears(self, peer: PeerId, after_ms: int = 0) -> None:
        self.now += after_ms
        self.sync.heard(peer, DECIDING, self.now)

    def gets(self, sender: PeerId, answer: HistoryAnswer = EMPTY) -> bool:
        return self.sync.accept(sender, answer, GENESIS.chain, 0, DECIDING, self._verify)

    def _verify(self, *signed: object) -> bool:
        self.verified.append(signed)
        return True

    @property
    def asked(self) -> list[PeerId]:
        return [to for to, _ in self.sent]


def proven(*blocks: LedgerBlock) -> HistoryAnswer:
    header = blocks[-1].header
    signatures = tuple((number, bytes(64)) for number in range(3))
    return HistoryAnswer(blocks, FinalityProof(Certificate(CHECKPOINT, 0, header.height, header.id, signatures)), AHEAD)


def test_late_answers_are_waited_for_from_so_many_peers() -> None:
    one = Sync()
    for peer in STRANGERS:
        one.hears(peer, STRANGERS_GAP * DELTA_MS)
    assert one.sent == [(peer, HistoryAsk(0)) for peer in STRANGERS]
    assert [one.sync.is_asked(peer) for peer in (*STRANGERS[:2], STRANGERS[-1])] == [False, True, True]
    assert not one.gets(STRANGERS[-1])
    assert not one.sync.is_asked(STRANGERS[-1])


@pytest.mark.parametrize(("strangers", "answers"), [(PEERS_MAX - 1, 1), (PEERS_MAX, 2)])
def test_who_asks_again_at_once_is_answered_once_as_long_as_it_is_remembered(strangers: int, answers: int) -> None:
    one = Sync()
    one.sync.answer(ME.peer_id, 0, 0)
    for peer in STRANGERS[:strangers]:
        one.sync.answer(peer, 0, 0)
    one.sync.answer(ME.peer_id, 0, ANSWER_PAUSE_MS - 1)
    assert [to for to, _ in one.sent].count(ME.peer_id) == answers


# --- strangers and validators -------------------------------------------------------------------------------------------


def test_a_stranger_that_brings_nothing_does_not_end_the_wait_for_a_validator() -> None:
    one = Sync()
    one.hears(EVE)
    one.sync.want(None, DECIDING, 0)
    assert one.asked[0] == EVE
    assert one.asked[1] in DECIDING.peers, "though a stranger is asked"
    assert not one.gets(EVE)
    assert not [output for output in one.outputs if isinstance(output, StopTimer)]
    one.sync.expired(DECIDING, 2 * DELTA_MS)
    assert len(one.asked) == 3
    assert one.asked[2] in DECIDING.peers, "the next one: what was wanted still is"


def test_strangers_are_asked_seldom_whatever_their_names_and_a_validator_at_once() -> None:
    one = Sync()
    for peer in STRANGERS[:100]:
        one.hears(peer, 10)
        one.gets(peer)
    assert len(one.sent) <= 1_000 / (STRANGERS_GAP * DELTA_MS) + 1
    before = len(one.sent)
    one.hears(DECIDING.peers[2])
    assert one.asked[before:] == [DECIDING.peers[2]]


def test_one_stranger_that_brings_nothing_is_asked_less_and_less_often() -> None:
    one = Sync()
    for _ in range(1_000):
        one.hears(EVE, DELTA_MS)
        one.gets(EVE)
    assert len(one.sent) <= 1_000 / REST_MAX + 6
    assert one.asked[0] == EVE


def test_one_validator_that_brings_nothing_is_asked_less_and_less_often_and_in_its_turn() -> None:
    one = Sync()
    liar = DECIDING.peers[1]
    for _ in range(1_000):
        one.hears(liar, DELTA_MS)
        one.gets(liar)
    assert len(one.sent) <= 1_000 / REST_MAX + 6
    before = len(one.sent)
    for _ in range(8):
        one.sync.want(liar, DECIDING, one.now)
        one.gets(one.asked[-1])
    assert Counter(one.asked[before:]) == dict.fromkeys(DECIDING.peers, 2)


def test_a_stranger_that_brings_blocks_is_asked_again_at_once() -> None:
    one = Sync()
    for _ in range(10):
        one.hears(EVE)
        new = block(one.chain.tip.height + 1, one.chain.tip.id)
        assert one.gets(EVE, proven(new))
        one.chain.append(new)
    assert one.asked == [EVE] * 10


def test_a_peer_whose_newest_blocks_have_no_proof_yet_keeps_its_word() -> None:
    one = Sync()
    for _ in range(10):
        one.hears(DECIDING.peers[0])
        new = block(one.chain.tip.height + 1, one.chain.tip.id)
        assert one.gets(DECIDING.peers[0], proven(new))
        one.chain.append(new)
        one.hears(DECIDING.peers[0])
        assert not one.gets(DECIDING.peers[0])
    assert len(one.sent) == 20


def test_no_signature_of_blocks_that_are_here_is_verified_again() -> None:
    one = Sync(height=3)
    here = [one.chain.store.block(height) for height in (1, 2, 3)]
    one.hears(EVE)
    assert not one.gets(EVE, proven(*here))
    assert one.verified == []
    one.hears(DECIDING.peers[0])
    assert one.gets(DECIDING.peers[0], proven(*here, block(4, one.chain.tip.id)))


# --- a whole follower ---------------------------------------------------------------------------------------------------


class Follower:
    """A replica that follows, in virtual time; validators answer that they have nothing new."""

    def __init__(self) -> None:
        self.replica = Replica(
            ReplicaConfig(
                me=ME.peer_id,
                sign=ME.sign,
                verify=verify_once,
                genesis=GENESIS,
                make=Following,
                certifies_state=True,
                rules=LedgerRules(GENESIS.chain, PayloadLimits()),
                pool=TransactionPool(GENESIS.chain),
                delta_ms=DELTA_MS,
            )
        )
        self.now = 0
        self.timers: dict[str, int] = {}
        self.sent: list[tuple[PeerId | None, HostMessage]] = []
        self.answered = 0
        self.act(self.replica.start([], 0, 0))

    def act(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case StartTimer(name, after_ms):
                    self.timers[name] = self.now + after_ms
                case StopTimer(name):
                    self.timers.pop(name, None)
                case Transmit(to, data):
                    self.sent.append((to, decode_message(data)))

    def receive(self, sender: PeerId, message: HostMessage) -> None:
        self.act(self.replica.receive(sender, encode(message), self.now, self.now))

    def pass_time(self, ms: int) -> None:
        self.now += ms
        fresh, self.answered = self.sent[self.answered :], len(self.sent)
        for to, message in fresh:
            if to in DECIDING.peers and isinstance(message, HistoryAsk):
                self.receive(to, HistoryAnswer((), None, 0))
        for name in [name for name, due in self.timers.items() if due <= self.now]:
            del self.timers[name]
            self.act(self.replica.fired(name, self.now, self.now))

    def asked(self, kind: type) -> Counter[bool]:
        """How often a validator was asked, and how often somebody else."""
        return Counter(to in DECIDING.peers for to, message in self.sent if isinstance(message, kind))


def test_a_stranger_does_not_keep_a_follower_from_asking_validators() -> None:
    quiet, attacked = Follower(), Follower()
    for _ in range(200):
        quiet.pass_time(50)
        attacked.pass_time(50)
        for message in (LedgerStatus(0, AHEAD), EMPTY, LedgerStatus(7, 0), EMPTY, LedgerStatus(0, AHEAD)):
            attacked.receive(EVE, message)
    assert quiet.asked(HistoryAsk)[True] >= 10_000 // (PAUSE * DELTA_MS)
    assert attacked.asked(HistoryAsk)[True] == quiet.asked(HistoryAsk)[True]
    assert attacked.asked(HistoryAsk)[False] <= 10_000 / (REST_MAX * DELTA_MS) + 6


def test_only_a_validator_can_say_that_a_snapshot_is_needed() -> None:
    one = Follower()
    one.pass_time(50)
    one.receive(EVE, LedgerStatus(0, AHEAD))
    assert one.sent[-1] == (EVE, HistoryAsk(0))
    one.receive(EVE, HistoryAnswer((), None, AHEAD, AHEAD))
    assert not one.asked(SnapshotAsk)
    one.pass_time(PAUSE * DELTA_MS)
    validator = next(to for to, _ in reversed(one.sent) if to in DECIDING.peers)
    assert validator is not None
    one.receive(validator, HistoryAnswer((), None, AHEAD, AHEAD))
    assert one.asked(SnapshotAsk)[True]


class LongHistory:
    """Blocks of which an answer has three, with real transactions, and their proof."""

    def __init__(self, count: int) -> None:
        rules, state, parent = LedgerRules(GENESIS.chain, PayloadLimits()), GENESIS.state(), GENESIS.anchor().id
        members = tuple(PerimeterMember(f"{number:0>128}", f"{number:0>54}") for number in range(256))
        body = CreatePerimeter(PerimeterTerms(members, NOTHING, (ME.public_key,)))
        blocks = []
        for height in range(1, count + 1):
            nonces = range(2 * height - 2, 2 * height)
            payload = encode_payload([sign_transaction(ME, GENESIS.chain, nonce, body) for nonce in nonces])
            state = rules.check(state, payload, height=height, time_ms=height).state
            header = BlockHeader(
                GENESIS.chain,
                0,
                height,
                height,
                parent,
                payload_hash(payload),
                state.root,
                DECIDING.digest,
                0,
                height,
            )
            blocks.append(LedgerBlock(header, payload))
            parent = header.id
        message = signed_bytes(GENESIS.chain, FINALIZE, 0, count, parent)
        signatures = tuple((number, keys_of(f"validator {number}").sign(message)) for number in range(4))
        proof = FinalityProof(Certificate(FINALIZE, 0, count, parent, signatures))
        self.answer = HistoryAnswer(tuple(blocks), proof, count)


def test_whoever_sends_many_large_blocks_has_a_few_executed_in_one_piece() -> None:
    answer = LongHistory(12).answer
    assert len(answer.blocks[0].payload) * 3 > ANSWER_BYTES_MAX > len(answer.blocks[0].payload) * 2
    one = Follower()
    one.pass_time(50)
    one.receive(EVE, LedgerStatus(0, 12))
    heights = [0]
    while heights[-1] < 12:
        assert one.sent[-1] == (EVE, HistoryAsk(heights[-1])), "what is left is asked for at once"
        one.receive(EVE, answer)
        heights.append(one.replica.chain.tip.height)
    assert heights == [0, 3, 6, 9, 12]
    assert one.replica.chain.store.proof(12) is not None
