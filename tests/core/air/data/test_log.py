"""Log records come back from the bytes that are stored."""

from __future__ import annotations

from contextlib import suppress

import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import CallFailure, CanonFact, Result, Sent, Step, Taken
from fluvial.air.data.log import Merged, Record, Sealed, Stepped, decode_record, encode_record
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair
from hypothesis import given
from hypothesis import strategies as st

KEYS = KeyPair.from_secret(b"log".ljust(32, b"."))
FACTS = (
    Result(b"", 0, "s", "f", (), content_id([1])),
    CallFailure(b"F" * 16, 1, "s", "f", (), -5, '"no"'),
    CanonFact(b"", 2, ()),
    Sent(b"", 3, False),
    Taken(b"", 4),
)
BATCH = Batch.seal(b"P" * 32, KEYS.peer_id, [Step(), *FACTS], KEYS.sign).signed


@pytest.mark.parametrize(
    "record",
    [
        Merged((BATCH, BATCH), ([1], {"k": None})),
        Merged((), ()),
        Stepped(FACTS, ([1],)),
        Stepped((), (), evaluated=False),
        Sealed(BATCH),
    ],
    ids=lambda record: type(record).__name__,
)
def test_record_comes_back(record: Record) -> None:
    again = decode_record(encode_record(record))
    assert again == record
    assert type(again) is type(record)


@pytest.mark.parametrize(
    "data", [b"", b"\x91\xa5other", b"\x92\xa6sealed\xc0", encode_record(Stepped((), ())) + b"\x00"]
)
def test_damage_is_found(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="log record"):
        decode_record(data)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_altered_bytes_never_read_as_the_same_record(place: int, change: int) -> None:
    record = Merged((BATCH,), ([1],))
    data = bytearray(encode_record(record))
    data[place % len(data)] ^= change
    with suppress(RemoteProtocolError):
        assert decode_record(bytes(data)) != record
