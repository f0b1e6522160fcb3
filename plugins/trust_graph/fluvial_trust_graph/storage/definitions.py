"""The tables of the seat and its statements, as SQLAlchemy has them; a peer on SQLite has their texts beside this file and does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fluvial.prepared import Statement
from fluvial.tables import new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, LargeBinary, Table, bindparam, delete, select

metadata = new_metadata()
statements = Table(
    "trust_statements",
    metadata,
    Column("issuer", LargeBinary(32), primary_key=True),
    Column("subject", LargeBinary(32), primary_key=True),
    Column("statement", LargeBinary, nullable=False),
)
roots = Table(
    "trust_roots",
    metadata,
    Column("peer", LargeBinary(32), primary_key=True),
    Column("exponent", BigInteger, nullable=False),
)
_PUT = per_dialect(
    lambda insert: (new := insert(statements)).on_conflict_do_update(
        index_elements=["issuer", "subject"], set_={"statement": new.excluded.statement}
    )
)
_SET_ROOT = per_dialect(
    lambda insert: (new := insert(roots)).on_conflict_do_update(
        index_elements=["peer"], set_={"exponent": new.excluded.exponent}
    )
)

_PAIR: Final = (statements.c.issuer == bindparam("by")) & (statements.c.subject == bindparam("about"))

STATEMENTS: Final[Mapping[str, Statement]] = {
    "statements": Statement(select(statements.c.statement)),
    "put": Statement(_PUT, columns=statements.c.keys()),
    "remove": Statement(delete(statements).where(_PAIR)),
    "roots": Statement(select(roots.c.peer, roots.c.exponent)),
    "set_root": Statement(_SET_ROOT, columns=roots.c.keys()),
}
