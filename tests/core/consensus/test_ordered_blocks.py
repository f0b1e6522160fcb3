"""Blocks of payloads that were ordered before anybody had checked them: how large they are, who shares them, and that nothing honest is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fluvial.consensus import payloads as payload_desk
from fluvial.consensus.block_chain import BlockChain, BlocksInMemory
from fluvial.consensus.effects import BuildPayload, Effect, Order
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, PayloadBuilt, TimerFired
from fluvial.consensus.executor import Executor
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.outputs import Append, BlockFinal, Output
from fluvial.consensus.replica import Replica
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.wire import BlockEntry
from fluvial.encoding import encode
from fluvial.hosting.log import ConsensusLog
from fluvial.identity import KeyPair
from fluvial.ledger import ordered, transactions
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, LedgerBlock
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.ordered import LIE, ORDERED_WITHIN, SKIPPED_MAX
from fluvial.ledger.perimeters import MEMBERS_MAX, CreatePerimeter, PerimeterMember, PerimeterTerms
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import Validator, ValidatorSet
from fluvial.ledger.transactions import TransferUnits, decode_payload, encode_payload, sign_transaction

NODES = [keys_of(f"node {number}") for number in range(4)]
USERS = [keys_of(f"account {number}") for number in range(2)]
GENESIS = Genesis(
    name="test",
    time_ms=0,
    validators=tuple(Validator(str(one.peer_id)) for one in NODES),
    balances=tuple((one.public_key, 1_000_000) for one in USERS),
)
MEMBER = PerimeterMember("s" * 128, str(NODES[0].peer_id))
RULES = LedgerRules(GENESIS.chain, PayloadLimits())


def large(keys: KeyPair, nonce: int) -> bytes:
    """A transaction of 48 KB."""
    terms = PerimeterTerms((MEMBER,) * MEMBERS_MAX, bytes(32), (keys.public_key,))
    return sign_transaction(keys, GENESIS.chain, nonce, CreatePerimeter(terms))


LARGE = [[large(keys, nonce) for nonce in range(16)] for keys in USERS]
"""Sixteen transactions of each user: 768 KB."""


def pay(keys: KeyPair, nonce: int) -> bytes:
    return sign_transaction(keys, GENESIS.chain, nonce, TransferUnits(NODES[0].public_key, 1))


class ByHand:
    """An engine that does what its timers say: ``build`` a payload, or put those of ``orders`` into an order."""

    def __init__(self, setup: EngineSetup) -> None:
        self.built: list[bytes] = []
        self.orders: list[Order] = []
        self.bytes_max = PAYLOAD_BYTES_MAX

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        return []

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        match event:
            case TimerFired("build"):
                return [BuildPayload(len(self.built) + 1, None, self.bytes_max)]
            case TimerFired("order"):
                found, self.orders = self.orders, []
                return found
            case PayloadBuilt(payload=payload):
                self.built.append(payload)
        return []

    def inspect(self) -> Mapping[str, Any]:
        return {}


class OneReplica:
    """The first validator, with its engine in our hand."""

    def __init__(self, *, idle_ms: int = 0) -> None:
        engines: list[ByHand] = []

        def make(setup: EngineSetup) -> ByHand:
            engines.append(ByHand(setup))
            return engines[-1]

        self.replica = Replica(
            ReplicaConfig(
                me=NODES[0].peer_id,
                sign=NODES[0].sign,
                verify=verify_once,
                genesis=GENESIS,
                make=make,
                certifies_state=False,
                rules=RULES,
                pool=TransactionPool(GENESIS.chain),
                delta_ms=100,
                idle_ms=idle_ms,
            )
        )
        self._now = 0
        self.replica.start([], 0, 0)
        (self._engine,) = engines

    def waits(self, *new: bytes) -> None:
        """Let transactions wait."""
        for one in new:
            self.replica.submit(one, self._now, self._now)

    def proposes(self, bytes_max: int = PAYLOAD_BYTES_MAX) -> bytes:
        """Its next payload."""
        self._engine.bytes_max = bytes_max
        self._fire("build")
        return self._engine.built[-1]

    def builds(self) -> bool:
        """Whether it makes a payload at once."""
        before = len(self._engine.built)
        self._fire("build")
        return len(self._engine.built) > before

    @property
    def built(self) -> bytes:
        """Its last payload."""
        return self._engine.built[-1]

    def orders(self, slot: int, payloads: Mapping[int, bytes]) -> Sequence[bytes]:
        """The transactions of the block that an order makes of each author's payload; none if there is no block."""
        order = Order(slot, slot % 4, 1, tuple(payloads.values()), bytes(32), tuple(payloads))
        self._engine.orders.append(order)
        outputs = self._fire("order")
        ConsensusLog().append([one.entry for one in outputs if isinstance(one, Append)])
        return [taken for one in outputs if isinstance(one, BlockFinal) for taken in one.executed.transactions]

    def _fire(self, name: str) -> Sequence[Output]:
        self._now += 1
        return self.replica.fired(f"0:{name}", self._now, self._now)


