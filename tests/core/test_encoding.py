"""The canonical encoding: one byte string per value, and all else is refused."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
)
JSON = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=5)
    ),
    max_leaves=12,
)


class Pair(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    left: int
    right: Any


def pack(value: Any) -> bytes:
    """MessagePack by the book (msgpack specification, "Formats"), written independently: canonical in all that matters here."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int() if value >= 0:
            return _unsigned(value)
        case int():
            return _signed(value)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case str():
            data = value.encode()
            return _head(len(data), (0xA0, 32), {1: 0xD9, 2: 0xDA, 4: 0xDB}) + data
        case list():
            return _head(len(value), (0x90, 16), {2: 0xDC, 4: 0xDD}) + b"".join(map(pack, value))
        case _:
            pairs = sorted((key.encode(), pack(key) + pack(item)) for key, item in value.items())
            return _head(len(value), (0x80, 16), {2: 0xDE, 4: 0xDF}) + b"".join(pair for _, pair in pairs)


def _unsigned(value: int) -> bytes:
    if value < 128:
        return bytes([value])
    size = next(size for size in (1, 2, 4, 8) if value < 256**size)
    return bytes([{1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF}[size]]) + value.to_bytes(size, "big")


def _signed(value: int) -> bytes:
    if value >= -32:
        return value.to_bytes(1, "big", signed=True)
    size = next(size for size in (1, 2, 4, 8) if value >= -(256**size) // 2)
    return bytes([{1: 0xD0, 2: 0xD1, 4: 0xD2, 8: 0xD3}[size]]) + value.to_bytes(size, "big", signed=True)


def _head(length: int, short: tuple[int, int], long: dict[int, int]) -> bytes:
    if length < short[1]:
        return bytes([short[0] + length])
    size = next(size for size in long if length < 256**size)
    return bytes([long[size]]) + length.to_bytes(size, "big")


@settings(max_examples=150)
@given(JSON)
def test_encoding_is_the_book_s(value: Any) -> None:
    assert encode(value) == pack(value)


@given(JSON)
def test_values_come_back_unchanged_in_value_and_type(value: Any) -> None:
    again = decode(encode([1, value]), Pair, what="pair").right
    assert repr(again) == repr(value) or json.dumps(again, sort_keys=True) == json.dumps(value, sort_keys=True)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.integers(0, 9), min_size=2, max_size=6
    ),
    st.randoms(),
)
def test_order_of_keys_is_irrelevant(value: dict[str, int], random: Any) -> None:
    pairs = list(value.items())
    random.shuffle(pairs)
    assert encode(dict(pairs)) == encode(value)


@pytest.mark.parametrize(
    "right",
    [
        b"\xcc\x01",  # 1 in two bytes
        b"\xcd\x00\xff",
        b"\xce\x00\x00\xff\xff",
        b"\xcf" + bytes(7) + b"\x01",
        b"\xd0\x01",  # a positive number, signed
        b"\xd0\xff",  # -1 in two bytes
        b"\xd1\xff\x80",
        b"\xca\x3f\x80\x00\x00",  # 1.0 in 32 bit
        b"\xd9\x01a",  # a short text with a long head
        b"\xda\x00\x01a",
        b"\xdc\x00\x01\x01",  # a short array with a long head
        b"\xdd\x00\x00\x00\x01\x01",
        b"\xde\x00\x01\xa1a\x01",  # a short map with a long head
        b"\x82\xa1b\x01\xa1a\x02",  # keys not in order
        b"\x82\xa1a\x01\xa1a\x01",  # a key twice
        b"\x81\x01\x01",  # a key that is no text
        b"\x81\xc0\x01",
        b"\x81\x91\x01\x01",
        b"\x81\x81\xa1a\x01\x01",
    ],
    ids=bytes.hex,
)
def test_another_spelling_is_refused(right: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"this pair is not in the canonical encoding|this is no pair"):
        decode(b"\x92\x01" + right, Pair, what="pair")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92\x01",
        b"\x92\x01\x01\x00",
        b"\x93\x01\x01\x01",
        b"\x91\x01",
        b"\x92\xa1a\x01",
        b"\x92\x01\xa1\xff",
        b"\xc1",
        b"\x82\xa4left\x01\xa5right\x01",
    ],
    ids=bytes.hex,
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="this is no pair"):
        decode(data, Pair, what="pair")


def test_bottomless_nesting_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode(b"\x92\x01" + b"\x91" * 1_000_000 + b"\x01", Pair, what="pair")


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_random_bytes_are_canonical_or_refused(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert encode(decode(data, Pair, what="pair")) == data


@settings(max_examples=150)
@given(JSON, st.data())
def test_changed_bytes_are_canonical_or_refused(value: Any, data: st.DataObject) -> None:
    changed = bytearray(encode([1, value]))
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    with suppress(RemoteProtocolError):
        assert encode(decode(bytes(changed), Pair, what="pair")) == changed


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_beyond_64_bit_are_not_encoded(value: int) -> None:
    with pytest.raises(OverflowError):
        encode(value)


@pytest.mark.parametrize("value", [object(), {1: 2}, "\ud800"])
def test_what_is_no_json_is_not_encoded(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value)
