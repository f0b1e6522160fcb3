"""Vouchers and their use in the node's database; the functions are the ``work`` of ``Database.read`` and ``write``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fluvial.ledger.licences import LicenceVoucher
from fluvial.licensing.meter import HeldVoucher
from fluvial.prepared import KeptStatements, Transaction

_KEPT: Final = KeptStatements("fluvial.licensing.definitions", Path(__file__).with_name("definitions.sql"))
_HELD: Final = _KEPT["held"]
_KEEP: Final = _KEPT["keep"]
_FORGET: Final = _KEPT["forget"]


def read_held(transaction: Transaction) -> Sequence[HeldVoucher]:
    """All that is kept."""
    return [
        HeldVoucher(
            voucher=LicenceVoucher(bytes(row.licence), row.amount, bytes(row.signature)),
            licensee=bytes(row.licensee),
            service=row.service,
            used=row.used,
            seen=row.seen,
        )
        for row in transaction.each(_HELD)
    ]


def keep(transaction: Transaction, held: HeldVoucher, closed: Sequence[bytes]) -> None:
    """Keep what a licence came to, in place of what was kept of it before, and forget others that were closed."""
    row = {
        "licence": held.voucher.licence,
        "licensee": held.licensee,
        "service": held.service,
        "amount": held.voucher.amount,
        "signature": held.voucher.signature,
        "used": held.used,
        "seen": held.seen,
    }
    transaction.change(_KEEP, row)
    for licence in closed:
        transaction.change(_FORGET, {"of": licence})
