"""The write-ahead log: a torn end is cut off, a damaged middle is not overlooked."""

from __future__ import annotations

import pytest
from fluvial.consensus.barrier import OutputQueue
from fluvial.consensus.outputs import Append, StopTimer, Sync
from fluvial.consensus.wal import framed, recovered
from fluvial.errors import StorageError
from hypothesis import given, settings
from hypothesis import strategies as st

RECORDS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


def log_of(records: list[bytes]) -> bytes:
    return b"".join(framed(number, one) for number, one in enumerate(records))


@settings(deadline=None)
@given(RECORDS, st.data())
def test_a_torn_log_loses_its_last_record_alone(records: list[bytes], data: st.DataObject) -> None:
    log = log_of(records)
    assert recovered(log) == (records, len(log))
    last = len(log_of(records[:-1]))
    cut = data.draw(st.integers(last, len(log) - 1))
    assert recovered(log[:cut]) == (records[:-1], last)


@settings(deadline=None)
@given(RECORDS, st.data())
def test_a_flipped_bit_is_noticed(records: list[bytes], data: st.DataObject) -> None:
    log = bytearray(log_of(records))
    at = data.draw(st.integers(0, len(log) - 1))
    log[at] ^= 1 << data.draw(st.integers(0, 7))
    last = len(log_of(records[:-1]))
    if at >= last:
        assert recovered(bytes(log)) == (records[:-1], last)
    else:
        with pytest.raises(StorageError, match="votes may be missing"):
            recovered(bytes(log))


def test_nothing_passes_the_barrier_before_the_record_is_durable() -> None:
    queue = OutputQueue()
    first, second, third, timer = (StopTimer(name) for name in ("1", "2", "3", "timer"))
    queue.put(first)
    queue.append(b"a", barrier=True)
    queue.append(b"b", barrier=True)
    queue.put(second)
    queue.put_now(timer)
    assert queue.taken() == [first, Append(b"a"), Append(b"b"), Sync(1), timer]
    queue.put(third)  # of a later event
    assert queue.taken() == []
    queue.append(b"c", barrier=True)
    assert queue.taken() == [Append(b"c"), Sync(2)]
    queue.put(first)
    queue.durable(1)
    assert queue.taken() == [second, third]
    queue.durable(2)
    assert queue.taken() == [first]
