"""Executing blocks: a state and transactions in, the next state and its root out. Deterministic: integers, no clock, no order of hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.bodies import apply
from fluvial.ledger.genesis import ACCOUNTS, PARAMETERS, VALIDATORS, Account, Membership, Parameters
from fluvial.ledger.offences import punish
from fluvial.ledger.revocations import record_revocation
from fluvial.ledger.setting import BlockSetting, BodyFailed, BodySettled
from fluvial.ledger.state import Changes, State
from fluvial.ledger.transactions import (
    CarryRevocation,
    ReportOffence,
    SignedPayment,
    SignedTransaction,
    Transaction,
    UpdateValidators,
    UrgentTransaction,
    parse,
    payment_of,
    remember,
)

BAD_SIGNATURE: Final = "signature"


@dataclass(frozen=True, slots=True)
class Executed:
    """What a block has become.

    Attributes:
        state: after it.
        transactions: those that were executed, in order.
        results: for each of them, empty or the reason why its body had no effect.
        terminal: whether the validators are others from now on.
        modules: those of which keys were set or removed.
    """

    state: State
    transactions: tuple[bytes, ...]
    results: tuple[str, ...]
    terminal: bool
    modules: frozenset[str]


class Invalid(Exception):
    """A transaction must not be in this block; the text says why, in a few words."""


class Late(Invalid):
    """As :class:`Invalid`; but the transaction may have been in time when it was sent, so that it is nobody's fault."""


def membership(state: State) -> Membership:
    """Epoch and validators of a state."""
    value = state.get(VALIDATORS, b"")
    assert value is not None, "every state that begins with a genesis has validators"
    return _membership(value)


def parameters_of(state: State) -> Parameters:
    """The parameters of a state."""
    value = state.get(PARAMETERS, b"")
    assert value is not None, "every state that begins with a genesis has parameters"
    return _parameters(value)


@lru_cache(maxsize=4)
def _membership(value: bytes) -> Membership:
    """Every transaction that somebody brings asks for it; a large ledger's is dearer to read than the transaction."""
    return decode(value, Membership, what="membership")


@lru_cache(maxsize=4)
def _parameters(value: bytes) -> Parameters:
    return decode(value, Parameters, what="parameters")


class BlockExecution:
    """A block that is being executed, one transaction after the other.

    Args:
        state: before it.
        chain: id of the ledger.
        height: of the block.
        time_ms: of the block.
        verified: whether who signed its transactions was verified before.
    """

    def __init__(self, state: State, *, chain: bytes, height: int, time_ms: int, verified: bool = False) -> None:
        self._state, self._changes = state, Changes(state)
        epoch = membership(state).epoch
        self._setting = BlockSetting(
            chain=chain,
            height=height,
            time_ms=time_ms,
            epoch=epoch,
            parameters=parameters_of(state),
            verified=verified,
        )
        self._results: dict[bytes, str] = {}

    def __contains__(self, transaction: bytes) -> bool:
        return transaction in self._results

    def add(self, transaction: bytes) -> None:
        """Execute the next transaction.

        Raises:
            Invalid: it must not be there; the block is as it was before.
        """
        self._results[transaction] = _execute(self._changes, self._setting, transaction)

    def done(self) -> Executed:
        """What the block has become."""
        written = self._changes.written
        terminal = (VALIDATORS, b"") in written
        modules = frozenset(module for module, _ in written)
        return Executed(
            self._state.with_changes(written), tuple(self._results), tuple(self._results.values()), terminal, modules
        )


def execute(
    state: State,
    transactions: Sequence[bytes],
    *,
    chain: bytes,
    height: int,
    time_ms: int,
    strict: bool,
    verified: bool = False,
) -> Executed:
    """Execute a block.

    Args:
        state: before it.
        transactions: in order.
        chain: id of the ledger.
        height: of the block.
        time_ms: of the block.
        strict: a transaction that must not be there makes the whole block invalid; otherwise it is skipped.
        verified: whether who signed them was verified before.

    Raises:
        Invalid: strict, and one must not be there.
    """
    block = BlockExecution(state, chain=chain, height=height, time_ms=time_ms, verified=verified)
    for transaction in transactions:
        try:
            block.add(transaction)
        except Invalid:
            if strict:
                raise
    return block.done()


def payment_refusal(state: State, transaction: bytes, *, chain: bytes, height: int) -> str:
    """Why nobody pays for a signed transaction; empty if somebody does, or if it is of another kind. It costs little: neither body nor signature is looked at."""
    try:
        payment = payment_of(transaction)
        if payment is not None:
            _paying(Changes(state), _setting(state, chain, height), payment, len(transaction), future=True)
    except RemoteProtocolError as error:
        return error.message
    except Invalid as error:
        return str(error)
    return ""


