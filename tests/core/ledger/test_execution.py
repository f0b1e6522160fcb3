"""Transactions: who may do what, that nothing is done twice, and that units are neither made nor lost."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.encoding import encode
from fluvial.errors import Refused
from fluvial.identity import KeyPair
from fluvial.ledger.approvals import approval_bytes
from fluvial.ledger.execution import Executed, Invalid, execute, membership, parameters_of
from fluvial.ledger.genesis import ACCOUNTS, PARAMETERS, Account, Genesis, Parameters
from fluvial.ledger.names import ReleaseName
from fluvial.ledger.offences import OFFENCES
from fluvial.ledger.parsed import ParsedRecords
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.state import Changes, State
from fluvial.ledger.statements import FINALIZE, NOTHING, NULLIFY, Evidence, Validator, signed_bytes
from fluvial.ledger.transactions import (
    Body,
    TransferUnits,
    UpdateParameters,
    UpdateValidators,
    encode_payload,
    report,
    sign_transaction,
)
from fluvial.ledger.tree import KEY_BYTES, Node
from hypothesis import given, settings
from hypothesis import strategies as st

USERS = [keys_of(f"account {number}") for number in range(3)]
ADMINS = [keys_of(f"administrator {number}") for number in range(2)]
NODES = [keys_of(f"node {number}") for number in range(6)]


def genesis(*, fee: int = 0, threshold: int = 2, validators: int = 5) -> Genesis:
    return Genesis(
        name="test",
        time_ms=0,
        validators=tuple(Validator(str(one.peer_id)) for one in NODES[:validators]),
        balances=tuple((one.public_key, 100_000) for one in USERS),
        parameters=Parameters(
            administrators=tuple(one.public_key for one in ADMINS), threshold=threshold, fee_per_byte=fee
        ),
    )


GENESIS = genesis()


def run(*transactions: bytes, state: State | None = None, of: Genesis = GENESIS, strict: bool = True) -> Executed:
    return execute(state or of.state(), transactions, chain=of.chain, height=1, time_ms=1, strict=strict)


def signed(
    keys: KeyPair, nonce: int, body: Body, *, of: Genesis = GENESIS, fee_max: int = 0, valid_until: int = 9
) -> bytes:
    return sign_transaction(keys, of.chain, nonce, body, fee_max=fee_max, valid_until=valid_until)


def account(state: State, keys: KeyPair) -> Account:
    return Changes(state).read(ACCOUNTS, keys.public_key, Account) or Account()


def pay(amount: int, nonce: int = 0, to: KeyPair = USERS[1], **more: int) -> bytes:
    return signed(USERS[0], nonce, TransferUnits(to.public_key, amount), **more)  # type: ignore[arg-type]


def test_a_transfer_moves_units() -> None:
    after = run(pay(30)).state
    assert account(after, USERS[0]) == Account(1, 99_970)
    assert account(after, USERS[1]) == Account(0, 100_030)


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (pay(1, nonce=1), "nonce"),
        (pay(1, valid_until=0), "expired"),
        (sign_transaction(USERS[0], bytes(32), 0, TransferUnits(USERS[1].public_key, 1)), "chain"),
        (pay(1)[:-1] + bytes([pay(1)[-1] ^ 1]), "signature"),
        (b"", "transaction"),
        (b"\xc0", "transaction"),
    ],
)
def test_what_must_not_be_in_a_block_makes_it_invalid_or_is_skipped(transaction: bytes, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        run(transaction)
    done = run(transaction, pay(1), strict=False)
    assert done.transactions == (pay(1),)


def test_nothing_is_executed_twice() -> None:
    with pytest.raises(Invalid, match="nonce"):
        run(pay(1), pay(1))


def test_a_body_that_fails_costs_its_fee_and_nonce() -> None:
    of = genesis(fee=2)
    transaction = pay(10**9, of=of, fee_max=10_000)  # type: ignore[arg-type]
    done = run(transaction, of=of)
    assert done.results == ("balance",)
    assert account(done.state, USERS[0]) == Account(1, 100_000 - 2 * len(transaction))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 150_000)), max_size=12))
@settings(max_examples=30, deadline=None)
def test_the_sum_of_all_balances_stays_the_same(payments: list[tuple[int, int, int]]) -> None:
    nonces = [0, 0, 0]
    transactions = []
    for payer, payee, amount in payments:
        transactions.append(signed(USERS[payer], nonces[payer], TransferUnits(USERS[payee].public_key, amount)))
        nonces[payer] += 1
    done = run(*transactions)
    balances = [account(done.state, keys).balance for keys in USERS]
    assert sum(balances) == 300_000
    assert min(balances) >= 0
    assert run(*transactions).state.root == done.state.root


# --- validators, parameters, evidence -----------------------------------------------------------------------------------


def with_approval(body: UpdateValidators) -> UpdateValidators:
    signature = ADMINS[1].sign(approval_bytes(GENESIS.chain, body))
    return UpdateValidators(body.add, body.remove, ((ADMINS[1].public_key, signature),))


def test_administrators_change_the_validators_for_the_next_epoch() -> None:
    body = UpdateValidators((Validator(str(NODES[5].peer_id)),), (str(NODES[0].peer_id),))
    assert run(signed(ADMINS[0], 0, body)).results == ("not enough administrators",)
    assert run(signed(USERS[0], 0, with_approval(body))).results == ("not enough administrators",)
    done = run(signed(ADMINS[0], 0, with_approval(body)))
    assert done.terminal
    after = membership(done.state)
    assert after.epoch == 1
    assert {one.peer for one in after.validators} == {str(one.peer_id) for one in NODES[1:]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (UpdateValidators((), (str(NODES[5].peer_id),)), "no validator"),
        (UpdateValidators((), tuple(str(one.peer_id) for one in NODES[:2])), "too much at once"),
        (UpdateValidators((Validator("nobody"),)), "no set"),
        (UpdateValidators((Validator(str(NODES[5].peer_id), 9),)), "too much at once"),
        (UpdateValidators(), "no change"),
    ],
)
def test_some_changes_are_not_possible(body: UpdateValidators, reason: str) -> None:
    done = run(signed(ADMINS[0], 0, with_approval(body)))
    assert (done.results, done.terminal) == ((reason,), False)


def test_the_set_never_becomes_too_small() -> None:
    of = genesis(validators=4, threshold=1)
    body = UpdateValidators((), (str(NODES[0].peer_id),))
    assert run(signed(ADMINS[0], 0, body, of=of), of=of).results == ("too few validators",)


def test_parameters_are_replaced_by_who_knows_the_old_ones() -> None:
    of = genesis(threshold=1)
    old = sha256(of.state().get(PARAMETERS, b"") or b"").digest()
    new = Parameters(administrators=(ADMINS[0].public_key,), fee_per_byte=3)
    assert run(signed(ADMINS[0], 0, UpdateParameters(bytes(32), new), of=of), of=of).results == ("changed meanwhile",)
    done = run(signed(ADMINS[0], 0, UpdateParameters(old, new), of=of), of=of)
    assert parameters_of(done.state) == new


def evidence(keys: KeyPair, *, epoch: int = 0, signed_epoch: int = 0) -> Evidence:
    first = keys.sign(signed_bytes(GENESIS.chain, FINALIZE, signed_epoch, 7, bytes(31) + b"b"))
    second = keys.sign(signed_bytes(GENESIS.chain, NULLIFY, signed_epoch, 7, NOTHING))
    return Evidence(epoch, 7, keys.public_key, (FINALIZE, bytes(31) + b"b", first), (NULLIFY, NOTHING, second))


def test_an_offender_is_recorded_once_and_leaves_the_validators() -> None:
    done = run(report(evidence(NODES[2])))
    assert done.state.get(OFFENCES, NODES[2].public_key) == encode(evidence(NODES[2]))
    assert str(NODES[2].peer_id) not in {one.peer for one in membership(done.state).validators}
    with pytest.raises(Invalid, match="known offence"):
        run(report(evidence(NODES[2])), state=done.state)


@pytest.mark.parametrize(
    "wrong",
    [
        evidence(USERS[0]),  # anybody can make keys that contradict themselves
        evidence(NODES[5]),
        evidence(NODES[1], epoch=0, signed_epoch=1),
        evidence(NODES[1], epoch=1, signed_epoch=1),
        Evidence(0, 7, NODES[1].public_key, evidence(NODES[1]).first, evidence(NODES[1]).first),
        Evidence(0, 8, NODES[1].public_key, evidence(NODES[1]).first, evidence(NODES[1]).second),
    ],
)
def test_what_proves_nothing_is_refused(wrong: Evidence) -> None:
    with pytest.raises(Invalid):
        run(report(wrong))


# --- waiting ------------------------------------------------------------------------------------------------------------


def pool_with(*transactions: bytes, **options: int) -> TransactionPool:
    pool = TransactionPool(GENESIS.chain, **options)  # type: ignore[arg-type]
    for one in transactions:
        pool.add(one, GENESIS.state(), 1)
    return pool


def test_a_pool_gives_each_sender_turns_and_keeps_nonces_in_order() -> None:
    theirs = signed(USERS[2], 0, TransferUnits(USERS[0].public_key, 1))
    pool = pool_with(pay(1, nonce=1), pay(1, nonce=0), theirs, pay(1, nonce=3))
    taken = pool.take(GENESIS.state(), bytes_max=10_000, count_max=10)
    assert list(taken) == [pay(1, nonce=0), theirs, pay(1, nonce=1)]
    assert len(pool.take(GENESIS.state(), bytes_max=len(theirs) + 20, count_max=10)) == 1


def test_a_pool_is_bounded_for_each_sender() -> None:
    pool = pool_with(pay(1, nonce=0), pay(1, nonce=1), per_sender=2)
    with pytest.raises(Refused, match="too many"):
        pool.add(pay(1, nonce=2), GENESIS.state(), 1)
    with pytest.raises(Refused, match="another transaction"):
        pool.add(pay(2, nonce=0), GENESIS.state(), 1)
    after = run(pay(1, nonce=0)).state
    pool.forget(after, [USERS[0].public_key])
    assert len(pool) == 1


@pytest.mark.parametrize("bad", [pay(1, valid_until=0), b"", pay(1)[:-1] + bytes([pay(1)[-1] ^ 1])])
def test_a_pool_refuses_what_can_never_be_executed(bad: bytes) -> None:
    with pytest.raises(Refused):
        pool_with(bad)


def test_once_the_state_is_large_keys_without_units_add_nothing_to_it() -> None:
    owner = keys_of("stranger 1")
    state = run(stranger(1, nonce=0)).state
    pool = TransactionPool(GENESIS.chain, state_bytes_max=state.weight)
    pool.add(stranger(2, 0), state, 1)
    state = run(stranger(2, 0), state=state).state
    pool.forget(state, [keys_of("stranger 2").public_key], 2)
    for adding in (stranger(3, 0), stranger(1, 1)):
        with pytest.raises(Refused, match="keys without units add nothing"):
            pool.add(adding, state, 2)
    administrator = signed(ADMINS[0], 0, TransferUnits(USERS[0].public_key, 0))
    for taken in (pay(1), administrator, signed(owner, 1, ReleaseName("mine"))):
        pool.add(taken, state, 2)
    assert len(pool) == 3


def test_what_a_state_takes_is_known_whatever_led_to_it() -> None:
    state = GENESIS.state()
    for number in range(300):
        state = state.with_changes({("a module", bytes([number % 200])): bytes(number)})
    assert state.weight == sum(KEY_BYTES + len(key) + len(value) for _, key, value in state.all())
    assert state.with_changes({(module, key): None for module, key, _ in state.all()}).weight == 0


def test_signatures_in_blocks_of_the_own_log_are_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rules, unpaid = LedgerRules(GENESIS.chain, PayloadLimits()), encode_payload([pay(1, nonce=7)])
    payload = encode_payload([pay(7_777), pay(1, nonce=1)])
    root = rules.check(GENESIS.state(), payload, height=1, time_ms=1).state.root
    monkeypatch.setattr("fluvial.ledger.transactions._remembered", ParsedRecords(0))  # as after a start
    monkeypatch.setattr("fluvial.ledger.transactions.verify", lambda *signed: False)
    with pytest.raises(Invalid, match="signature"):
        rules.check(GENESIS.state(), payload, height=1, time_ms=1)
    assert rules.replay(GENESIS.state(), payload, height=1, time_ms=1).state.root == root
    with pytest.raises(Invalid, match="nonce"):
        rules.replay(GENESIS.state(), unpaid, height=1, time_ms=1)


def test_what_a_payload_makes_does_not_depend_on_the_settings_of_who_executes_it() -> None:
    payload = encode_payload([signed(USERS[0], nonce, TransferUnits(USERS[1].public_key, 1)) for nonce in range(3)])
    roots = set()
    for most in (1, 5_000):
        rules = LedgerRules(GENESIS.chain, PayloadLimits(transactions_max=most))
        state = GENESIS.state()
        roots.add(rules.root(rules.check(state, payload, height=1, time_ms=1).state))
        roots.add(rules.root(rules.order(state, (payload,), height=1, time_ms=1).state))
        pool = TransactionPool(GENESIS.chain)
        for nonce in range(2):
            pool.add(signed(USERS[0], nonce, TransferUnits(USERS[1].public_key, 1)), state, 1)
        assert len(rules.build(state, pool, height=1, time_ms=1)[1].transactions) == min(most, 2)
    assert len(roots) == 1


class CountingState(State):
    """Counts how often it is read."""

    def __init__(self, tree: Node) -> None:
        super().__init__(tree)
        self.reads = 0

    def get(self, module: str, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(module, key)


def stranger(number: int, nonce: int, fee_max: int = 0, *, valid_until: int = 9) -> bytes:
    body = TransferUnits(USERS[0].public_key, 1)
    return signed(keys_of(f"stranger {number}"), nonce, body, fee_max=fee_max, valid_until=valid_until)


def test_what_cannot_be_in_the_next_block_costs_it_nothing() -> None:
    """Transactions whose nonces lie in the future, of hundreds of keys."""
    pool = pool_with(*(stranger(number, nonce=5) for number in range(200)), pay(1, nonce=1), pay(1, nonce=0))
    state = CountingState(GENESIS.state().tree)
    assert list(pool.take(state, bytes_max=10_000, count_max=10)) == [pay(1, nonce=0), pay(1, nonce=1)]
    assert state.reads < 5
    after = run(pay(1, nonce=0)).state
    pool.forget(after, [USERS[0].public_key])
    assert list(pool.take(after, bytes_max=10_000, count_max=10)) == [pay(1, nonce=1)]


def test_of_a_full_pool_those_who_offer_least_lose_their_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 4)
    state = with_strangers(6)
    pool = TransactionPool(GENESIS.chain)
    for one in (stranger(1, 0, 5), stranger(2, 0, 1), stranger(1, 1, 3), stranger(2, 1, 2)):
        pool.add(one, state, 1)
    pool.add(stranger(3, 0, 3), state, 1)  # the second one offers 2 for its last
    pool.add(stranger(4, 0, 2), state, 1)  # and then 1
    with pytest.raises(Refused, match="too many transactions are waiting"):
        pool.add(stranger(5, 0, 1), state, 1)
    taken = pool.take(state, bytes_max=10_000, count_max=10)
    assert list(taken) == [stranger(1, 0, 5), stranger(3, 0, 3), stranger(4, 0, 2), stranger(1, 1, 3)]


def test_an_offer_counts_as_far_as_its_sender_can_pay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody without a balance, and one who has promised it for others that wait, offer nothing."""
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 4)
    state = with_strangers(2, units=10)
    pool = TransactionPool(GENESIS.chain)
    for one in (stranger(1, 0, 10), stranger(1, 1, 10), stranger(7, 0, 2**52), stranger(8, 0, 2**52)):
        pool.add(one, state, 1)
    for number in range(2):
        pool.add(pay(1, number, fee_max=1), state, 1)
    with pytest.raises(Refused, match="too many transactions are waiting"):
        pool.add(stranger(9, 0, 2**52), state, 1)
    taken = pool.take(state, bytes_max=10_000, count_max=10)
    assert set(taken) >= {stranger(1, 0, 10), pay(1, 0, fee_max=1), pay(1, 1, fee_max=1)}


