"""Equality of values, as ``match`` has it."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.machine.values import same_json
from hypothesis import given
from hypothesis import strategies as st

ATOMS = st.sampled_from([None, False, True, 0, 1, -1, 0.0, -0.0, 1.0, "", "1", "a", 2**63])
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


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ([0.0], [-0.0], True),
        ([1], [1.0], False),
        ([True], [1], False),
        ([[{"a": 1, "b": 2}]], [[{"b": 2, "a": 1}]], True),
        ([[{"a": 0.0, "b": 1}]], [[{"b": True, "a": -0.0}]], False),
    ],
)
def test_numbers_of_other_kinds_are_others(left: Any, right: Any, same: bool) -> None:
    assert same_json(left, right) is same