def refusal(state: State, transaction: bytes, *, chain: bytes, height: int) -> str:
    """Why a transaction cannot wait for its turn; empty if it can, and then it is remembered. Its nonce may still lie in the future.

    What costs little is looked at first: who cannot pay is refused before the body is read, and before the signature is verified.
    """
    return payment_refusal(state, transaction, chain=chain, height=height) or body_refusal(
        state, transaction, chain=chain, height=height
    )


def body_refusal(state: State, transaction: bytes, *, chain: bytes, height: int) -> str:
    """As :func:`refusal`, of what :func:`payment_refusal` has nothing against."""
    changes, setting = Changes(state), _setting(state, chain, height)
    try:
        one = parse(transaction)
        if not isinstance(one, SignedTransaction):
            _urgent(changes, setting, one, len(transaction))
        else:
            _pay(changes, setting, one, len(transaction), future=True)
    except RemoteProtocolError as error:
        return error.message
    except (Invalid, BodyFailed) as error:
        return str(error)
    remember(transaction, one)
    return ""


def _setting(state: State, chain: bytes, height: int) -> BlockSetting:
    """Of what does not depend on a block's time."""
    epoch, parameters = membership(state).epoch, parameters_of(state)
    return BlockSetting(chain=chain, height=height, time_ms=0, epoch=epoch, parameters=parameters)


def _execute(changes: Changes, setting: BlockSetting, transaction: bytes) -> str:
    """Execute one transaction; returns why its body had no effect, if so."""
    try:
        one: Transaction = parse(transaction)
    except RemoteProtocolError as error:
        raise Invalid(error.message) from error
    inner = Changes(changes)
    if not isinstance(one, SignedTransaction):
        try:
            _urgent(inner, setting, one, len(transaction))
        except BodySettled as error:
            raise Late(str(error)) from error
        except BodyFailed as error:
            raise Invalid(str(error)) from error
        changes.keep(inner)
        _remember(setting, transaction, one)
        return ""
    if isinstance(one.body, UpdateValidators) and (VALIDATORS, b"") in changes.written:
        raise Late("one change of the validators in a block")
    _pay(changes, setting, one, len(transaction))
    _remember(setting, transaction, one)
    try:
        apply(inner, setting, one)
    except BodyFailed as error:
        return str(error)
    changes.keep(inner)
    return ""


def _remember(setting: BlockSetting, transaction: bytes, one: Transaction) -> None:
    """What was verified before is in a block that nobody will ask for again."""
    if not setting.verified:
        remember(transaction, one)


def _urgent(changes: Changes, setting: BlockSetting, one: UrgentTransaction, size: int) -> None:
    """Execute what has no nonce: either it has its effect, or it must not be in this block."""
    if isinstance(one, ReportOffence):
        punish(changes, setting, one.evidence)
        return
    account = _payer(changes, setting, one, one.payer, size)
    record_revocation(changes, setting, one.revocation)
    if not setting.verified and not one.is_signed:
        raise Invalid(BAD_SIGNATURE)
    changes.set(ACCOUNTS, one.payer, account)


def _pay(changes: Changes, setting: BlockSetting, one: SignedTransaction, size: int, *, future: bool = False) -> None:
    """Check everything before the body, take the fee and use up the nonce.

    Raises:
        Invalid: the transaction must not be in this block.
    """
    account = _paying(changes, setting, one, size, future=future)
    if not setting.verified and not one.is_signed:
        raise Invalid(BAD_SIGNATURE)
    changes.set(ACCOUNTS, one.sender, Account(one.nonce + 1, account.balance))


def _paying(
    changes: Changes, setting: BlockSetting, one: SignedTransaction | SignedPayment, size: int, *, future: bool
) -> Account:
    """The sender's account, as :func:`_payer`, if it is also this transaction's turn."""
    account = _payer(changes, setting, one, one.sender, size)
    if one.nonce != account.nonce and not (future and one.nonce > account.nonce):
        raise Late("nonce")
    return account


def _payer(
    changes: Changes,
    setting: BlockSetting,
    one: SignedTransaction | SignedPayment | CarryRevocation,
    key: bytes,
    size: int,
) -> Account:
    """The account that pays for a transaction, without the fee; raises Invalid if the transaction cannot be paid here and now."""
    if one.chain != setting.chain:
        raise Invalid("chain")
    if setting.height > one.valid_until:
        raise Late("expired")
    account = changes.read(ACCOUNTS, key, Account) or Account()
    fee = size * setting.parameters.fee_per_byte
    if fee > one.fee_max or fee > account.balance:
        raise Late("fee")
    return Account(account.nonce, account.balance - fee)
