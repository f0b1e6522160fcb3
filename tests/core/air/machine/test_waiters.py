"""Who waits for a name that several instructions set is found by position."""

from __future__ import annotations

from typing import Any, cast

from fluvial.air.machine.activations import Activation
from fluvial.air.machine.positions import Key
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.waiters import Waiters
from hypothesis import given
from hypothesis import strategies as st


class Waiting:
    """As much of an activation as is looked at; counts how often."""

    looked_at = 0

    def __init__(self, scope: Scope, key: Key) -> None:
        self.scope = scope
        self._key = key

    @property
    def key(self) -> Key:
        Waiting.looked_at += 1
        return self._key


def waiting(scope: Scope, *numbers: int) -> tuple[Waiters, list[Any]]:
    waiters = Waiters()
    made = [Waiting(scope, (number,)) for number in numbers]
    for one in made:
        waiters.await_name(cast(Activation, one), "x")
    return waiters, made


@given(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(0, 9), max_size=4))
def test_those_behind_a_setter_are_woken_and_those_before_it_wait_on(readers: list[int], setters: list[int]) -> None:
    scope = Scope()
    waiters, left = waiting(scope, *readers)
    for setter in setters:
        woken = waiters.named_after(scope, "x", (setter,))
        assert set(woken) == {one for one in left if one.key > (setter,)}
        left = [one for one in left if one.key < (setter,)]
    assert set(waiters.named(scope, "x")) == set(left)
    assert (scope, "x") not in waiters.names


def test_setters_do_not_look_at_all_who_wait() -> None:
    scope = Scope()
    waiters, made = waiting(scope, *range(4_096))
    Waiting.looked_at = 0
    for setter in reversed(range(3_000, 4_000, 10)):
        waiters.named_after(scope, "x", (setter,))
    assert Waiting.looked_at <= 100 * 30
    assert list(waiters.named(scope, "x")) == made[:3_000]
