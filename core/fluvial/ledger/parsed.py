"""Remembers what transactions' bytes stand for, within a bound in bytes: the pool, the check of a proposal and the execution all ask for the same ones.

Only what the ledger takes is remembered, so that who cannot pay leaves nothing. A record is weighed part by part: the members of a perimeter can take
twenty times as much memory as their encoding, and a transfer takes five times as much.
"""

from __future__ import annotations

import sys
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

ENTRY_BYTES: Final = 400
"""What an entry takes besides its bytes and its record: its place in the mapping, and what the record remembers of its signature. Measured: 200 to 350."""

_Half: TypeAlias = dict[bytes, tuple[RecordT, int]]


class ParsedRecords(Generic[RecordT]):
    """Records by the bytes that they were read from, in two halves: when the younger one is full, the older one is forgotten.

    What is asked for goes over into the younger half. Each step is one operation of a dictionary, so threads do not disturb each other: a log is replayed
    in one.

    Args:
        bytes_max: what all of it may take.
    """

    def __init__(self, bytes_max: int) -> None:
        self._half_max: Final = bytes_max // 2
        self._young: _Half[RecordT] = {}
        self._old: _Half[RecordT] = {}
        self._young_bytes = self._old_bytes = 0

    def __len__(self) -> int:
        return len({*self._young, *self._old})

    @property
    def held_bytes(self) -> int:
        """What all of it takes at most."""
        return self._young_bytes + self._old_bytes

    def get(self, data: bytes) -> RecordT | None:
        """The record of these bytes, if it is remembered."""
        known = self._young.get(data)
        if known is None:
            known = self._old.get(data)
            if known is None:
                return None
            self._keep(data, *known)
        return known[0]

    def put(self, data: bytes, record: RecordT) -> None:
        """Remember a record."""
        if data not in self._young:
            self._keep(data, record, ENTRY_BYTES + sys.getsizeof(data) + weight_of(record))

    def _keep(self, data: bytes, record: RecordT, weight: int) -> None:
        if weight > self._half_max:
            return
        if self._young_bytes + weight > self._half_max:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._young[data] = record, weight
        self._young_bytes += weight


def weight_of(value: object) -> int:
    """What a record takes in memory, in bytes, with all its parts."""
    weight = sys.getsizeof(value)
    if isinstance(value, msgspec.Struct):
        return weight + sum(map(weight_of, msgspec.structs.astuple(value)))
    if isinstance(value, tuple):
        return weight + sum(map(weight_of, value))
    return weight
