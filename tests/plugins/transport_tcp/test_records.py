"""Records are found whole in whatever pieces of a stream come, and few are handed on at a time."""

from __future__ import annotations

from fluvial_transport_tcp.records import BODY_BYTES_MAX, RecordQueue
from hypothesis import given
from hypothesis import strategies as st

MANY = 1_000_000


def record(size: int, kind: int = 23) -> bytes:
    return bytes([kind, 3, 3]) + size.to_bytes(2, "big") + bytes(size)


@given(st.lists(st.integers(0, 300), max_size=30), st.lists(st.integers(1, 400), max_size=60))
def test_any_pieces_give_whole_records_in_order(sizes: list[int], pieces: list[int]) -> None:
    sent = b"".join(map(record, sizes))
    queue, taken, count, at = RecordQueue(), b"", 0, 0
    for piece in [*pieces, MANY]:
        queue.feed(sent[at : at + piece])
        at += piece
        while (found := queue.take(3, 500))[1]:
            assert found[1] <= 3
            assert len(found[0]) <= 500
            taken, count = taken + bytes(found[0]), count + found[1]
    assert (taken, count) == (sent, len(sizes))


def test_a_record_is_handed_on_however_long_it_is() -> None:
    queue = RecordQueue()
    queue.feed(record(BODY_BYTES_MAX) + record(1))
    assert [len(queue.take(9, 500)[0]) for _ in range(3)] == [BODY_BYTES_MAX + 5, 6, 0]


def test_what_is_no_record_is_handed_on_at_once() -> None:
    for wrong in (b"GET / HTTP/1.1", record(BODY_BYTES_MAX + 1)[:9], b"\x16\x02\x00\xff\xff"):
        queue = RecordQueue()
        queue.feed(record(4) + wrong)
        found, count = queue.take(9, MANY)
        assert (bytes(found), count) == (record(4) + wrong, 2)


def test_the_beginning_of_a_record_does_not_keep_a_long_piece_in_memory() -> None:
    queue = RecordQueue()
    queue.feed(record(9_000) + record(9)[:6])
    queue.take(9, MANY)
    queue.take(9, MANY)
    assert isinstance(queue._data.obj, bytes)
    assert len(queue._data.obj) == 6
    queue.discard()
    assert queue.take(9, MANY)[1] == 0
