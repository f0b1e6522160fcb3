"""Containers with little in them: the shared empty mapping is read as any other and stays empty, and few members are a set as many are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fluvial.few import EMPTY, FEW, Members, added
from hypothesis import given
from hypothesis import strategies as st


def test_it_is_read_as_any_other() -> None:
    assert not EMPTY
    assert (len(EMPTY), list(EMPTY), EMPTY.get("x"), "x" in EMPTY, EMPTY.pop("x", 7)) == (0, [], None, False, 7)
    assert {**EMPTY} == EMPTY == {}
    EMPTY.clear()


@pytest.mark.parametrize(
    "put",
    [
        lambda: EMPTY.__setitem__("x", 1),
        lambda: EMPTY.setdefault("x", 1),
        lambda: EMPTY.update(x=1),
        lambda: EMPTY.__ior__({"x": 1}),
    ],
)
def test_who_puts_something_in_hears_of_it(put: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="makes one of its own"):
        put()
    assert EMPTY == {}


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=6))
def test_added_members_are_those_of_a_set(groups: list[list[int]]) -> None:
    members: Members[int] = ()
    for group in groups:
        members = added(members, group)
    expected = set().union(*groups)
    assert set(members) == expected
    assert len(members) == len(expected)
    assert isinstance(members, set) == (len(expected) > FEW)