def test_of_those_who_offer_the_same_whoever_has_most_waiting_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 12)
    pool = pool_with(*(stranger(number, nonce) for number in range(2) for nonce in range(6)))
    for number in range(2, 6):
        pool.add(stranger(number, 0), GENESIS.state(), 1)
    pool.add(stranger(2, 1), GENESIS.state(), 1)
    with pytest.raises(Refused, match="too many transactions are waiting"):
        pool.add(stranger(0, 3), GENESIS.state(), 1)
    assert len(pool) == 12


def test_what_waits_for_others_that_never_come_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that leave out their first transaction fill the pool, pay nothing, and would stay for ever."""
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 6)
    pool = pool_with(*(stranger(number, 1) for number in range(6)))
    with pytest.raises(Refused, match="too many transactions are waiting"):
        pool.add(stranger(6, 1), GENESIS.state(), 1)
    for one in (pay(1), stranger(0, 0)):
        pool.add(one, GENESIS.state(), 1)
    taken = pool.take(GENESIS.state(), bytes_max=10_000, count_max=10)
    assert set(taken) >= {pay(1), stranger(0, 0)}
    after = run(pay(1), stranger(0, 0)).state
    pool.forget(after, [USERS[0].public_key, keys_of("stranger 0").public_key])
    for number in range(10, 15):
        pool.add(stranger(number, 0), after, 1)
    taken = pool.take(after, bytes_max=10_000, count_max=10)
    assert set(taken) >= {stranger(number, 0) for number in range(10, 15)}
    assert len(pool) == 6


def test_of_keys_that_offer_and_have_the_same_those_without_units_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a ledger without fees all offer nothing, and keys cost nothing."""
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 4)
    pool = pool_with(*(stranger(number, 0) for number in range(4)))
    pool.add(pay(1), GENESIS.state(), 1)
    with pytest.raises(Refused, match="too many transactions are waiting"):
        pool.add(stranger(4, 0), GENESIS.state(), 1)
    assert pay(1) in pool.take(GENESIS.state(), bytes_max=10_000, count_max=10)


