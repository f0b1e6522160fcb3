"""Snapshots in the log: what counts, what is damage, and how the old goes, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fluvial.consensus.block_chain import history_of
from fluvial.consensus.wire import BlockEntry
from fluvial.encoding import encode
from fluvial.errors import StorageError
from fluvial.hosting import snapshot_table
from fluvial.hosting.definitions import blocks, metadata, snapshots
from fluvial.hosting.kept_blocks import KeptBlocks
from fluvial.hosting.log import ConsensusLog
from fluvial.hosting.log_tables import row_of
from fluvial.ledger.blocks import BlockHeader, LedgerBlock
from fluvial.ledger.statements import NOTHING
from fluvial.prepared import Parameters, SqlTransaction, Statement
from sqlalchemy import Connection, create_engine, delete, insert, update


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def write(connection: Connection, height: int, parts: int, *, whole: bool) -> None:
    for number in range(0, parts, 2):
        entries = [b"part %d" % one for one in range(number, min(number + 2, parts))]
        last = whole and number + len(entries) == parts
        snapshot_table.put(SqlTransaction(connection), height, number, entries, last=last)


def read(connection: Connection, height: int) -> list[bytes]:
    return list(snapshot_table.parts(SqlTransaction(connection), height))


def test_a_snapshot_counts_once_its_last_part_is_there(connection: Connection) -> None:
    assert snapshot_table.newest(SqlTransaction(connection)) == 0
    assert read(connection, 0) == []
    write(connection, 10, 41, whole=True)
    write(connection, 20, 6, whole=False)  # a crash came in between
    assert snapshot_table.newest(SqlTransaction(connection)) == 10
    assert read(connection, 10) == [b"part %d" % one for one in range(41)]
    while snapshot_table.discard(SqlTransaction(connection), 10, 4):
        pass
    write(connection, 20, 3, whole=True)
    assert snapshot_table.newest(SqlTransaction(connection)) == 20
    while snapshot_table.discard(SqlTransaction(connection), 20, 4):
        pass
    assert [row[0] for row in connection.execute(snapshots.select())] == [20] * 3


@pytest.mark.parametrize("number", [0, 3, 5])
def test_damage_is_found(connection: Connection, number: int) -> None:
    write(connection, 10, 6, whole=True)
    mine = snapshots.c.number == number
    connection.execute(update(snapshots).where(mine).values(entry=b"part 7"))
    with pytest.raises(StorageError, match="consensus_snapshots"):
        read(connection, 10)
    connection.execute(delete(snapshots).where(mine))
    with pytest.raises(StorageError, match="consensus_snapshots"):
        read(connection, 10)


def test_old_blocks_go_a_little_at_a_time_and_what_is_left_is_served(connection: Connection) -> None:
    log = ConsensusLog()
    for height in range(1, 21):
        header = BlockHeader(NOTHING, 0, height, height, NOTHING, NOTHING, NOTHING, NOTHING, 0, height)
        connection.execute(insert(blocks), [row_of("height", height, encode(BlockEntry(LedgerBlock(header))))])
    slices = 1
    while snapshot_table.prune(SqlTransaction(connection), 12, 5):
        slices += 1
    assert slices == 3
    assert [log.has_block(SqlTransaction(connection), one) for one in (1, 12, 13, 20)] == [False, False, True, True]
    assert [block.header.height for block, _ in log.history(SqlTransaction(connection), 12, 4)] == [13, 14, 15, 16]
    assert list(log.history(SqlTransaction(connection), 3, 4)) == [], "they are gone"
    with pytest.raises(StorageError, match="block 4 is missing"):
        list(log.history(SqlTransaction(connection), 3))


def test_of_old_blocks_so_many_bytes_stay_however_few_blocks_that_are(connection: Connection) -> None:
    kept = KeptBlocks(16_000)
    for height in range(1, 61):
        header = BlockHeader(NOTHING, 0, height, height, NOTHING, NOTHING, NOTHING, NOTHING, 0, height)
        block = LedgerBlock(header, bytes(1_000 if height > 40 else 10))
        connection.execute(insert(blocks), [row_of("height", height, encode(BlockEntry(block)))])
    looked = []
    while found := snapshot_table.sizes(SqlTransaction(connection), kept.height, 60, 25):
        looked.append(len(found))
        for height, size in found:
            kept.count(height, size)
    assert looked == [25, 25, 10]
    upto = kept.surplus(0)
    assert 45 <= upto <= 50
    assert kept.surplus(upto - 3) == upto - 3
    assert kept.surplus(60 - 5) == 55
    snapshot_table.prune(SqlTransaction(connection), upto, 100)
    assert [height for height, _ in snapshot_table.sizes(SqlTransaction(connection), 0, 60, 3)] == list(
        range(upto + 1, upto + 4)
    )


class WeighedTransaction(SqlTransaction):
    """Counts the bytes of entries that are read."""

    read_bytes = 0

    def rows(self, statement: Statement, parameters: Parameters | None = None) -> list[Any]:
        found = super().rows(statement, parameters)
        self.read_bytes += sum(len(row.entry) for row in found if "entry" in row._fields)
        return found


def test_large_blocks_are_read_and_removed_a_few_at_a_time(connection: Connection) -> None:
    log = ConsensusLog()
    for height in range(1, 25):
        header = BlockHeader(NOTHING, 0, height, height, NOTHING, NOTHING, NOTHING, NOTHING, 0, height)
        block = LedgerBlock(header, bytes(1_000_000))
        connection.execute(insert(blocks), [row_of("height", height, encode(BlockEntry(block)))])
    transaction = WeighedTransaction(connection)
    found = history_of(((block, None) for block, _ in log.history(transaction, 0, 256)), 24)
    assert found.blocks == (), "there is no proof as far as it is looked for one"
    assert 0 < transaction.read_bytes < 7_000_000
    slices = 1
    while snapshot_table.prune(SqlTransaction(connection), 20, 200):
        slices += 1
    assert slices == 3, "8 MiB each"
    assert [block.header.height for block, _ in log.history(SqlTransaction(connection), 20)] == [21, 22, 23, 24]
