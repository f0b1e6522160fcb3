"""Licences: use of a service that is paid for by the piece, metered off the ledger.

1. The licensee *opens* a licence: units are locked for one provider and one service, until a height.
2. With each use it hands the provider a *voucher*: its signature on the sum of all that it owes so far. So a voucher replaces those before it, a replayed one
   is worth nothing, and a million uses cost one transaction.
3. The provider *settles* the highest voucher whenever it likes, and is paid the difference.
4. The provider *closes* the licence at any time; the licensee does so once it has expired and the provider has had ``SETTLE_BLOCKS`` to settle. What is left
   goes back to the licensee.

Nobody can lose more than the uses since the last voucher: the provider is sure of what is locked, the licensee pays only what it has signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Annotated, Final

import msgspec

from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair, verify
from fluvial.ledger.genesis import ACCOUNTS, Account, Amount, Key
from fluvial.ledger.perimeters import ShortText
from fluvial.ledger.setting import BlockSetting, BodyFailed
from fluvial.ledger.state import Changes, Readable
from fluvial.ledger.statements import Signature, Slot

LICENCES: Final = "licences"
SETTLE_BLOCKS: Final = 10_000
"""How many blocks after its expiry a licence still belongs to the provider alone."""
_DOMAIN: Final = b"fluvial/voucher/1\0"
_TAG: Final = b"\x94\xa7voucher"
"""What the encoding of a voucher begins with: an array of four whose first is its tag."""

PositiveAmount = Annotated[int, msgspec.Meta(ge=1, le=2**62)]


class OpenLicence(msgspec.Struct, frozen=True, array_like=True, tag="licence"):
    """Lock units for a provider; the licence's id is :func:`licence_id` of the transaction's sender, the licensee, and nonce.

    Attributes:
        provider: public key of who is paid.
        service: what may be used.
        deposit: units that are locked.
        expires: the last height at which it is good.
    """

    provider: Key
    service: ShortText
    deposit: PositiveAmount
    expires: Slot


class ExtendLicence(msgspec.Struct, frozen=True, array_like=True, tag="licence+"):
    """The licensee locks more units, or lets its licence last longer."""

    id: Key
    deposit: Amount = 0
    expires: Slot = 0


class SettleLicence(msgspec.Struct, frozen=True, array_like=True, tag="licence="):
    """The provider shows the highest voucher and is paid."""

    id: Key
    amount: PositiveAmount
    signature: Signature


class CloseLicence(msgspec.Struct, frozen=True, array_like=True, tag="licence-"):
    """End a licence and give back what is left."""

    id: Key


LicenceBody = OpenLicence | ExtendLicence | SettleLicence | CloseLicence


class LicenceVoucher(msgspec.Struct, frozen=True, array_like=True, tag="voucher"):
    """What a licensee hands to a provider, off the ledger: in the canonical encoding, a credential of a flow.

    Attributes:
        licence: id.
        amount: all units that it owes so far, since the licence was opened.
        signature: of the licensee.
    """

    licence: Key
    amount: PositiveAmount
    signature: Signature

    def is_signed(self, chain: bytes, licensee: bytes) -> bool:
        """Whether it is the licensee's."""
        return verify(licensee, self.signature, voucher_bytes(chain, self.licence, self.amount))


class LicenceRecord(msgspec.Struct, frozen=True, array_like=True):
    """A licence as it stands on the ledger; it is removed when it is closed.

    Attributes:
        licensee, provider: public keys.
        service: what may be used.
        deposit: all units that were ever locked.
        settled: those of them that were paid out.
        expires: the last height at which it is good.
    """

    licensee: bytes
    provider: bytes
    service: str
    deposit: int
    settled: int
    expires: int


def licence_id(sender: bytes, nonce: int) -> bytes:
    """The id of a licence that this transaction opens."""
    return sha256(b"fluvial/licence/1\0" + sender + nonce.to_bytes(8, "big")).digest()


def voucher_bytes(chain: bytes, licence: bytes, amount: int) -> bytes:
    """What a licensee signs; the chain and the licence keep a voucher from counting anywhere else."""
    return _DOMAIN + chain + licence + amount.to_bytes(8, "big")


def sign_voucher(keys: KeyPair, chain: bytes, licence: bytes, amount: int) -> LicenceVoucher:
    """A voucher of the owner of these keys over all that it owes so far."""
    return LicenceVoucher(licence, amount, keys.sign(voucher_bytes(chain, licence, amount)))


def vouchers_in(credentials: Iterable[bytes]) -> Iterator[LicenceVoucher]:
    """The vouchers among the credentials of a flow; what is of another kind, or cannot be read, is left out."""
    for one in credentials:
        if one.startswith(_TAG):
            try:
                yield decode(one, LicenceVoucher, what="voucher")
            except RemoteProtocolError:
                continue


def licence_of(state: Readable, name: bytes) -> LicenceRecord | None:
    """The licence of an id; None if it was never opened, or is closed."""
    value = state.get(LICENCES, name)
    return None if value is None else decode(value, LicenceRecord, what="licence")


def apply_licence(changes: Changes, setting: BlockSetting, sender: bytes, nonce: int, body: LicenceBody) -> None:
    """Carry out a transaction about a licence; raises BodyFailed."""
    match body:
        case OpenLicence(provider, service, deposit, expires):
            if expires < setting.height:
                raise BodyFailed("expired")
            _move(changes, sender, -deposit)
            record = LicenceRecord(sender, provider, service, deposit, 0, expires)
            changes.set(LICENCES, licence_id(sender, nonce), record)
        case ExtendLicence(name, deposit, expires):
            record = _licence(changes, name)
            if sender != record.licensee:
                raise BodyFailed("not the licensee")
            _move(changes, sender, -deposit)
            longer = max(record.expires, expires)
            changes.set(
                LICENCES, name, msgspec.structs.replace(record, deposit=record.deposit + deposit, expires=longer)
            )
        case SettleLicence():
            _settle(changes, setting, sender, body)
        case CloseLicence(name):
            record = _licence(changes, name)
            late = setting.height > record.expires + SETTLE_BLOCKS
            if sender != record.provider and not (sender == record.licensee and late):
                raise BodyFailed("not yet" if sender == record.licensee else "not the provider")
            _move(changes, record.licensee, record.deposit - record.settled)
            changes.set(LICENCES, name, None)


def _settle(changes: Changes, setting: BlockSetting, sender: bytes, body: SettleLicence) -> None:
    record = _licence(changes, body.id)
    if sender != record.provider:
        raise BodyFailed("not the provider")
    if not record.settled < body.amount <= record.deposit:
        raise BodyFailed("settled already" if body.amount <= record.settled else "more than is locked")
    if not verify(record.licensee, body.signature, voucher_bytes(setting.chain, body.id, body.amount)):
        raise BodyFailed("no voucher")
    _move(changes, record.provider, body.amount - record.settled)
    changes.set(LICENCES, body.id, msgspec.structs.replace(record, settled=body.amount))


def _licence(changes: Changes, name: bytes) -> LicenceRecord:
    record = changes.read(LICENCES, name, LicenceRecord)
    if record is None:
        raise BodyFailed("no licence")
    return record


def _move(changes: Changes, key: bytes, units: int) -> None:
    """Add units to an account, or take them; raises BodyFailed if there are not as many."""
    account = changes.read(ACCOUNTS, key, Account) or Account()
    if account.balance + units < 0:
        raise BodyFailed("balance")
    changes.set(ACCOUNTS, key, Account(account.nonce, account.balance + units))
