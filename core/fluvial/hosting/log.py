"""The host's log in the node's database: what an engine has persisted, the final blocks with their proofs, and offences.

The database brings each write whole or not at all onto the disk, so no crash tears a row. Every row has a checksum over its number and itself, and numbers have no
gaps: what a disk, or somebody, has damaged is found at the start, and a key of which votes may be missing does not vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select

from fluvial.consensus.wire import BlockEntry, EpochEntry, EvidenceEntry, LogEntry, ProofEntry, RecordEntry
from fluvial.encoding import encode
from fluvial.hosting import snapshot_table
from fluvial.hosting.log_tables import (
    blocks,
    checked,
    checksum,
    damaged,
    epochs,
    keys,
    number_key,
    offences,
    proofs,
    records,
    row_of,
)
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.prepared import Statement
from fluvial.storage.direct import DirectWrite, Step
from fluvial.tables import per_dialect

BATCH: Final = 200
"""Rows that are read at once."""

_FORGET: Final = Statement(delete(records).where(records.c.number < bindparam("fresh")))


def _adding(table: Table, *, again: bool) -> Statement:
    """Add rows to a table; rows that are there already stay as they are, if they may come again."""
    source = per_dialect(lambda made: made(table).on_conflict_do_nothing()) if again else insert(table)
    return Statement(source, columns=table.c.keys())


_ADD: Final[Mapping[Table, Statement]] = {
    records: _adding(records, again=False),
    blocks: _adding(blocks, again=False),
    proofs: _adding(proofs, again=True),
    offences: _adding(offences, again=True),
    epochs: _adding(epochs, again=True),
}
_ENTRY: Final = msgspec.msgpack.Decoder(LogEntry)


class ConsensusLog:
    """Reads and writes the log of one host; its methods are the ``work`` of ``Database.read`` and ``write``."""

    def __init__(self) -> None:
        self._next = 0

    # --- who votes ------------------------------------------------------------------------------------------------------

    def voter(self, connection: Connection, peer: bytes) -> tuple[bytes, int] | None:
        """The ledger that this database belongs to, and the first epoch in which the key may vote; None if it is new."""
        row = connection.execute(select(keys.c.chain, keys.c.votes_from).where(keys.c.peer == peer)).first()
        return None if row is None else (bytes(row[0]), int(row[1]))

    def others(self, connection: Connection, peer: bytes) -> bool:
        """Whether another key has used this database."""
        return connection.execute(select(keys.c.peer).where(keys.c.peer != peer)).first() is not None

    def register(self, connection: Connection, peer: bytes, chain: bytes, *, votes_from: int) -> None:
        """Note to which ledger the database belongs from now on, and the first epoch in which the key may vote."""
        connection.execute(insert(keys), [{"peer": peer, "chain": chain, "votes_from": votes_from}])

    # --- reading --------------------------------------------------------------------------------------------------------

    def entries(self, connection: Connection) -> Iterator[bytes]:
        """All that was written, as ``Replica.start`` wants it; a little at a time.

        Raises:
            StorageError: a row is damaged or missing.
        """
        for row in connection.execute(select(epochs).order_by(epochs.c.epoch)):
            yield checked("consensus_epochs", row, number_key(row[0]))
        base = snapshot_table.newest(connection)
        yield from snapshot_table.parts(connection, base)
        for block, proof in self.history(connection, base):
            yield encode(BlockEntry(block, proof))
        for row in connection.execute(select(offences)):
            yield checked("consensus_offences", row, bytes(row[0]))
        self._next = 0
        first = None
        for row in connection.execute(select(records).order_by(records.c.number)):
            first = row[0] if first is None else first
            if row[0] != (self._next or first):
                raise damaged("consensus_records", f"row {self._next} is missing")
            self._next = row[0] + 1
            yield checked("consensus_records", row, number_key(row[0]))

    def history(
        self, connection: Connection, above: int, count: int | None = None
    ) -> Iterator[tuple[LedgerBlock, FinalityProof | None]]:
        """Final blocks above a height, with their proofs.

        Args:
            connection: of a read.
            above: the height.
            count: how many at most, up to the first one that is missing; None for all of them, of which none may be missing.

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
                if row[0] != above and count is not None:
                    return
                if row[0] != above:
                    raise damaged("consensus_blocks", f"block {above} is missing")
                block = _ENTRY.decode(checked("consensus_blocks", row, number_key(above)))
                proof = None
                if above in known:
                    proof = _ENTRY.decode(checked("consensus_proofs", known[above], number_key(above))).proof
                yield block.block, proof
            if above < upto:
                break
        if end is None and (connection.execute(select(func.max(blocks.c.height))).scalar() or 0) > above:
            raise damaged("consensus_blocks", f"block {above + 1} is missing")

    def has_block(self, connection: Connection, height: int) -> bool:
        """Whether a block is there."""
        return connection.execute(select(blocks.c.height).where(blocks.c.height == height)).first() is not None

    # --- writing --------------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[bytes]) -> DirectWrite[int]:
        """Write entries; gives the number of the next record, for :meth:`appended` once they are durable."""
        number, fresh = self._next, None
        rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _ADD}
        for data in entries:
            match _ENTRY.decode(data):
                case RecordEntry(fresh=is_fresh):
                    fresh = number if is_fresh else fresh
                    rows[records].append(row_of("number", number, data))
                    number += 1
                case BlockEntry(block, proof):
                    height = block.header.height
                    alone = data if proof is None else encode(BlockEntry(block))
                    rows[blocks].append(row_of("height", height, alone))
                    if proof is not None:
                        rows[proofs].append(row_of("height", height, encode(ProofEntry(height, proof))))
                case ProofEntry(height):
                    rows[proofs].append(row_of("height", height, data))
                case EpochEntry(step):
                    rows[epochs].append(row_of("epoch", step.header.epoch, data))
                case EvidenceEntry(evidence):
                    offender = evidence.offender
                    rows[offences].append({"offender": offender, "checksum": checksum(offender, data), "entry": data})
        steps: list[Step] = [
            (_ADD[table], found if len(found) > 1 else found[0]) for table, found in rows.items() if found
        ]
        if fresh is not None:
            steps.append((_FORGET, {"fresh": fresh}))
        return DirectWrite(steps, lambda _: number, size=sum(map(len, entries)))

    def appended(self, number: int) -> None:
        """The entries are durable."""
        self._next = number
