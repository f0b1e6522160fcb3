"""Equality of values, as ``match`` has it."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.data.pace import finished
from fluvial.air.machine import equality
from fluvial.air.machine.equality import comparing, same_json
from fluvial.encoding import encode
from hypothesis import given
from hypothesis import strategies as st

LIKE_ZERO = "\u02c0" + "\0" * 7
"""Its bytes are those of the float -0.0."""

ATOMS = st.sampled_from([None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, "", "1", "a", 2**63, float(2**63), LIKE_ZERO, {}])
JSON = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


def plainly(left: Any, right: Any) -> bool:
    """Item by item."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(plainly, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(plainly(left[key], right[key]) for key in left)
    return bool(left == right)


@given(JSON, JSON)
def test_values_are_the_same_if_all_their_items_are(left: Any, right: Any) -> None:
    assert same_json(left, right) is plainly(left, right)
    assert same_json(left, left)
    assert finished(comparing(left, right)) is plainly(left, right)
    assert finished(comparing([left] * 600, [right] * 600)) is plainly(left, right)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ([0.0], [-0.0], True),
        ([1], [1.0], False),
        ([True], [1], False),
        ([[{"a": 1, "b": 2}]], [[{"b": 2, "a": 1}]], True),
        ([LIKE_ZERO, 0.0], [LIKE_ZERO, -0.0], True),
        ([LIKE_ZERO, 0], [LIKE_ZERO, -0.0], False),
        (["\u02c0", 0, 0, 0, 0, 0, 0, 0], ["\u02c0", 0, 0, 0, 0, 0, 0, 0.0], False),
        ([[{"a": 0.0, "b": 1}]], [[{"b": True, "a": -0.0}]], False),
    ],
)
def test_numbers_of_other_kinds_are_others(left: Any, right: Any, same: bool) -> None:
    assert same_json(left, right) is same
    assert finished(comparing(left, right)) is same


def test_large_values_are_compared_without_a_step_for_each_item(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings = 0

    def counted(value: Any) -> bytes:
        nonlocal encodings
        encodings += 1
        return encode(value)

    monkeypatch.setattr(equality, "encode", counted)
    ones = [[1] * 500 for _ in range(100)]
    assert not same_json(ones, [*ones[1:], [1] * 499 + [1.0]])
    assert encodings == 2
