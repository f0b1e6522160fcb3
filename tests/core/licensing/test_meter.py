"""Which voucher pays for which call, as a provider finds out from the ledger alone."""

from __future__ import annotations

import pytest
from fluvial.consensus.lab.keys import keys_of
from fluvial.effectors import Call
from fluvial.encoding import encode
from fluvial.hosting.view import StateView
from fluvial.identity import KeyPair
from fluvial.ledger.licences import LICENCES, LicenceRecord, sign_voucher
from fluvial.ledger.state import State
from fluvial.licensing.meter import LOOKED_AT, VOUCHERS_MAX, LicenceMeter, NotLicensedError
from hypothesis import given
from hypothesis import strategies as st

USER, PROVIDER, EVE = (keys_of(name) for name in ("user", "provider", "eve"))
CHAIN, ID = bytes(32), b"l" * 32
LICENCE = LicenceRecord(USER.public_key, PROVIDER.public_key, "chat", deposit=100, settled=30, expires=10)


def view(*licences: LicenceRecord, height: int = 10) -> StateView:
    """The ledger with licences, whose ids are ``ID`` and those that follow."""
    names = (ID if not number else number.to_bytes(32, "big") for number in range(len(licences)))
    changes = {(LICENCES, name): encode(one) for name, one in zip(names, licences, strict=True)}
    return StateView(height, State().with_changes(dict(changes)))


def voucher(amount: int, *, signer: KeyPair = USER, chain: bytes = CHAIN, licence: bytes = ID) -> bytes:
    return encode(sign_voucher(signer, chain, licence, amount))


def call(*shown: bytes, by: KeyPair = USER, service: str = "chat") -> Call:
    return Call(particle_id="p", initiator=by.peer_id, service=service, function="say", arguments=[], credentials=shown)


def meter() -> LicenceMeter:
    return LicenceMeter(PROVIDER.public_key, CHAIN)


def test_a_voucher_pays_from_what_is_settled_to_what_it_is_good_for() -> None:
    one = meter()
    assert one.charge(call(voucher(40)), 4, view(LICENCE)).used == 34
    assert one.charge(call(), 6, view(LICENCE)).used == 40
    with pytest.raises(NotLicensedError, match="sign a voucher of 41 units or more"):
        one.charge(call(voucher(40), voucher(39)), 1, view(LICENCE))
    assert one.charge(call(voucher(41)), 1, view(LICENCE)).used == 41
    again = LicenceMeter(PROVIDER.public_key, CHAIN, one.held())
    assert again.charge(call(voucher(100)), 59, view(LICENCE)).used == 100


@pytest.mark.parametrize(
    ("shown", "by", "service", "height", "why"),
    [
        (voucher(40), USER, "chat", 11, "has expired at height 10; the ledger is at 11"),
        (voucher(40, licence=b"x" * 32), USER, "chat", 10, "knows no licence 7878"),
        (voucher(40, chain=b"x" * 32), USER, "chat", 10, "is not its licensee's"),
        (voucher(40, signer=EVE), USER, "chat", 10, "is not its licensee's"),
        (voucher(101), USER, "chat", 10, "is more than the 100 that the licence"),
        (voucher(30), USER, "chat", 10, "sign a voucher of 31 units or more"),
        (voucher(40), EVE, "chat", 10, "is another peer's"),
        (voucher(40), USER, "weather", 10, "is for the service chat"),
        (b"no voucher", USER, "chat", 10, "has shown no voucher"),
    ],
)
def test_a_call_that_is_not_paid_for_is_told_why(
    shown: bytes, by: KeyPair, service: str, height: int, why: str
) -> None:
    one = meter()
    with pytest.raises(NotLicensedError, match=why):
        one.charge(call(shown, by=by, service=service), 1, view(LICENCE, height=height))
    assert all(held.used == held.voucher.amount == LICENCE.settled for held in one.held())


def test_vouchers_for_other_providers_take_nobodys_place() -> None:
    other = LicenceRecord(USER.public_key, EVE.public_key, "chat", deposit=100, settled=0, expires=10)
    ledger = view(LICENCE, *[other] * (VOUCHERS_MAX + 1))
    for_others = [voucher(40, licence=number.to_bytes(32, "big")) for number in range(1, VOUCHERS_MAX + 2)]
    assert meter().charge(call(*for_others, voucher(40)), 1, ledger).used == 31


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(1, 40)), max_size=8))
def test_what_is_used_is_covered_by_the_highest_voucher_and_the_deposit(moves: list[tuple[int, int]]) -> None:
    one, ledger, highest = meter(), view(LICENCE), 0
    used = LICENCE.settled
    for amount, price in moves:
        if amount <= LICENCE.deposit:
            highest = max(highest, amount)
        try:
            charged = one.charge(call(voucher(amount)), price, ledger)
        except NotLicensedError:
            assert used + price > highest
        else:
            used += price
            assert charged.used == used <= highest


def test_what_is_held_of_a_licence_that_was_closed_is_dropped() -> None:
    one, other = meter(), (1).to_bytes(32, "big")
    ledger = view(LICENCE, LICENCE, height=7)
    for name in (ID, other):
        one.charge(call(voucher(40, licence=name)), 1, ledger)
    again = LicenceMeter(PROVIDER.public_key, CHAIN, one.held())
    for height, there in (
        (6, [ID, other]),
        (7, [ID, other]),
        (8, [other]),
    ):  # as a ledger that is fetched anew comes up to where it was, without the first one
        changes = {(LICENCES, other): encode(LICENCE)} if height > 7 else {}
        with pytest.raises(NotLicensedError):
            again.charge(call(), 100, StateView(height, State().with_changes(changes)))
        assert [held.voucher.licence for held in again.held()] == there
    assert (list(again.taken_closed()), again.taken_closed()) == ([ID], [])
    assert again.charge(call(), 1, view(LICENCE, LICENCE, height=9)).used == 32
    with pytest.raises(NotLicensedError, match="knows no licence"):
        again.charge(call(voucher(40)), 1, StateView(9, State()))


def test_some_of_many_are_looked_at_with_each_call() -> None:
    one, names = meter(), [number.to_bytes(32, "big") for number in range(1, 100)]
    for start in range(0, len(names), VOUCHERS_MAX):
        shown = [voucher(40, licence=name) for name in names[start : start + VOUCHERS_MAX]]
        one.charge(call(*shown), 1, view(LICENCE, *[LICENCE] * len(names), height=5))
    assert len(one.held()) == len(names)
    for _ in range(2 * len(names) // LOOKED_AT + 2):
        with pytest.raises(NotLicensedError):
            one.charge(call(), 1, view(height=6))
    assert not one.held()
    assert sorted(one.taken_closed()) == names


def test_a_licence_that_cannot_pay_for_one_call_is_not_held() -> None:
    one = meter()
    for price, left in ((71, "has 70 units left"), (75, "has 70 units left")):
        with pytest.raises(NotLicensedError, match=left):
            one.charge(call(voucher(100)), price, view(LICENCE))
        assert not one.held()
    assert one.charge(call(voucher(100)), 70, view(LICENCE)).used == 100
