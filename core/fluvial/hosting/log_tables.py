"""Rows of the host's log: every one has a checksum over its number and itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from fluvial.errors import StorageError
from fluvial.prepared import KeptStatements

LOG: Final = KeptStatements("fluvial.hosting.definitions", Path(__file__).with_name("definitions.sql"))
"""The statements of the log."""


def row_of(key: str, number: int, data: bytes) -> dict[str, Any]:
    """A row of a numbered table."""
    return {key: number, "checksum": checksum(number_key(number), data), "entry": data}


def number_key(number: int) -> bytes:
    """What a checksum is over, beside the entry."""
    return number.to_bytes(8, "big")


def checksum(key: bytes, data: bytes) -> int:
    """The checksum of an entry."""
    return crc32(key + data)


def checked(table: str, row: Sequence[Any], key: bytes) -> bytes:
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
