"""The table of the database's owner, and the statements about it; see ``ownership.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnClause,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    literal_column,
    select,
    update,
)

from fluvial.prepared import Statement
from fluvial.storage.ownership import OWNER_TABLE, TOKEN_BYTES
from fluvial.storage.particle_tables import metadata

_ONE: Final[ColumnClause[int]] = literal_column("1")

owners: Final = Table(
    OWNER_TABLE,
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("token", LargeBinary(TOKEN_BYTES), nullable=False),
    Column("host", Text, nullable=False),
    Column("process", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # of a file: the name under which its log lies
    Column("lease_ms", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
)
_MINE: Final = owners.c.token == bindparam("mine")

STATEMENTS: Final[Mapping[str, Statement]] = {
    "find": Statement(select(owners)),
    "verify": Statement(select(owners.c.id).where(_MINE)),
    "renew": Statement(update(owners).where(_MINE).values(beat=owners.c.beat + _ONE)),
    "release": Statement(delete(owners).where(_MINE)),
    "clear": Statement(delete(owners)),
    "claim": Statement(insert(owners), columns=owners.c.keys()),
}
