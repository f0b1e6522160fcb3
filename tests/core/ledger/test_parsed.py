"""What is remembered of transactions: little of all together, nothing of those that nobody pays for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.errors import RemoteProtocolError
from fluvial.ledger import execution, transactions
from fluvial.ledger.execution import execute, refusal
from fluvial.ledger.genesis import ADMINISTRATORS_MAX, Genesis, Parameters
from fluvial.ledger.parsed import ParsedRecords
from fluvial.ledger.perimeters import CreatePerimeter, PerimeterMember, PerimeterTerms
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import (
    Body,
    Transaction,
    TransferUnits,
    UpdateParameters,
    UpdateValidators,
    parse,
    sign_transaction,
)

RICH, POOR = keys_of("rich"), keys_of("poor")
GENESIS = Genesis(
    name="parsed",
    time_ms=0,
    validators=(Validator(str(RICH.peer_id)),),
    balances=((RICH.public_key, 10**12),),
    parameters=Parameters(administrators=(RICH.public_key,), fee_per_byte=1),
)
STATE = GENESIS.state()
TRANSFER = TransferUnits(POOR.public_key, 1)


def perimeter(members: int) -> CreatePerimeter:
    some = tuple(PerimeterMember(chr(1_000 + number), chr(1_000 + number)) for number in range(members))
    return CreatePerimeter(PerimeterTerms(some, bytes(32), (RICH.public_key,)))


def signed(nonce: int = 0, body: Body = TRANSFER) -> bytes:
    return sign_transaction(RICH, GENESIS.chain, nonce, body, fee_max=10**9)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> ParsedRecords[Transaction]:
    records: ParsedRecords[Transaction] = ParsedRecords(1 << 20)
    monkeypatch.setattr(transactions, "_remembered", records)
    return records


def refused(transaction: bytes) -> str:
    return refusal(STATE, transaction, chain=GENESIS.chain, height=1)


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (sign_transaction(POOR, GENESIS.chain, 0, perimeter(200), fee_max=10**9), "fee"),
        (sign_transaction(RICH, GENESIS.chain, 0, perimeter(200)), "fee"),
        (sign_transaction(RICH, bytes(32), 0, perimeter(200), fee_max=10**9), "chain"),
        (signed(body=perimeter(200))[:-1] + b"\0", "signature"),
    ],
)
def test_what_is_refused_leaves_nothing(
    remembered: ParsedRecords[Transaction], transaction: bytes, reason: str
) -> None:
    assert refused(transaction) == reason
    done = execute(STATE, [transaction], chain=GENESIS.chain, height=1, time_ms=1, strict=False)
    assert not done.transactions
    assert len(remembered) == remembered.held_bytes == 0


def test_what_the_ledger_takes_is_read_and_verified_once(remembered: ParsedRecords[Transaction]) -> None:
    transaction = signed()
    assert not refused(transaction)
    assert parse(transaction) is parse(bytes(bytearray(transaction)))
    other = signed(body=perimeter(3))
    execute(STATE, [other], chain=GENESIS.chain, height=1, time_ms=1, strict=True)
    assert parse(other) is parse(other)
    assert len(remembered) == 2


@pytest.mark.parametrize(
    "body_of", [lambda number: TransferUnits(POOR.public_key, number + 1), lambda _: perimeter(256)]
)
def test_all_that_is_remembered_is_bounded_in_bytes(body_of: Callable[[int], Body]) -> None:
    made = [signed(number, body_of(number)) for number in range(64)]
    most = 24 << 10 if len(made[0]) < 1_000 else 512 << 10
    few: ParsedRecords[Transaction] = ParsedRecords(most)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for one in made:
            data = bytes(bytearray(one))
            record = parse(data)
            few.put(data, record)
            assert record.is_signed  # type: ignore[union-attr]  # none of them is a report
            del data, record
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 1 < len(few) < len(made)
    assert few.held_bytes <= most
    assert held < 1.05 * few.held_bytes + 1_000, "what it takes is not underrated"
    assert few.get(made[-1]) is not None
    assert few.get(made[0]) is None, "the oldest goes"


def test_who_cannot_pay_is_refused_before_the_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_: bytes) -> Transaction:
        raise AssertionError("nothing is read of what cannot be paid")

    monkeypatch.setattr(execution, "parse", read)
    poor = sign_transaction(POOR, GENESIS.chain, 0, perimeter(256), fee_max=10**9)
    assert refused(poor) == "fee"


LONG = "\N{GRINNING FACE}" * 200


@pytest.mark.parametrize(
    "body",
    [
        UpdateValidators(remove=(LONG,)),
        UpdateValidators(add=(Validator(LONG),)),
        UpdateParameters(bytes(32), Parameters(administrators=(bytes(32),) * (ADMINISTRATORS_MAX + 1))),
        CreatePerimeter(PerimeterTerms((PerimeterMember("service", LONG),), bytes(32), (bytes(32),))),
        CreatePerimeter(PerimeterTerms((PerimeterMember(LONG, "peer"),), bytes(32), (bytes(32),))),
    ],
)
def test_texts_and_lists_are_as_long_as_they_have_to_be(body: Body) -> None:
    with pytest.raises(RemoteProtocolError, match="this is no transaction"):
        parse(signed(body=body))
