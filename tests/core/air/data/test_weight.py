"""The memory of values, estimated before and after they are decoded."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from sys import getsizeof
from typing import Any

import pytest
from fluvial.air.data.content import content_id
from fluvial.air.data.partial import Level, Mask, Partial, cut
from fluvial.air.data.weight import _scan, is_light, weight_of, weight_of_encoded, weight_within
from fluvial.encoding import encode
from hypothesis import given
from hypothesis import strategies as st
from msgspec.msgpack import decode

from tests.support.tracing import taken

MOST = 2**40
INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.integers(-40, 300)
TEXTS = st.text() | st.text("abc\u00e9\u6f22\U0001f600", max_size=60)
ATOMS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(ATOMS, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside), max_leaves=40)


def truth(value: Any) -> int:
    """What a value takes that comes out of a decoder, where small numbers, constants and the shortest texts are shared."""
    if isinstance(value, list):
        return getsizeof(value) + sum(map(truth, value))
    if isinstance(value, dict):
        return getsizeof(value) + sum(truth(key) + truth(one) for key, one in value.items())
    shared = value is None or isinstance(value, bool) or value == "" or (isinstance(value, int) and -5 <= value < 257)
    return 0 if shared else getsizeof(value)


@given(VALUES)
def test_an_estimate_is_never_much_below_the_truth(value: Any) -> None:
    data = encode(value)
    decoded = decode(data)
    assert weight_of(decoded) >= 0.75 * truth(decoded)
    assert weight_of_encoded(data, MOST) >= 0.75 * truth(decoded)
    assert _scan(data, MOST) >= 0.75 * truth(decoded)


NUMBERS = range(1_000, 2_000)
SHAPES: Mapping[str, Any] = {
    "small numbers": [number % 128 for number in NUMBERS],
    "small numbers below zero": [-(number % 27) - 6 for number in NUMBERS],
    "bytes": [number % 256 for number in NUMBERS],
    "numbers": list(NUMBERS),
    "large numbers": [2**62 + number for number in NUMBERS],
    "largest numbers": [2**64 - number for number in NUMBERS],
    "fractions": [number / 7 for number in NUMBERS],
    "constants": [True, False, None] * 300,
    "texts": [f"a{number}" for number in NUMBERS],
    "letters": [chr(97 + number % 26) for number in NUMBERS],
    "texts of wide characters": [f"\u6f22{number}" for number in NUMBERS],
    "texts of wider characters": [f"\U0001f600{number}" for number in NUMBERS],
    "accents": [f"\u00e9{number}" for number in NUMBERS],
    "long texts with one wide character": [f"{'a' * 1_000}\u6f22{number}" for number in range(50)],
    "long texts with one wider character": [f"{'a' * 1_000}\U0001f600{number}" for number in range(50)],
    "one long text with one wider character": "a" * 50_000 + "\U0001f600",
    "empty arrays": [[] for _ in NUMBERS],
    "empty objects": [{} for _ in NUMBERS],
    "short arrays": [[1, 2] for _ in NUMBERS],
    "arrays": [[number] * 17 for number in NUMBERS],
    "short objects": [{"a": 1} for _ in NUMBERS],
    "objects": [dict.fromkeys("abcdef", 1) for _ in NUMBERS],
    "objects of different fields": [{f"k{number}": number} for number in NUMBERS],
    "objects of wide fields": [{f"\U0001f600{number}": number} for number in NUMBERS],
    "one object": {f"k{number}": number for number in NUMBERS},
    "one object that has just grown": {f"k{number}": 1 for number in range(5_462)},
    "deep arrays": [functools.reduce(lambda inside, _: [inside], range(60), number) for number in range(30)],
    "deep objects": [functools.reduce(lambda inside, _: {"a": inside}, range(60), number) for number in range(30)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_a_decoder_takes_is_estimated(name: str) -> None:
    data = encode(SHAPES[name])
    decode(data)
    value, real = taken(lambda: decode(data))
    assert weight_of(value) >= 0.75 * real
    assert weight_within((value,), MOST) >= 0.75 * real
    assert weight_of_encoded(data, MOST) >= 0.75 * real
    assert _scan(data, MOST) >= 0.75 * real


def test_names_of_fields_count_in_a_part() -> None:
    value = {f"{number}{'k' * 10_000}": number for number in range(100)}
    mask = Mask()
    for key in list(value)[:50]:
        mask.add((key,), Level.WHOLE)
    part = cut(value, mask)
    assert isinstance(part, Partial)
    assert weight_of(part) > 50 * 10_000


LARGE = {
    "arrays": [[] for _ in range(50_000)],
    "objects": [{"a": 1} for _ in range(20_000)],
    "texts": [f"text {number}" for number in range(50_000)],
    "numbers": list(range(100_000)),
    "fractions": [number / 7 for number in range(100_000)],
    "one object": {f"key {number}": number for number in range(50_000)},
    "deep": [[[[[[number]]]]] for number in range(20_000)],
}


@pytest.mark.parametrize("name", LARGE)
def test_large_values_are_estimated_well(name: str) -> None:
    value = LARGE[name]
    assert 0.8 * truth(value) <= weight_of(value) <= 2 * truth(value)
    data = encode(value)
    assert 0.5 * truth(value) <= weight_of_encoded(data, 10 * truth(value) // 10) <= 3 * truth(value)


def test_a_long_text_is_not_taken_for_what_it_looks_like() -> None:
    text = "漢字、かな" * 100_000
    assert weight_of(text) == getsizeof(text)
    assert weight_of_encoded(encode(text), 4_000_000) < 4_000_000


def test_a_part_of_a_value_takes_less() -> None:
    value = {f"k{number}": f"text {number}" * 10 for number in range(1_000)}
    mask = Mask()
    mask.add(("k7",), Level.WHOLE)
    part = cut(value, mask)
    assert content_id(value) == part.id
    assert 160 < weight_of(part) < weight_of(value) / 10


def test_counting_ends_when_it_is_too_much() -> None:
    assert weight_of_encoded(b"\xdd\x7f\xff\xff\xff" + b"\x90" * 1_000_000, 1_000) > 1_000


@given(st.binary(max_size=2_000), st.integers(0, 5_000))
def test_damaged_bytes_are_weighed_too(data: bytes, most: int) -> None:
    assert weight_of_encoded(data, most) >= 0


def test_a_value_that_is_repeated_counts_each_time_and_is_not_gone_through_to_the_end() -> None:
    deep: Any = "x"
    for _ in range(60):
        deep = [deep, deep]  # 2**60 texts
    assert weight_within([deep], 10_000) > 10_000
    assert not is_light([deep])
    assert is_light([1, "x", None, [[]], {"a": [1.5]}])
    assert weight_within(["y" * 1_000] * 50, 10_000) > 10_000
