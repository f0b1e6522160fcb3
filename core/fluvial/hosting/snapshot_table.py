"""Snapshots in the host's log: parts in order, of which the last one makes the snapshot count; written and removed a little at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fluvial.hosting.log_tables import LOG, checked, checksum, damaged, number_key
from fluvial.prepared import Transaction

READ_ROWS = 16
PRUNED_BYTES: Final = 8 << 20
"""Of blocks that are removed in one write: all that a peer writes waits for it."""

_NEWEST: Final = LOG["newest_snapshot"]
_PARTS: Final = LOG["parts"]
_ADD: Final = LOG["add_parts"]
_OTHERS: Final = LOG["other_parts"]
_DROP: Final = LOG["drop_part"]
_LOWEST: Final = LOG["lowest_block"]
_SIZES: Final = LOG["block_sizes"]
_DROP_BLOCKS: Final = LOG["drop_blocks"]
_DROP_PROOFS: Final = LOG["drop_proofs"]


def newest(transaction: Transaction) -> int:
    """The height of the newest whole snapshot; 0 if there is none."""
    return transaction.value(_NEWEST) or 0


def parts(transaction: Transaction, height: int) -> Iterator[bytes]:
    """The parts of a whole snapshot in order; a few at a time are in memory.

    Raises:
        StorageError: a row is damaged or missing.
    """
    number, last = 0, not height
    while not last:
        rows = transaction.rows(_PARTS, {"at": height, "first": number, "end": number + READ_ROWS})
        if not rows:
            raise damaged("consensus_snapshots", f"part {number} of snapshot {height} is missing")
        for row in rows:
            if row[0] != number:
                raise damaged("consensus_snapshots", f"part {number} of snapshot {height} is missing")
            yield checked("consensus_snapshots", row[:3], _key(height, number))
            number += 1
            last = bool(row[3])


def put(transaction: Transaction, height: int, number: int, entries: Sequence[bytes], *, last: bool) -> None:
    """Add parts.

    Args:
        transaction: of a write.
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
    transaction.change(_ADD, rows)


def discard(transaction: Transaction, keep: int, rows_max: int) -> bool:
    """Remove some rows of all snapshots but one; returns whether there may be more.

    Args:
        transaction: of a write.
        keep: the height of the one that stays.
        rows_max: how many.
    """
    found = transaction.rows(_OTHERS, {"keep": keep, "most": rows_max})
    if found:
        transaction.change(_DROP, [{"at": height, "part": number} for height, number in found])
    return len(found) == rows_max


def prune(transaction: Transaction, upto: int, rows_max: int) -> bool:
    """Remove some of the blocks and proofs up to a height, the oldest first, of few bytes together; returns whether there may be more."""
    lowest = transaction.value(_LOWEST)
    if lowest is None or lowest > upto:
        return False
    end = reach(transaction, lowest - 1, min(upto, lowest + rows_max - 1), PRUNED_BYTES)
    transaction.change(_DROP_PROOFS, {"upto": end})
    transaction.change(_DROP_BLOCKS, {"upto": end})
    return end < upto


def reach(transaction: Transaction, above: int, upto: int, bytes_max: int) -> int:
    """The height up to which the next blocks have so many bytes together, the first one however many it has.

    Args:
        transaction: of a read.
        above: the blocks above this height,
        upto: and up to this one.
        bytes_max: of all of them.
    """
    size = 0
    for number, (height, one) in enumerate(transaction.rows(_SIZES, {"above": above, "upto": upto})):
        size += one
        if number and size > bytes_max:
            return int(height) - 1
    return upto


def sizes(transaction: Transaction, above: int, upto: int, rows_max: int) -> Sequence[tuple[int, int]]:
    """Heights and bytes of some blocks, the lowest first; none if there are no more.

    Args:
        transaction: of a read.
        above: of heights above this one,
        upto: and up to this one.
        rows_max: how many.
    """
    lowest = transaction.value(_LOWEST)
    if lowest is None:
        return ()
    above = max(above, lowest - 1)
    return [(row[0], row[1]) for row in transaction.rows(_SIZES, {"above": above, "upto": min(upto, above + rows_max)})]


def _key(height: int, number: int) -> bytes:
    return number_key(height) + number_key(number)
