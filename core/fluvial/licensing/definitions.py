"""The table of vouchers and its statements, as SQLAlchemy has them; a peer on SQLite has their texts beside this file and does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import BigInteger, Column, LargeBinary, Table, Text, bindparam, delete, select

from fluvial.prepared import Statement
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
    Column("seen", BigInteger, nullable=False, server_default="0"),
)
_CHANGING: Final = ("amount", "signature", "used", "seen")
_KEEP: Final = per_dialect(
    lambda made: (new := made(_used)).on_conflict_do_update(
        index_elements=["licence"], set_={name: new.excluded[name] for name in _CHANGING}
    )
)

STATEMENTS: Final[Mapping[str, Statement]] = {
    "held": Statement(select(_used)),
    "keep": Statement(_KEEP, columns=_used.c.keys()),
    "forget": Statement(delete(_used).where(_used.c.licence == bindparam("of"))),
}
