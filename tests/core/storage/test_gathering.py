"""When a group of writes waits for more of them."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.storage.gathering import BUSY_S, ENOUGH, GROUPS_WITHOUT, WAITS_MAX, Gathering


def waits(gathering: Gathering, callers: Sequence[int], work_s: float = 0.0) -> int:
    """How often a group waits, for which so many callers are there each time when it asks; the loop works so long meanwhile."""
    asked = enumerate(callers)
    return next((number for number, each in asked if not gathering.goes_on(each, number * work_s)), len(callers))


def test_a_lone_caller_never_waits() -> None:
    gathering = Gathering()
    assert all(waits(gathering, [1]) == 0 for _ in range(3 * GROUPS_WITHOUT))


def test_several_wait_as_long_as_others_come() -> None:
    assert waits(Gathering(), [2, 3, 3, 4]) == 2


def test_a_group_waits_a_few_times_at_most() -> None:
    gathering = Gathering()
    for _ in range(3):
        assert waits(gathering, range(2, 3 + WAITS_MAX)) == WAITS_MAX


def test_many_wait_for_nobody() -> None:
    assert waits(Gathering(), [ENOUGH, ENOUGH + 1]) == 0
    assert waits(Gathering(), [3, ENOUGH]) == 1


def test_where_waiting_brought_nothing_it_is_seldom_tried_again() -> None:
    gathering = Gathering()
    tried = [waits(gathering, [2, 2]) for _ in range(1 + GROUPS_WITHOUT + 1)]
    assert tried == [1, *[0] * GROUPS_WITHOUT, 1]


def test_while_the_loop_has_other_work_it_waits_for_what_that_brings() -> None:
    gathering = Gathering()
    assert waits(gathering, [2] * 10, BUSY_S) == WAITS_MAX
    assert waits(gathering, [2] * 10, BUSY_S) == WAITS_MAX, "it has not given up"
    assert waits(gathering, [1] * 10, BUSY_S) == 0
    assert waits(gathering, [2] * 10, BUSY_S / 2) == 1