def executor() -> Executor:
    return Executor(BlockChain(GENESIS.anchor(), BlocksInMemory(), GENESIS.chain), GENESIS.state(), RULES, 500)


def block_of(*payloads: bytes, at: Executor) -> LedgerBlock:
    order = Order(1, 0, 1, payloads, bytes(32), tuple(range(len(payloads))))
    return at.order(order, GENESIS.chain, 0, ValidatorSet(GENESIS.validators))[0]


def test_a_block_of_several_payloads_is_written_and_read_back() -> None:
    """Each payload alone fits into a block, and both together do not."""
    block = block_of(*map(encode_payload, LARGE), at=executor())
    assert PAYLOAD_BYTES_MAX - 60_000 < len(block.payload) <= PAYLOAD_BYTES_MAX
    ConsensusLog().append([encode(BlockEntry(block))])
    executor().replay(block)


def test_a_block_of_several_payloads_has_no_more_transactions_than_a_block_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ordered, "TRANSACTIONS_MAX", 10)
    block = block_of(*(encode_payload([pay(keys, nonce) for nonce in range(8)]) for keys in USERS), at=executor())
    assert len(decode_payload(block.payload)) == 10
    executor().replay(block)


def test_authors_share_a_block_and_what_is_chosen_keeps_its_order() -> None:
    """One author has filled ten payloads, another one has a few small transactions in one that comes after them."""
    small = [bytes([number]) * 100 for number in range(200)]
    heavy = [encode_payload([bytes(50_000)] * 2)] * 10
    found = ordered.chosen([*heavy, encode_payload(small), *heavy], [3] * 10 + [1] + [3] * 10)
    assert [one.transaction for one in found if one.author == 1] == small
    assert sum(one.author == 3 for one in found) == 20, "it has the rest"
    assert [one.number for one in found] == sorted(one.number for one in found)


def test_neither_large_nor_small_transactions_take_more_than_their_part() -> None:
    tiny = encode_payload([b""] * 9_000)
    large = encode_payload([bytes(65_536)] * 15)
    mine = encode_payload([bytes(200)] * 4_000)
    for other in (tiny, large):
        found = ordered.chosen([other, mine], [0, 1])
        assert sum(one.author == 1 for one in found) >= 1_000


def test_whose_turn_it_is_comes_first() -> None:
    payloads = [encode_payload([bytes([author]) * 65_000]) for author in range(64)]
    for first in (0, 40, 63):
        found = {one.author for one in ordered.chosen(payloads, range(64), first=first)}
        assert len(found) == 16
        assert first in found


def test_what_several_authors_propose_needs_room_once() -> None:
    """One of them has seen the others' payload and proposes the same in the wrong order, before them."""
    good = [pay(USERS[0], nonce) for nonce in range(4)]
    done = RULES.order(
        GENESIS.state(), [encode_payload(good[::-1]), encode_payload(good)], height=1, time_ms=1, authors=(0, 1)
    )
    assert done.transactions == tuple(good)
    large = [bytes([number]) * 60_000 for number in range(12)]
    assert len(ordered.chosen([encode_payload(large)] * 4, range(4))) == 48


def test_of_nobody_more_is_read_than_a_block_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator can keep its payloads back for hundreds of rounds and show them all at once."""
    read: list[bytes] = []
    monkeypatch.setattr(ordered, "decode_payload", lambda payload: read.append(payload) or decode_payload(payload))
    many = [encode_payload([bytes(60_000)] * 10)] * 300
    ordered.chosen([*many, encode_payload([b"x"])], [2] * 300 + [1])
    assert sum(map(len, read)) < PAYLOAD_BYTES_MAX


def test_what_is_skipped_costs_little_and_is_of_one_author(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator that lies has ordered hundreds of signatures at once that are wrong; and good transactions behind them."""
    tried: list[bytes] = []

    def counting(key: bytes, signature: bytes, message: bytes) -> bool:
        tried.append(signature)
        return verify_once(key, signature, message)

    monkeypatch.setattr(transactions, "verify", counting)
    bad = [pay(USERS[0], 0)[:-2] + number.to_bytes(2, "big") for number in range(1_000)]
    good = [pay(USERS[1], nonce) for nonce in range(3)]
    lies = [encode_payload(bad[start : start + 250]) for start in range(0, 1_000, 250)]
    late = encode_payload([pay(USERS[0], 0)])
    done = RULES.order(GENESIS.state(), [*lies, late, encode_payload(good)], height=1, time_ms=1, authors=[0] * 5 + [1])
    assert done.transactions == tuple(good)
    assert SKIPPED_MAX <= LIE * len(tried) <= SKIPPED_MAX + LIE * len(good)


