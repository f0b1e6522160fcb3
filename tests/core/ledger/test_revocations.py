"""Revocations on the ledger: who may bring one, that it counts once, and that nothing can delay it."""

from __future__ import annotations

import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import KeyPair
from fluvial.ledger.execution import Executed, Invalid, execute
from fluvial.ledger.genesis import ACCOUNTS, Account, Genesis, Parameters
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.revocations import read_revocation, revocation_of
from fluvial.ledger.state import Changes, State
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import TransferUnits, carry_revocation, sign_transaction, transaction_id
from fluvial.ledger.urgent import PER_PAYER_MAX, REVOCATIONS_MAX
from fluvial_trust_graph.statements import (
    TrustStatement,
    encode_statement,
    sign_trust,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.revocations import ANN, BOB, EVE, revocation

GENESIS = Genesis(
    name="test",
    time_ms=0,
    validators=(Validator(str(ANN.peer_id)),),
    balances=tuple((keys.public_key, 10_000) for keys in (ANN, EVE)),
    parameters=Parameters(fee_per_byte=1),
)


def trust() -> bytes:
    one = TrustStatement(network="fluvial", issuer=ANN.peer_id, subject=BOB.peer_id, issued_at=1, expires_at=2)
    return encode_statement(sign_trust(one, ANN))


def carried(statement: bytes = b"", payer: KeyPair = ANN, *, fee_max: int = 1_000, valid_until: int = 9) -> bytes:
    return carry_revocation(payer, GENESIS.chain, statement or revocation(), fee_max=fee_max, valid_until=valid_until)


def run(*transactions: bytes, state: State | None = None, height: int = 3, strict: bool = True) -> Executed:
    before = GENESIS.state() if state is None else state
    return execute(before, transactions, chain=GENESIS.chain, height=height, time_ms=1, strict=strict)


def balance(state: State, keys: KeyPair) -> int:
    return (Changes(state).read(ACCOUNTS, keys.public_key, Account) or Account()).balance


def test_anybody_carries_the_issuers_own_statement_and_pays() -> None:
    done = run(carried(payer=EVE))
    record = revocation_of(done.state, "fluvial", ANN.public_key, BOB.public_key)
    assert record is not None
    assert (record.statement, record.height) == (revocation(), 3)
    assert balance(done.state, EVE) == 10_000 - len(carried(payer=EVE))
    assert revocation_of(done.state, "fluvial", BOB.public_key, ANN.public_key) is None
    assert revocation_of(done.state, "other", ANN.public_key, BOB.public_key) is None


def test_the_same_one_counts_and_costs_once() -> None:
    after = run(carried()).state
    for again in (carried(), carried(payer=EVE), carried(revocation(at=101))):
        with pytest.raises(Invalid, match="known revocation"):
            run(again, state=after)


def test_the_earliest_time_stays_and_so_does_the_height() -> None:
    earlier = run(carried(revocation(at=50)), state=run(carried()).state, height=8).state
    record = revocation_of(earlier, "fluvial", ANN.public_key, BOB.public_key)
    assert record is not None
    assert (read_revocation(record.statement).issued_at, record.height) == (50, 3)


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (carried(flipped(revocation())), "not signed by its issuer"),
        (carried(revocation() + b"x"), "no revocation"),
        (carried(revocation()[:-70]), "no revocation"),
        (carried(b"hello"), "no revocation"),
        (carried(trust()), "no revocation"),
        (flipped(carried()), "signature"),
        (carried(fee_max=10), "fee"),
        (carried(payer=BOB), "fee"),
        (carried(valid_until=2), "expired"),
        (carry_revocation(ANN, bytes(32), revocation(), fee_max=1_000), "chain"),
    ],
)
def test_what_is_not_right_has_no_effect(transaction: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        run(transaction)
    assert run(transaction, strict=False).state.root == GENESIS.state().root


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_bytes_from_anywhere_are_no_revocation(data: bytes) -> None:
    for one in (data, revocation()[: len(data)] + data):
        with pytest.raises(RemoteProtocolError):
            read_revocation(one)


# --- the lane -----------------------------------------------------------------------------------------------------------


def payment(keys: KeyPair, nonce: int) -> bytes:
    return sign_transaction(keys, GENESIS.chain, nonce, TransferUnits(BOB.public_key, 1), fee_max=9_999)


def test_payments_cannot_crowd_a_revocation_out() -> None:
    pool = TransactionPool(GENESIS.chain)
    for nonce in range(64):
        pool.add(payment(EVE, nonce), GENESIS.state(), 1)
    pool.add(carried(fee_max=400), GENESIS.state(), 1)
    taken = pool.take(GENESIS.state(), bytes_max=1_000, count_max=2)
    assert taken[0] == carried(fee_max=400)
    assert len(taken) == 2
    assert pool.take(GENESIS.state(), bytes_max=1_000, count_max=1) == [carried(fee_max=400)]


def test_revocations_take_at_most_a_half_of_a_block() -> None:
    pool = TransactionPool(GENESIS.chain)
    for at in range(8):
        pool.add(carried(revocation(subject=keys_of(f"subject {at}"))), GENESIS.state(), 1)
    for nonce in range(8):
        pool.add(payment(EVE, nonce), GENESIS.state(), 1)
    taken = pool.take(GENESIS.state(), bytes_max=100_000, count_max=8)
    assert taken[4:] == [payment(EVE, nonce) for nonce in range(4)]


def test_a_payer_who_floods_the_lane_has_one_turn_like_everybody() -> None:
    pool = TransactionPool(GENESIS.chain)
    for at in range(PER_PAYER_MAX):
        subject = keys_of(f"subject {at}")
        pool.add(carried(revocation(subject=subject), EVE, fee_max=9_000), GENESIS.state(), 1)
    with pytest.raises(Refused, match="too many"):
        pool.add(carried(payer=EVE), GENESIS.state(), 1)
    pool.add(carried(), GENESIS.state(), 1)
    assert carried() in pool.take(GENESIS.state(), bytes_max=100_000, count_max=4)[:2]


def test_a_full_lane_drops_the_lowest_fee(monkeypatch: pytest.MonkeyPatch) -> None:
    assert REVOCATIONS_MAX == 1_000
    monkeypatch.setattr("fluvial.ledger.urgent.REVOCATIONS_MAX", 2)
    pool = TransactionPool(GENESIS.chain)
    cheap, better, best = (carried(revocation(subject=keys_of(f"s {fee}")), fee_max=fee) for fee in (500, 600, 700))
    for one in (cheap, better, best):
        pool.add(one, GENESIS.state(), 1)
    assert set(pool.take(GENESIS.state(), bytes_max=100_000, count_max=8)) == {better, best}
    with pytest.raises(Refused, match="too many"):
        pool.add(cheap, GENESIS.state(), 1)


def test_who_cannot_pay_in_the_end_does_not_stop_another_payer() -> None:
    pool = TransactionPool(GENESIS.chain)
    pool.add(carried(payer=EVE), GENESIS.state(), 1)
    pool.add(carried(), GENESIS.state(), 1)
    poor = run(sign_transaction(EVE, GENESIS.chain, 0, TransferUnits(BOB.public_key, 9_500), fee_max=400)).state
    pool.forget(poor, [EVE.public_key], 2)
    assert pool.take(poor, bytes_max=10_000, count_max=8) == [carried()]
    pool.forget(run(carried()).state, [], 4)
    assert len(pool) == 0


def test_what_is_in_flight_is_not_taken_again() -> None:
    pool = TransactionPool(GENESIS.chain)
    pool.add(carried(), GENESIS.state(), 1)
    flying = {transaction_id(carried())}
    assert pool.take(GENESIS.state(), bytes_max=10_000, count_max=8, without=flying) == []


def test_revocations_of_keys_without_units_add_to_a_large_state_until_it_is_twice_as_large() -> None:
    free = Genesis(name="free", time_ms=0, validators=GENESIS.validators, balances=((ANN.public_key, 1),))
    state = free.state()
    of_eve, of_ann = (
        carry_revocation(payer, free.chain, revocation(subject=subject), valid_until=9)
        for payer, subject in ((EVE, BOB), (ANN, EVE))
    )
    TransactionPool(free.chain, state_bytes_max=state.weight * 2 // 3).add(of_eve, state, 1)
    pool = TransactionPool(free.chain, state_bytes_max=state.weight // 3)
    with pytest.raises(Refused, match="keys without units add nothing"):
        pool.add(of_eve, state, 1)
    pool.add(of_ann, state, 1)
