"""The tables of the host's log. Every row has a checksum over its number and itself."""

from __future__ import annotations

from typing import Any
from zlib import crc32

from sqlalchemy import BigInteger, Column, LargeBinary, Row, Table

from fluvial.errors import StorageError
from fluvial.tables import new_metadata

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


def row_of(key: str, number: int, data: bytes) -> dict[str, Any]:
    """A row of a numbered table."""
    return {key: number, "checksum": checksum(number_key(number), data), "entry": data}


def number_key(number: int) -> bytes:
    """What a checksum is over, beside the entry."""
    return number.to_bytes(8, "big")


def checksum(key: bytes, data: bytes) -> int:
    """The checksum of an entry."""
    return crc32(key + data)


def checked(table: str, row: Row[Any] | tuple[Any, ...], key: bytes) -> bytes:
    """The entry of a row (key, checksum, entry).

    Raises:
        StorageError: it is not what was written.
    """
    _, written, entry = tuple(row)
    data = bytes(entry)
    if checksum(key, data) != written:
        raise damaged(table, f"row {row[0]!r} is not what was written")
    return data


def damaged(table: str, what: str) -> StorageError:
    """The error for a log that cannot be read."""
    return StorageError(
        f"the log of the consensus is damaged: {table}: {what}; votes may be missing",
        hint="this key must not vote any more: make a new validator key, and have the old one removed from the validators",
    )
