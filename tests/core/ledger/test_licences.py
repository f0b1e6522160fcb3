"""Licences: what a voucher is worth, who is paid, and that no unit is made or lost."""

from __future__ import annotations

import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.identity import KeyPair
from fluvial.ledger.execution import execute
from fluvial.ledger.genesis import ACCOUNTS, Account, Genesis
from fluvial.ledger.licences import (
    LICENCES,
    SETTLE_BLOCKS,
    CloseLicence,
    ExtendLicence,
    LicenceRecord,
    OpenLicence,
    SettleLicence,
    licence_id,
    licence_of,
    sign_voucher,
)
from fluvial.ledger.state import Changes, State
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import Body, TransferUnits, sign_transaction
from hypothesis import given, settings
from hypothesis import strategies as st

USER, PROVIDER, EVE = (keys_of(name) for name in ("user", "provider", "eve"))
GENESIS = Genesis(
    name="test",
    time_ms=0,
    validators=(Validator(str(USER.peer_id)),),
    balances=((USER.public_key, 1_000), (EVE.public_key, 1_000)),
)
ID = licence_id(USER.public_key, 0)


class LicencedLedger:
    """A ledger with a licence of 100 units until height 10."""

    def __init__(self) -> None:
        self.state: State = GENESIS.state()
        assert self.run(USER, OpenLicence(PROVIDER.public_key, "chat", 100, 10), 1) == ""

    def run(self, keys: KeyPair, body: Body, height: int = 2) -> str:
        nonce = self.account(keys).nonce
        transaction = sign_transaction(keys, GENESIS.chain, nonce, body)
        done = execute(self.state, [transaction], chain=GENESIS.chain, height=height, time_ms=height, strict=True)
        self.state = done.state
        return done.results[0]

    def account(self, keys: KeyPair) -> Account:
        return Changes(self.state).read(ACCOUNTS, keys.public_key, Account) or Account()

    def settle(self, amount: int, *, by: KeyPair = PROVIDER, signer: KeyPair = USER, licence: bytes = ID) -> str:
        voucher = sign_voucher(signer, GENESIS.chain, licence, amount)
        return self.run(by, SettleLicence(ID, amount, voucher.signature))

    def units(self) -> int:
        """All that there are: on accounts, and locked."""
        locked = [licence_of(self.state, key) for key, _ in self.state.scan(LICENCES)]
        free = sum(self.account(keys).balance for keys in (USER, PROVIDER, EVE))
        return free + sum(one.deposit - one.settled for one in locked if one is not None)


def test_a_licence_is_opened_used_settled_and_closed() -> None:
    ledger = LicencedLedger()
    assert licence_of(ledger.state, ID) == LicenceRecord(USER.public_key, PROVIDER.public_key, "chat", 100, 0, 10)
    assert ledger.account(USER).balance == 900
    assert ledger.settle(30) == ""
    assert ledger.settle(70) == ""
    assert ledger.account(PROVIDER).balance == 70
    assert ledger.run(PROVIDER, CloseLicence(ID)) == ""
    assert ledger.account(USER).balance == 930
    assert licence_of(ledger.state, ID) is None
    assert ledger.settle(80) == "no licence"


def test_a_voucher_is_worth_something_once() -> None:
    ledger = LicencedLedger()
    assert ledger.settle(30) == ""
    assert ledger.settle(30) == "settled already"
    assert ledger.settle(20) == "settled already"
    assert ledger.account(PROVIDER).balance == 30


@pytest.mark.parametrize(
    ("wrong", "result"),
    [
        ({"amount": 101}, "more than is locked"),
        ({"amount": 50, "signer": EVE}, "no voucher"),
        ({"amount": 50, "signer": PROVIDER}, "no voucher"),
        ({"amount": 50, "licence": bytes(32)}, "no voucher"),
        ({"amount": 50, "by": EVE}, "not the provider"),
        ({"amount": 50, "by": USER}, "not the provider"),
    ],
)
def test_what_is_no_voucher_pays_nobody(wrong: dict[str, object], result: str) -> None:
    ledger = LicencedLedger()
    assert ledger.settle(**wrong) == result  # type: ignore[arg-type]
    assert ledger.account(PROVIDER).balance == 0


def test_the_licensee_gets_the_rest_back_when_the_provider_had_its_time() -> None:
    ledger = LicencedLedger()
    assert ledger.run(USER, CloseLicence(ID), 10 + SETTLE_BLOCKS) == "not yet"
    assert ledger.run(EVE, CloseLicence(ID), 11 + SETTLE_BLOCKS) == "not the provider"
    assert ledger.settle(40) == ""
    assert ledger.run(USER, CloseLicence(ID), 11 + SETTLE_BLOCKS) == ""
    assert ledger.account(USER).balance == 960


def test_only_the_licensee_extends_and_never_shortens() -> None:
    ledger = LicencedLedger()
    assert ledger.run(EVE, ExtendLicence(ID, 5, 20)) == "not the licensee"
    assert ledger.run(USER, ExtendLicence(ID, 50, 5)) == ""
    record = licence_of(ledger.state, ID)
    assert record is not None
    assert (record.deposit, record.expires) == (150, 10)
    assert ledger.run(USER, ExtendLicence(ID, 0, 30)) == ""
    assert ledger.run(USER, ExtendLicence(ID, 10_000)) == "balance"
    assert ledger.run(EVE, OpenLicence(PROVIDER.public_key, "chat", 2_000, 10)) == "balance"
    assert ledger.run(EVE, OpenLicence(PROVIDER.public_key, "chat", 1, 1)) == "expired"


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["settle", "extend", "close", "pay", "open"]),
        st.sampled_from([USER, PROVIDER, EVE]),
        st.integers(1, 400),
        st.sampled_from([2, 10, 11 + SETTLE_BLOCKS]),
    ),
    max_size=10,
)


@given(MOVES)
@settings(max_examples=30, deadline=None)
def test_no_unit_is_made_or_lost(moves: list[tuple[str, KeyPair, int, int]]) -> None:
    ledger = LicencedLedger()
    for what, who, amount, height in moves:
        bodies: dict[str, Body] = {
            "settle": SettleLicence(ID, amount, sign_voucher(USER, GENESIS.chain, ID, amount).signature),
            "extend": ExtendLicence(ID, amount, 20),
            "close": CloseLicence(ID),
            "pay": TransferUnits(EVE.public_key, amount),
            "open": OpenLicence(EVE.public_key, "mail", amount, 50),
        }
        ledger.run(who, bodies[what], height)
        assert ledger.units() == 2_000
        assert min(ledger.account(keys).balance for keys in (USER, PROVIDER, EVE)) >= 0