def test_who_is_copied_loses_nothing() -> None:
    mine = [pay(USERS[0], nonce) for nonce in range(SKIPPED_MAX + 20)]
    copied = encode_payload(mine[: SKIPPED_MAX + 10])
    done = RULES.order(GENESIS.state(), [copied, encode_payload(mine)], height=1, time_ms=1, authors=[0, 1])
    assert done.transactions == tuple(mine)


def test_what_others_were_faster_with_shuts_out_nothing_behind_it() -> None:
    """A stranger gives one half of a pair to one validator and the other half to another."""
    halves = [
        [sign_transaction(USERS[0], GENESIS.chain, nonce, TransferUnits(one.public_key, 0)) for nonce in range(200)]
        for one in NODES[:2]
    ]
    good = pay(USERS[1], 0)
    payloads = [encode_payload(halves[0]), encode_payload([*halves[1], good])]
    done = RULES.order(GENESIS.state(), payloads, height=1, time_ms=1, authors=[0, 1])
    assert done.transactions == (*halves[0], good)


def test_what_might_have_expired_when_it_is_ordered_is_not_proposed() -> None:
    one = OneReplica()
    body = TransferUnits(NODES[0].public_key, 1)
    short, long = (
        sign_transaction(keys, GENESIS.chain, 0, body, valid_until=1 + ORDERED_WITHIN + more)
        for more, keys in enumerate(USERS, -1)
    )
    one.waits(short, long)
    assert decode_payload(one.proposes()) == [long]


def test_what_waits_for_others_does_not_keep_an_idle_ledger_busy() -> None:
    """One transaction whose nonce lies in the future made blocks follow each other as fast as they can, for ever."""
    one = OneReplica(idle_ms=1_000)
    one.waits(pay(USERS[0], 1))
    assert not one.builds()
    one.waits(pay(USERS[0], 0))
    assert decode_payload(one.built) == [pay(USERS[0], 0), pay(USERS[0], 1)]


# --- what is left out ---------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_proposed_again() -> None:
    mine, theirs = LARGE
    one = OneReplica()
    one.waits(*mine)
    payload = one.proposes()
    assert decode_payload(payload) == list(mine)
    assert not one.proposes(), "all of it is on its way"
    taken = one.orders(1, {0: payload, 1: encode_payload(theirs)})
    assert 0 < len(set(mine) - set(taken)) < len(mine)
    again = one.proposes()
    assert decode_payload(again) == [waiting for waiting in mine if waiting not in taken]
    assert list(one.orders(2, {0: again})) == decode_payload(again)
    assert not one.proposes()


def test_what_a_block_from_others_left_out_is_proposed_again() -> None:
    one = OneReplica()
    one.waits(pay(USERS[0], 0))
    payload = one.proposes()
    one.orders(1, {1: encode_payload([pay(USERS[1], 0)])})
    assert not one.orders(1, {1: b"", 0: payload}), "the block is known"
    assert one.proposes() == payload


def test_what_others_propose_is_no_reason_to_propose_it_again() -> None:
    one = OneReplica()
    one.waits(pay(USERS[0], 0), pay(USERS[0], 1))
    payload = one.proposes()
    one.orders(1, {1: encode_payload([pay(USERS[0], 1)])})
    assert not one.proposes()
    assert list(one.orders(2, {0: payload})) == decode_payload(payload)


def test_what_was_never_ordered_is_proposed_again_after_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_desk, "IN_FLIGHT_BLOCKS", 5)
    one = OneReplica()
    one.waits(pay(USERS[0], 0))
    payload = one.proposes()
    for slot in range(1, 6):
        one.orders(slot, {1: b""})
        assert not one.proposes()
    one.orders(6, {1: b""})
    assert one.proposes() == payload


def test_a_payload_is_as_large_as_the_engine_wants_it() -> None:
    one = OneReplica()
    one.waits(*LARGE[0])
    size = len(encode_payload(LARGE[0][:4]))
    assert one.proposes(size + 40) == encode_payload(LARGE[0][:4])
    assert len(decode_payload(one.proposes(size - 1))) == 3
    assert len(decode_payload(one.proposes())) == 9
