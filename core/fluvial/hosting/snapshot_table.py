"""Snapshots in the host's log: parts in order, of which the last one makes the snapshot count; written and removed a little at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, delete, func, insert, select

from fluvial.hosting.log_tables import blocks, checked, checksum, damaged, number_key, proofs, snapshots

READ_ROWS = 16


def newest(connection: Connection) -> int:
    """The height of the newest whole snapshot; 0 if there is none."""
    return connection.execute(select(func.max(snapshots.c.height)).where(snapshots.c.last == 1)).scalar() or 0


def parts(connection: Connection, height: int) -> Iterator[bytes]:
    """The parts of a whole snapshot in order; a few at a time are in memory.

    Raises:
        StorageError: a row is damaged or missing.
    """
    number, last = 0, not height
    while not last:
        rows = connection.execute(
            select(snapshots.c.number, snapshots.c.checksum, snapshots.c.entry, snapshots.c.last)
            .where(snapshots.c.height == height, snapshots.c.number >= number, snapshots.c.number < number + READ_ROWS)
            .order_by(snapshots.c.number)
        ).all()
        if not rows:
            raise damaged("consensus_snapshots", f"part {number} of snapshot {height} is missing")
        for row in rows:
            if row[0] != number:
                raise damaged("consensus_snapshots", f"part {number} of snapshot {height} is missing")
            yield checked("consensus_snapshots", row[:3], _key(height, number))
            number += 1
            last = bool(row[3])


def put(connection: Connection, height: int, number: int, entries: Sequence[bytes], *, last: bool) -> None:
    """Add parts.

    Args:
        connection: of a write.
        height: of the snapshot.
        number: of the first of these parts.
        entries: the parts.
        last: whether the snapshot is whole with them.
    """
    rows = [
        {
            "height": height,
            "number": number + index,
            "last": int(last and index == len(entries) - 1),
            "checksum": checksum(_key(height, number + index), entry),
            "entry": entry,
        }
        for index, entry in enumerate(entries)
    ]
    connection.execute(insert(snapshots), rows)


def discard(connection: Connection, keep: int, rows_max: int) -> bool:
    """Remove some rows of all snapshots but one; returns whether there may be more.

    Args:
        connection: of a write.
        keep: the height of the one that stays.
        rows_max: how many.
    """
    found = connection.execute(
        select(snapshots.c.height, snapshots.c.number).where(snapshots.c.height != keep).limit(rows_max)
    ).all()
    for height, number in found:
        connection.execute(delete(snapshots).where(snapshots.c.height == height, snapshots.c.number == number))
    return len(found) == rows_max


def prune(connection: Connection, upto: int, rows_max: int) -> bool:
    """Remove some of the blocks and proofs up to a height, the oldest first; returns whether there may be more."""
    lowest = connection.execute(select(func.min(blocks.c.height))).scalar()
    if lowest is None or lowest > upto:
        return False
    end = min(upto, lowest + rows_max - 1)
    connection.execute(delete(proofs).where(proofs.c.height <= end))
    connection.execute(delete(blocks).where(blocks.c.height <= end))
    return bool(end < upto)


def _key(height: int, number: int) -> bytes:
    return number_key(height) + number_key(number)
