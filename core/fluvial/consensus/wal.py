"""The write-ahead log as bytes: records with length, checksum and number, so that a torn end is told from a damaged middle.

A crash can tear only what was being written: the end. Everything else that does not read is a loss of votes, after which a validator must not
vote: the log is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

from fluvial.errors import StorageError

_HEAD: Final = struct.Struct(">IIQ")
RECORD_BYTES_MAX: Final = 4 << 20


def framed(number: int, record: bytes) -> bytes:
    """A record as it stands in the log; ``number`` counts from 0."""
    numbered = number.to_bytes(8, "big") + record
    return _HEAD.pack(len(record), crc32(numbered), number) + record


def recovered(log: bytes) -> tuple[Sequence[bytes], int]:
    """The records of a log, and how many of its bytes they take: what follows is the torn end, which must be cut off.

    Raises:
        StorageError: a record before the last one is damaged.
    """
    records: list[bytes] = []
    at = 0
    while at < len(log):
        record = _record(log, at, len(records))
        if record is None:
            if _another_begins(log, at + 1, len(records)):
                raise StorageError(
                    f"the write-ahead log is damaged at byte {at}, and more records follow: votes may be missing",
                    hint="this key must not vote again in this epoch; make a new validator key",
                )
            break
        records.append(record)
        at += _HEAD.size + len(record)
    return records, at


def _record(log: bytes, at: int, number: int | None) -> bytes | None:
    if at + _HEAD.size > len(log):
        return None
    length, checksum, found = _HEAD.unpack_from(log, at)
    end = at + _HEAD.size + length
    if length > RECORD_BYTES_MAX or end > len(log) or (number is not None and found != number):
        return None
    record = log[at + _HEAD.size : end]
    return record if crc32(found.to_bytes(8, "big") + record) == checksum else None


def _another_begins(log: bytes, start: int, number: int) -> bool:
    """Whether a whole record with a later number stands anywhere behind ``start``."""
    for at in range(start, len(log) - _HEAD.size + 1):
        length, _, found = _HEAD.unpack_from(log, at)
        plausible = number < found < number + 1_000_000 and length <= len(log) - at - _HEAD.size
        if plausible and _record(log, at, None) is not None:
            return True
    return False