def test_signatures_in_bodies_count_in_a_block_and_each_key_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can name an administrator sixty-four times, and sign something else."""
    approvals = tuple((ADMINS[1].public_key, ADMINS[1].sign(bytes([number]))) for number in range(9))
    body = UpdateValidators(remove=(str(NODES[0].peer_id),), approvals=approvals)
    pool = pool_with(*(signed(USERS[0], nonce, body) for nonce in range(5)))
    assert [len(pool.take(GENESIS.state(), bytes_max=10**6, count_max=most)) for most in (1, 10, 19, 20, 45)] == [
        1,
        1,
        1,
        2,
        4,
    ]
    verified: list[bytes] = []
    monkeypatch.setattr("fluvial.ledger.approvals.verify", lambda *given: bool(verified.append(given[1])))
    assert run(signed(USERS[0], 0, body)).results == ("not enough administrators",)
    assert len(verified) == 1


def test_what_has_expired_waits_no_more() -> None:
    """One block takes two of them; the others would be tried for each later one, before whoever comes then."""
    pool = pool_with(*(stranger(number, 0, valid_until=1) for number in range(6)), stranger(0, 1))
    rules = LedgerRules(GENESIS.chain, PayloadLimits(transactions_max=2))
    _, done = rules.build(GENESIS.state(), pool, height=1, time_ms=1)
    assert list(done.transactions) == [stranger(0, 0, valid_until=1), stranger(1, 0, valid_until=1)]
    pool.forget(done.state, [keys_of(f"stranger {number}").public_key for number in range(2)], 2)
    pool.add(pay(1), done.state, 2)
    assert len(pool) == 2
    assert set(rules.build(done.state, pool, height=2, time_ms=2)[1].transactions) == {pay(1), stranger(0, 1)}


def test_what_its_sender_cannot_pay_any_more_is_not_tried_and_waits_no_more() -> None:
    costly = genesis(fee=1)
    fee = len(signed(USERS[0], 0, TransferUnits(USERS[1].public_key, 1), of=costly, fee_max=1_000))
    keys = [keys_of(f"stranger {number}") for number in range(4)]
    balances = (*costly.balances, *((one.public_key, fee + 20) for one in keys))
    costly = msgspec.structs.replace(costly, balances=balances)
    rules, pool, state = (
        LedgerRules(costly.chain, PayloadLimits(transactions_max=4)),
        TransactionPool(costly.chain),
        costly.state(),
    )

    def paid(keys: KeyPair, nonce: int) -> bytes:
        return signed(keys, nonce, TransferUnits(USERS[1].public_key, 1), of=costly, fee_max=1_000)

    for one in keys:
        pool.add(paid(one, 0), state, 1)
        pool.add(paid(one, 1), state, 1)
    _, first = rules.build(state, pool, height=1, time_ms=1)
    assert list(first.transactions) == [paid(one, 0) for one in keys]
    pool.add(paid(USERS[0], 0), state, 1)
    second = rules.build(first.state, pool, height=2, time_ms=2)[1]  # the first one is not final yet
    assert list(second.transactions) == [paid(USERS[0], 0)]
    pool.forget(first.state, [one.public_key for one in keys], 2)
    assert len(pool) == 1


def test_what_finds_no_room_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.ledger.pool.WAITING_MAX", 4)
    pool = pool_with(*(stranger(number, 0) for number in range(4)))
    verified: list[bytes] = []
    monkeypatch.setattr("fluvial.ledger.transactions.verify", lambda *given: bool(verified.append(given[1])) or True)
    for one in (stranger(4, 0), stranger(0, 1), stranger(0, 0, valid_until=8)):
        with pytest.raises(Refused, match=r"waiting|another"):
            pool.add(one, GENESIS.state(), 1)
    assert not verified


def with_strangers(most: int, *, units: int = 100) -> State:
    """A state in which strangers have something to offer."""
    balances = [*GENESIS.balances, *((keys_of(f"stranger {number}").public_key, units) for number in range(most))]
    return msgspec.structs.replace(GENESIS, balances=tuple(balances)).state()
