"""The host's log in the node's database: what an engine has persisted, the final blocks with their proofs, and offences.

The database brings each write whole or not at all onto the disk, so no crash tears a row. Every row has a checksum over its number and itself, and numbers have no
gaps: what a disk, or somebody, has damaged is found at the start, and a key of which votes may be missing does not vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Row, Table, delete, func, insert, select

from fluvial.consensus.wire import BlockEntry, EvidenceEntry, LogEntry, ProofEntry, RecordEntry
from fluvial.encoding import encode
from fluvial.errors import StorageError
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.tables import new_metadata, per_dialect

BATCH: Final = 200
"""Rows that are read at once."""

metadata = new_metadata()
keys = Table(
    "consensus_keys",
    metadata,
    Column("peer", LargeBinary(32), primary_key=True),
    Column("chain", LargeBinary(32), nullable=False),
    Column("silent", BigInteger, nullable=False),
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
offences = Table(
    "consensus_offences",
    metadata,
    Column("offender", LargeBinary(32), primary_key=True),
    Column("checksum", BigInteger, nullable=False),
    Column("entry", LargeBinary, nullable=False),
)
_ADD_PROOF: Final = per_dialect(lambda made: made(proofs).on_conflict_do_nothing())
_ADD_OFFENCE: Final = per_dialect(lambda made: made(offences).on_conflict_do_nothing())
_ENTRY: Final = msgspec.msgpack.Decoder(LogEntry)


class ConsensusLog:
    """Reads and writes the log of one host; its methods are the ``work`` of ``Database.read`` and ``write``."""

    def __init__(self) -> None:
        self._next = 0

    # --- who votes ------------------------------------------------------------------------------------------------------

    def voter(self, connection: Connection, peer: bytes) -> tuple[bytes, bool] | None:
        """The ledger that this database belongs to, and whether the key must be silent; None if it is new."""
        row = connection.execute(select(keys.c.chain, keys.c.silent).where(keys.c.peer == peer)).first()
        return None if row is None else (bytes(row[0]), bool(row[1]))

    def others(self, connection: Connection, peer: bytes) -> bool:
        """Whether another key has used this database."""
        return connection.execute(select(keys.c.peer).where(keys.c.peer != peer)).first() is not None

    def register(self, connection: Connection, peer: bytes, chain: bytes, *, silent: bool) -> None:
        """Note to which ledger the database belongs from now on."""
        connection.execute(insert(keys), [{"peer": peer, "chain": chain, "silent": int(silent)}])

    # --- reading --------------------------------------------------------------------------------------------------------

    def entries(self, connection: Connection) -> Iterator[bytes]:
        """All that was written, as ``Replica.start`` wants it; a little at a time.

        Raises:
            StorageError: a row is damaged or missing.
        """
        for block, proof in self.history(connection, 0):
            yield encode(BlockEntry(block, proof))
        for row in connection.execute(select(offences)):
            yield _checked("consensus_offences", row, bytes(row[0]))
        self._next = 0
        first = None
        for row in connection.execute(select(records).order_by(records.c.number)):
            first = row[0] if first is None else first
            if row[0] != (self._next or first):
                raise _damaged("consensus_records", f"row {self._next} is missing")
            self._next = row[0] + 1
            yield _checked("consensus_records", row, _number(row[0]))

    def history(
        self, connection: Connection, above: int, count: int | None = None
    ) -> Iterator[tuple[LedgerBlock, FinalityProof | None]]:
        """Final blocks above a height, with their proofs.

        Args:
            connection: of a read.
            above: the height.
            count: how many at most.

        Raises:
            StorageError: a row is damaged or missing.
        """
        end = None if count is None else above + count
        while end is None or above < end:
            upto = above + BATCH if end is None else min(above + BATCH, end)
            found = connection.execute(
                select(blocks).where(blocks.c.height > above, blocks.c.height <= upto).order_by(blocks.c.height)
            ).all()
            known = {
                row[0]: row
                for row in connection.execute(select(proofs).where(proofs.c.height > above, proofs.c.height <= upto))
            }
            for row in found:
                above += 1
                if row[0] != above:
                    raise _damaged("consensus_blocks", f"block {above} is missing")
                block = _ENTRY.decode(_checked("consensus_blocks", row, _number(above)))
                proof = None
                if above in known:
                    proof = _ENTRY.decode(_checked("consensus_proofs", known[above], _number(above))).proof
                yield block.block, proof
            if above < upto:
                break
        if end is None and connection.execute(select(func.max(blocks.c.height))).scalar() not in (None, above):
            raise _damaged("consensus_blocks", f"block {above + 1} is missing")

    # --- writing --------------------------------------------------------------------------------------------------------

    def append(self, connection: Connection, entries: Sequence[bytes]) -> int:
        """Write entries; returns the number of the next record, for :meth:`appended` once they are durable."""
        number, fresh = self._next, None
        rows: dict[str, list[dict[str, Any]]] = {"records": [], "blocks": [], "proofs": [], "offences": []}
        for data in entries:
            match _ENTRY.decode(data):
                case RecordEntry(fresh=is_fresh):
                    fresh = number if is_fresh else fresh
                    rows["records"].append(_row("number", number, data))
                    number += 1
                case BlockEntry(block, proof):
                    height = block.header.height
                    rows["blocks"].append(_row("height", height, encode(BlockEntry(block))))
                    if proof is not None:
                        rows["proofs"].append(_row("height", height, encode(ProofEntry(height, proof))))
                case ProofEntry(height):
                    rows["proofs"].append(_row("height", height, data))
                case EvidenceEntry(evidence):
                    offender = evidence.offender
                    rows["offences"].append({"offender": offender, "checksum": _sum(offender, data), "entry": data})
        dialect = connection.dialect.name
        for name, statement in (
            ("records", insert(records)),
            ("blocks", insert(blocks)),
            ("proofs", _ADD_PROOF[dialect]),
            ("offences", _ADD_OFFENCE[dialect]),
        ):
            if rows[name]:
                connection.execute(statement, rows[name])
        if fresh is not None:
            connection.execute(delete(records).where(records.c.number < fresh))
        return number

    def appended(self, number: int) -> None:
        """The entries are durable."""
        self._next = number


def _row(key: str, number: int, data: bytes) -> dict[str, Any]:
    return {key: number, "checksum": _sum(_number(number), data), "entry": data}


def _number(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _sum(key: bytes, data: bytes) -> int:
    return crc32(key + data)


def _checked(table: str, row: Row[Any], key: bytes) -> bytes:
    _, checksum, entry = tuple(row)
    data = bytes(entry)
    if _sum(key, data) != checksum:
        raise _damaged(table, f"row {row[0]!r} is not what was written")
    return data


def _damaged(table: str, what: str) -> StorageError:
    return StorageError(
        f"the log of the consensus is damaged: {table}: {what}; votes may be missing",
        hint="this key must not vote any more: make a new validator key, and have the old one removed from the validators",
    )
