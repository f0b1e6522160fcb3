"""What each kind of transaction does."""

from __future__ import annotations

from hashlib import sha256

from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.approvals import agreeing
from fluvial.ledger.genesis import ACCOUNTS, PARAMETERS, VALIDATORS, Account, Membership
from fluvial.ledger.licences import CloseLicence, ExtendLicence, OpenLicence, SettleLicence, apply_licence
from fluvial.ledger.names import apply_name
from fluvial.ledger.perimeters import (
    ClosePerimeter,
    CreatePerimeter,
    UpdatePerimeter,
    close_perimeter,
    create_perimeter,
    update_perimeter,
)
from fluvial.ledger.setting import BlockSetting, BodyFailed
from fluvial.ledger.state import Changes
from fluvial.ledger.statements import Validator, ValidatorSet
from fluvial.ledger.transactions import (
    SignedTransaction,
    TransferUnits,
    UpdateParameters,
    UpdateValidators,
)


def apply(changes: Changes, setting: BlockSetting, transaction: SignedTransaction) -> None:
    """Carry out the body of a transaction that is paid for.

    Raises:
        BodyFailed: it has no effect; whatever was changed must be dropped.
    """
    match transaction.body:
        case TransferUnits() as body:
            transfer(changes, transaction.sender, body)
        case UpdateValidators() as body:
            _update_validators(changes, setting, transaction.sender, body)
        case UpdateParameters() as body:
            _update_parameters(changes, setting, transaction.sender, body)
        case CreatePerimeter() as body:
            create_perimeter(changes, transaction.sender, transaction.nonce, body)
        case UpdatePerimeter() as body:
            update_perimeter(changes, setting, transaction.sender, body)
        case ClosePerimeter() as body:
            close_perimeter(changes, setting, transaction.sender, body)
        case OpenLicence() | ExtendLicence() | SettleLicence() | CloseLicence() as body:
            apply_licence(changes, setting, transaction.sender, transaction.nonce, body)
        case body:
            apply_name(changes, setting, transaction.sender, body)


def transfer(changes: Changes, sender: bytes, body: TransferUnits) -> None:
    """Move units; the sum of all balances stays the same."""
    payer = changes.read(ACCOUNTS, sender, Account) or Account()
    if body.amount > payer.balance:
        raise BodyFailed("balance")
    changes.set(ACCOUNTS, sender, Account(payer.nonce, payer.balance - body.amount))
    payee = changes.read(ACCOUNTS, body.to, Account) or Account()
    changes.set(ACCOUNTS, body.to, Account(payee.nonce, payee.balance + body.amount))


def _update_validators(changes: Changes, setting: BlockSetting, sender: bytes, body: UpdateValidators) -> None:
    _approved(setting, sender, body)
    old = changes.read(VALIDATORS, b"", Membership)
    assert old is not None, "every state that begins with a genesis has validators"
    powers = {one.peer: one.power for one in old.validators}
    new = {**powers, **{one.peer: one.power for one in body.add}}
    for peer in body.remove:
        if new.pop(peer, None) is None:
            raise BodyFailed("no validator")
    if new == powers:
        raise BodyFailed("no change")
    try:
        after = ValidatorSet(Validator(peer, power) for peer, power in new.items())
    except ValueError as error:
        raise BodyFailed("no set") from error
    numerator, denominator = setting.parameters.power_change_max
    come = sum(max(0, power - powers.get(peer, 0)) for peer, power in new.items())
    gone = sum(max(0, power - new.get(peer, 0)) for peer, power in powers.items())
    if max(come, gone) * denominator > sum(powers.values()) * numerator:
        raise BodyFailed("too much at once")
    if len(after) < min(setting.parameters.validators_min, len(powers)):
        raise BodyFailed("too few validators")
    changes.set(VALIDATORS, b"", Membership(setting.epoch + 1, after.members))
    for members, epoch in ((old.validators, setting.epoch), (after.members, setting.epoch + 1)):
        for one in members:
            changes.set(VALIDATORS, PeerId(one.peer).public_key, epoch)


def _update_parameters(changes: Changes, setting: BlockSetting, sender: bytes, body: UpdateParameters) -> None:
    _approved(setting, sender, body)
    if sha256(changes.get(PARAMETERS, b"") or b"").digest() != body.old:
        raise BodyFailed("changed meanwhile")
    if body.new.threshold > len(set(body.new.administrators)):
        raise BodyFailed("nobody could change them again")
    changes.written[PARAMETERS, b""] = encode(body.new)


def _approved(setting: BlockSetting, sender: bytes, body: UpdateValidators | UpdateParameters) -> None:
    if agreeing(setting.chain, sender, body, setting.parameters.administrators) < setting.parameters.threshold:
        raise BodyFailed("not enough administrators")
