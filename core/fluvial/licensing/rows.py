"""Vouchers and their use in the node's database; the functions are the ``work`` of ``Database.read`` and ``write``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, Text, select

from fluvial.ledger.licences import LicenceVoucher
from fluvial.licensing.meter import HeldVoucher
from fluvial.tables import new_metadata, per_dialect

_metadata = new_metadata()
_used = Table(
    "licences_used",
    _metadata,
    Column("licence", LargeBinary(32), primary_key=True),
    Column("licensee", LargeBinary(32), nullable=False),
    Column("service", Text, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("used", BigInteger, nullable=False),
)
_CHANGING: Final = ("amount", "signature", "used")
_KEEP: Final = per_dialect(
    lambda made: (new := made(_used)).on_conflict_do_update(
        index_elements=["licence"], set_={name: new.excluded[name] for name in _CHANGING}
    )
)


def read_held(connection: Connection) -> Sequence[HeldVoucher]:
    """All that is kept."""
    return [
        HeldVoucher(
            voucher=LicenceVoucher(bytes(row.licence), row.amount, bytes(row.signature)),
            licensee=bytes(row.licensee),
            service=row.service,
            used=row.used,
        )
        for row in connection.execute(select(_used))
    ]


def keep(held: HeldVoucher, connection: Connection) -> None:
    """Keep what a licence came to, in place of what was kept of it before."""
    row = {
        "licence": held.voucher.licence,
        "licensee": held.licensee,
        "service": held.service,
        "amount": held.voucher.amount,
        "signature": held.voucher.signature,
        "used": held.used,
    }
    connection.execute(_KEEP[connection.dialect.name], [row])
