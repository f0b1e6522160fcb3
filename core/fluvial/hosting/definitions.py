"""The tables of the host's log and its statements, as SQLAlchemy has them; a peer on SQLite has their texts beside this file and does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnClause,
    LargeBinary,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
)

from fluvial.prepared import Statement
from fluvial.tables import new_metadata, per_dialect

metadata = new_metadata()
keys = Table(
    "consensus_keys",
    metadata,
    Column("peer", LargeBinary(32), primary_key=True),
    Column("chain", LargeBinary(32), nullable=False),
    Column("votes_from", BigInteger, nullable=False),
)


def _numbered(name: str, key: str) -> Table:
    return Table(
        name,
        metadata,
        Column(key, BigInteger, primary_key=True, autoincrement=False),
        Column("checksum", BigInteger, nullable=False),
        Column("entry", LargeBinary, nullable=False),
    )


records = _numbered("consensus_records", "number")
blocks = _numbered("consensus_blocks", "height")
proofs = _numbered("consensus_proofs", "height")
epochs = _numbered("consensus_epochs", "epoch")
snapshots = Table(
    "consensus_snapshots",
    metadata,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False),
)
offences = Table(
    "consensus_offences",
    metadata,
    Column("offender", LargeBinary(32), primary_key=True),
    Column("checksum", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False),
)

_ZERO: Final[ColumnClause[int]] = literal_column("0")
_ONE: Final[ColumnClause[int]] = literal_column("1")
_PEER: Final[BindParameter[Any]] = bindparam("of")
_AT: Final[BindParameter[Any]] = bindparam("at")
_ABOVE: Final[BindParameter[Any]] = bindparam("above")
_UPTO: Final[BindParameter[Any]] = bindparam("upto")


def _adding(table: Table, *, again: bool) -> Statement:
    """Add rows to a table; rows that are there already stay as they are, if they may come again."""
    source = per_dialect(lambda made: made(table).on_conflict_do_nothing()) if again else insert(table)
    return Statement(source, columns=table.c.keys())


STATEMENTS: Final[Mapping[str, Statement]] = {
    "voter": Statement(select(keys.c.chain, keys.c.votes_from).where(keys.c.peer == _PEER)),
    "others": Statement(select(keys.c.peer).where(keys.c.peer != _PEER)),
    "register": _adding(keys, again=False),
    "add_records": _adding(records, again=False),
    "add_blocks": _adding(blocks, again=False),
    "add_proofs": _adding(proofs, again=True),
    "add_offences": _adding(offences, again=True),
    "add_epochs": _adding(epochs, again=True),
    "forget": Statement(delete(records).where(records.c.number < bindparam("fresh"))),
    "epochs": Statement(select(epochs).order_by(epochs.c.epoch)),
    "offences": Statement(select(offences)),
    "records": Statement(select(records).order_by(records.c.number)),
    "blocks": Statement(
        select(blocks).where(blocks.c.height > _ABOVE, blocks.c.height <= _UPTO).order_by(blocks.c.height)
    ),
    "proofs": Statement(select(proofs).where(proofs.c.height > _ABOVE, proofs.c.height <= _UPTO)),
    "block_sizes": Statement(
        select(blocks.c.height, func.length(blocks.c.entry))
        .where(blocks.c.height > _ABOVE, blocks.c.height <= _UPTO)
        .order_by(blocks.c.height)
    ),
    "highest_block": Statement(select(func.max(blocks.c.height))),
    "lowest_block": Statement(select(func.min(blocks.c.height))),
    "block": Statement(select(blocks.c.height).where(blocks.c.height == _AT)),
    "drop_blocks": Statement(delete(blocks).where(blocks.c.height <= _UPTO)),
    "drop_proofs": Statement(delete(proofs).where(proofs.c.height <= _UPTO)),
    "newest_snapshot": Statement(select(func.max(snapshots.c.height)).where(snapshots.c.last == _ONE)),
    "parts": Statement(
        select(snapshots.c.number, snapshots.c.checksum, snapshots.c.entry, snapshots.c.last)
        .where(
            snapshots.c.height == _AT, snapshots.c.number >= bindparam("first"), snapshots.c.number < bindparam("end")
        )
        .order_by(snapshots.c.number)
    ),
    "add_parts": _adding(snapshots, again=False),
    "other_parts": Statement(
        select(snapshots.c.height, snapshots.c.number)
        .where(snapshots.c.height != bindparam("keep"))
        .limit(bindparam("most"))
        .offset(_ZERO)
    ),
    "drop_part": Statement(delete(snapshots).where(snapshots.c.height == _AT, snapshots.c.number == bindparam("part"))),
}
