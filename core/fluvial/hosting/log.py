"""The host's log in the node's database: what an engine has persisted, the final blocks with their proofs, and offences.

The database brings each write whole or not at all onto the disk, so no crash tears a row. Every row has a checksum over its number and itself, and numbers have no
gaps: what a disk, or somebody, has damaged is found at the start, and a key of which votes may be missing does not vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from fluvial.consensus.wire import BlockEntry, EpochEntry, EvidenceEntry, ForgetEntry, LogEntry, ProofEntry, RecordEntry
from fluvial.encoding import encode
from fluvial.hosting import snapshot_table
from fluvial.hosting.log_tables import LOG, checked, checksum, damaged, number_key, row_of
from fluvial.ledger.blocks import FinalityProof, LedgerBlock
from fluvial.prepared import Statement, Transaction
from fluvial.storage.direct import DirectWrite, Step

BATCH: Final = 200
"""Rows that are read at once,"""
BATCH_BYTES: Final = 1 << 20
"""and bytes of blocks, or a single one that is larger: who asks for old blocks gets a few, however many there are."""

_VOTER: Final = LOG["voter"]
_OTHERS: Final = LOG["others"]
_REGISTER: Final = LOG["register"]
_EPOCHS: Final = LOG["epochs"]
_OFFENCES: Final = LOG["offences"]
_RECORDS: Final = LOG["records"]
_BLOCKS: Final = LOG["blocks"]
_PROOFS: Final = LOG["proofs"]
_HIGHEST: Final = LOG["highest_block"]
_BLOCK: Final = LOG["block"]
_FORGET: Final = LOG["forget"]
_ADD: Final[Mapping[str, Statement]] = {
    table: LOG[f"add_{table}"] for table in ("records", "blocks", "proofs", "offences", "epochs")
}
_ENTRY: Final = msgspec.msgpack.Decoder(LogEntry)


class ConsensusLog:
    """Reads and writes the log of one host; its methods are the ``work`` of ``Database.read`` and ``write``."""

    def __init__(self) -> None:
        self._next = 0

    # --- who votes ------------------------------------------------------------------------------------------------------

    def voter(self, transaction: Transaction, peer: bytes) -> tuple[bytes, int] | None:
        """The ledger that this database belongs to, and the first epoch in which the key may vote; None if it is new."""
        row = transaction.row(_VOTER, {"of": peer})
        return None if row is None else (bytes(row[0]), int(row[1]))

    def others(self, transaction: Transaction, peer: bytes) -> bool:
        """Whether another key has used this database."""
        return transaction.row(_OTHERS, {"of": peer}) is not None

    def register(self, transaction: Transaction, peer: bytes, chain: bytes, *, votes_from: int) -> None:
        """Note to which ledger the database belongs from now on, and the first epoch in which the key may vote."""
        transaction.change(_REGISTER, {"peer": peer, "chain": chain, "votes_from": votes_from})

    # --- reading --------------------------------------------------------------------------------------------------------

    def entries(self, transaction: Transaction) -> Iterator[bytes]:
        """All that was written, as ``Replica.start`` wants it; a little at a time.

        Raises:
            StorageError: a row is damaged or missing.
        """
        for row in transaction.each(_EPOCHS):
            yield checked("consensus_epochs", row, number_key(row[0]))
        base = snapshot_table.newest(transaction)
        yield from snapshot_table.parts(transaction, base)
        for block, proof in self.history(transaction, base):
            yield encode(BlockEntry(block, proof))
        for row in transaction.each(_OFFENCES):
            yield checked("consensus_offences", row, bytes(row[0]))
        self._next = 0
        first = None
        for row in transaction.each(_RECORDS):
            first = row[0] if first is None else first
            if row[0] != (self._next or first):
                raise damaged("consensus_records", f"row {self._next} is missing")
            self._next = row[0] + 1
            yield checked("consensus_records", row, number_key(row[0]))

    def history(
        self, transaction: Transaction, above: int, count: int | None = None
    ) -> Iterator[tuple[LedgerBlock, FinalityProof | None]]:
        """Final blocks above a height, with their proofs.

        Args:
            transaction: of a read.
            above: the height.
            count: how many at most, up to the first one that is missing; None for all of them, of which none may be missing.

        Raises:
            StorageError: a row is damaged or missing.
        """
        end = None if count is None else above + count
        while end is None or above < end:
            upto = above + BATCH if end is None else min(above + BATCH, end)
            upto = snapshot_table.reach(transaction, above, upto, BATCH_BYTES)
            bounds = {"above": above, "upto": upto}
            found = transaction.rows(_BLOCKS, bounds)
            known = {row[0]: row for row in transaction.rows(_PROOFS, bounds)}
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
        if end is None and (transaction.value(_HIGHEST) or 0) > above:
            raise damaged("consensus_blocks", f"block {above + 1} is missing")

    def has_block(self, transaction: Transaction, height: int) -> bool:
        """Whether a block is there."""
        return transaction.row(_BLOCK, {"at": height}) is not None

    # --- writing --------------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[bytes]) -> DirectWrite[int]:
        """Write entries; gives the number of the next record, for :meth:`appended` once they are durable."""
        number, fresh = self._next, None
        rows: dict[str, list[dict[str, Any]]] = {table: [] for table in _ADD}
        for data in entries:
            match _ENTRY.decode(data):
                case RecordEntry(fresh=is_fresh):
                    fresh = number if is_fresh else fresh
                    rows["records"].append(row_of("number", number, data))
                    number += 1
                case ForgetEntry(keep=keep):
                    fresh = number - keep
                case BlockEntry(block, proof):
                    height = block.header.height
                    alone = data if proof is None else encode(BlockEntry(block))
                    rows["blocks"].append(row_of("height", height, alone))
                    if proof is not None:
                        rows["proofs"].append(row_of("height", height, encode(ProofEntry(height, proof))))
                case ProofEntry(height):
                    rows["proofs"].append(row_of("height", height, data))
                case EpochEntry(step):
                    rows["epochs"].append(row_of("epoch", step.header.epoch, data))
                case EvidenceEntry(evidence):
                    offender = evidence.offender
                    rows["offences"].append({"offender": offender, "checksum": checksum(offender, data), "entry": data})
        steps: list[Step] = [
            (_ADD[table], found if len(found) > 1 else found[0]) for table, found in rows.items() if found
        ]
        if fresh is not None:
            steps.append((_FORGET, {"fresh": fresh}))
        return DirectWrite(steps, lambda _: number, size=sum(map(len, entries)))

    def appended(self, number: int) -> None:
        """The entries are durable."""
        self._next = number
