"""The memory of values, estimated before and after they are decoded."""

from __future__ import annotations

from sys import getsizeof
from typing import Any

import pytest
from fluvial.air.data.content import content_id
from fluvial.air.data.partial import Level, Mask, cut
from fluvial.air.data.weight import is_light, weight_of, weight_of_encoded, weight_within
from fluvial.encoding import encode
from hypothesis import given
from hypothesis import strategies as st

MOST = 2**40
ATOMS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(ATOMS, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside), max_leaves=40)


def truth(value: Any) -> int:
    """What a value takes as it comes out of a decoder, where small numbers, constants and the shortest texts are shared."""
    if isinstance(value, list):
        return getsizeof(value) + sum(map(truth, value))
    if isinstance(value, dict):
        return getsizeof(value) + sum(truth(key) + truth(one) for key, one in value.items())
    shared = value is None or isinstance(value, bool) or value == "" or (isinstance(value, int) and -5 <= value < 257)
    return 0 if shared else getsizeof(value)


@given(VALUES)
def test_an_estimate_is_never_much_below_the_truth(value: Any) -> None:
    assert weight_of(value) >= 0.6 * truth(value)
    assert weight_of_encoded(encode(value), MOST) >= 0.6 * truth(value)


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
