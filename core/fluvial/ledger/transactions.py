"""Transactions: what may change the ledger, and who has signed it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final, TypeAlias, cast

import msgspec

from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair, verify
from fluvial.ledger.approvals import Approvals
from fluvial.ledger.blocks import TRANSACTIONS_MAX
from fluvial.ledger.genesis import Amount, Key, Parameters
from fluvial.ledger.licences import LicenceBody
from fluvial.ledger.names import NameBody
from fluvial.ledger.parsed import ParsedRecords
from fluvial.ledger.perimeters import ClosePerimeter, CreatePerimeter, UpdatePerimeter
from fluvial.ledger.revocations import RevocationBytes
from fluvial.ledger.statements import Evidence, PeerText, Signature, Slot, Validator

TRANSACTION_BYTES_MAX: Final = 65_536
REMEMBERED_BYTES: Final = 16 << 20
"""Of records of transactions, with what they were read from: some 10,000 transfers."""
_PAYLOAD: Final = cast("type[list[bytes]]", Annotated[list[bytes], msgspec.Meta(max_length=TRANSACTIONS_MAX)])
"""Counted before anything of it is built: a payload can be half a million transactions of two bytes."""
_DOMAIN: Final = b"fluvial/transaction/1\0"
_CARRIED_DOMAIN: Final = b"fluvial/carried revocation/1\0"

Nonce = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TransferUnits(msgspec.Struct, frozen=True, array_like=True, tag="transfer"):
    """Give units to another key."""

    to: Key
    amount: Amount


class UpdateValidators(msgspec.Struct, frozen=True, array_like=True, tag="validators"):
    """Change who validates, from the next epoch on.

    Attributes:
        add: new ones, or those with a new power.
        remove: peer ids.
        approvals: of other administrators than the sender.
    """

    add: Annotated[tuple[Validator, ...], msgspec.Meta(max_length=64)] = ()
    remove: Annotated[tuple[PeerText, ...], msgspec.Meta(max_length=64)] = ()
    approvals: Approvals = ()


class UpdateParameters(msgspec.Struct, frozen=True, array_like=True, tag="parameters"):
    """Replace the parameters; ``old`` is the hash of those that are replaced, so that two changes cannot overwrite each other."""

    old: Key
    new: Parameters
    approvals: Approvals = ()


Body: TypeAlias = (
    TransferUnits
    | UpdateValidators
    | UpdateParameters
    | CreatePerimeter
    | UpdatePerimeter
    | ClosePerimeter
    | NameBody
    | LicenceBody
)


class SignedTransaction(msgspec.Struct, frozen=True, array_like=True, tag="signed", dict=True):
    """A body with the name of who wants it.

    Attributes:
        chain: the ledger it is for.
        sender: public key that pays and signs.
        nonce: 0 for the sender's first transaction, then one more each.
        valid_until: the last height at which it may be executed.
        fee_max: what the sender pays at most, in units.
        body: what it does.
        signature: of all of the above.
    """

    chain: Key
    sender: Key
    nonce: Nonce
    valid_until: Slot
    fee_max: Amount
    body: Body
    signature: Signature

    @cached_property
    def is_signed(self) -> bool:
        """Whether the sender has signed it."""
        return verify(self.sender, self.signature, _signed(self))


class SignedPayment(msgspec.Struct, frozen=True, array_like=True, tag="signed"):
    """A signed transaction whose body was not read: enough to see that it cannot be paid. Fields as those of :class:`SignedTransaction`."""

    chain: Key
    sender: Key
    nonce: Nonce
    valid_until: Slot
    fee_max: Amount
    body: msgspec.Raw
    signature: Signature


_payments: Final = msgspec.msgpack.Decoder(SignedPayment)
_SIGNED: Final = b"\x98\xa6signed"
"""What the encoding of a signed transaction begins with: an array of eight whose first is its tag."""


class ReportOffence(msgspec.Struct, frozen=True, array_like=True, tag="offence"):
    """Evidence against a validator. Nobody signs or pays for it: the proof is in it, and one offender counts once."""

    evidence: Evidence


class CarryRevocation(msgspec.Struct, frozen=True, array_like=True, tag="revoke", dict=True):
    """A revocation, brought by whoever pays for it. It has no nonce: the ledger takes the same one only once.

    Attributes:
        chain: the ledger it is for.
        payer: public key that pays the fee and signs.
        valid_until: the last height at which it may be executed.
        fee_max: what the payer pays at most, in units.
        revocation: the issuer's own statement (``revocations.py``).
        signature: of the payer, of all of the above.
    """

    chain: Key
    payer: Key
    valid_until: Slot
    fee_max: Amount
    revocation: RevocationBytes
    signature: Signature

    @cached_property
    def is_signed(self) -> bool:
        """Whether the payer has signed it."""
        return verify(self.payer, self.signature, _carried(self))


UrgentTransaction: TypeAlias = ReportOffence | CarryRevocation
"""What no flood of payments may delay: it waits in a lane of its own (``urgent.py``)."""

Transaction: TypeAlias = SignedTransaction | UrgentTransaction


def sign_transaction(
    keys: KeyPair, chain: bytes, nonce: int, body: Body, *, valid_until: int = 2**53, fee_max: int = 0
) -> bytes:
    """A transaction, ready to be submitted."""
    unsigned = SignedTransaction(chain, keys.public_key, nonce, valid_until, fee_max, body, bytes(64))
    return encode(msgspec.structs.replace(unsigned, signature=keys.sign(_signed(unsigned))))


def report(evidence: Evidence) -> bytes:
    """A transaction that brings evidence onto the ledger."""
    return encode(ReportOffence(evidence))


def carry_revocation(
    keys: KeyPair, chain: bytes, revocation: bytes, *, valid_until: int = 2**53, fee_max: int = 0
) -> bytes:
    """A transaction that brings a revocation onto the ledger, paid by the owner of these keys."""
    unsigned = CarryRevocation(chain, keys.public_key, valid_until, fee_max, revocation, bytes(64))
    return encode(msgspec.structs.replace(unsigned, signature=keys.sign(_carried(unsigned))))


def work_of(transaction: SignedTransaction) -> int:
    """How many transactions it counts for in a proposal: as many as there are signatures in it. Those in its body are verified when it is executed."""
    return 1 + len(getattr(transaction.body, "approvals", ())) + hasattr(transaction.body, "signature")


def transaction_id(transaction: bytes) -> bytes:
    """The name of a transaction."""
    return sha256(transaction).digest()


_remembered: Final[ParsedRecords[Transaction]] = ParsedRecords(REMEMBERED_BYTES)


def parse(transaction: bytes) -> Transaction:
    """The record that a transaction's bytes stand for.

    Raises:
        RemoteProtocolError: they stand for none.
    """
    known = _remembered.get(transaction)
    if known is not None:
        return known
    _check_size(transaction)
    return decode(transaction, Transaction, what="transaction")  # type: ignore[arg-type]  # a union is no type for mypy


def remember(transaction: bytes, record: Transaction) -> None:
    """What :func:`parse` gave will be asked for again, since the ledger takes it."""
    _remembered.put(transaction, record)


def payment_of(transaction: bytes) -> SignedPayment | None:
    """What a signed transaction says besides its body, which is not looked at; None if it seems to be none.

    Raises:
        RemoteProtocolError: it is too large.
    """
    _check_size(transaction)
    if not transaction.startswith(_SIGNED):
        return None
    try:
        return _payments.decode(transaction)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _check_size(transaction: bytes) -> None:
    if len(transaction) > TRANSACTION_BYTES_MAX:
        raise RemoteProtocolError(f"a transaction has at most {TRANSACTION_BYTES_MAX} bytes")


def encode_payload(transactions: Sequence[bytes]) -> bytes:
    """A block's payload; empty if there are no transactions."""
    return encode(list(transactions)) if transactions else b""


def decode_payload(payload: bytes) -> Sequence[bytes]:
    """The transactions of a payload.

    Raises:
        RemoteProtocolError: it is none, or has more than a block may have.
    """
    return decode(payload, _PAYLOAD, what="payload") if payload else ()


def _signed(transaction: SignedTransaction) -> bytes:
    return _DOMAIN + encode(
        (
            transaction.chain,
            transaction.sender,
            transaction.nonce,
            transaction.valid_until,
            transaction.fee_max,
            transaction.body,
        )
    )


def _carried(one: CarryRevocation) -> bytes:
    return _CARRIED_DOMAIN + encode((one.chain, one.payer, one.valid_until, one.fee_max, one.revocation))
