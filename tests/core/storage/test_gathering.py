"""When a group of writes waits for more of them."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.storage.gathering import BUSY, ENOUGH, GATHER_S, GROUPS_WITHOUT, LOOK_S, WAITS_MAX, Gathering


class Loop:
    """What a writer's loop does: it works for a share of the time."""

    def __init__(self, works: float = 0.0) -> None:
        self.gathering = Gathering()
        self.works = works
        self._now_s = self._spent_s = 0.0

    def go_on(self, seconds: float) -> None:
        self._now_s += seconds
        self._spent_s += seconds * self.works

    def waits(self, callers: Sequence[int]) -> int:
        """How often a group waits, for which so many callers are there each time when it asks."""
        for number, each in enumerate(callers):
            if not self.gathering.goes_on(each, self._now_s, self._spent_s):
                return number
            self.go_on(GATHER_S)
        return len(callers)


def waits(loop: Loop, callers: Sequence[int]) -> int:
    loop.go_on(LOOK_S)
    return loop.waits(callers)


def test_a_lone_caller_never_waits() -> None:
    loop = Loop()
    assert all(waits(loop, [1]) == 0 for _ in range(3 * GROUPS_WITHOUT))


def test_several_wait_as_long_as_others_come() -> None:
    assert waits(Loop(), [2, 3, 3, 4]) == 2


def test_a_group_waits_a_few_times_at_most() -> None:
    loop = Loop()
    for _ in range(3):
        assert waits(loop, range(2, 3 + WAITS_MAX)) == WAITS_MAX


def test_many_wait_for_nobody() -> None:
    assert waits(Loop(), [ENOUGH, ENOUGH + 1]) == 0
    assert waits(Loop(), [3, ENOUGH]) == 1


def test_where_waiting_brought_nothing_it_is_seldom_tried_again() -> None:
    loop = Loop()
    tried = [waits(loop, [2, 2]) for _ in range(1 + GROUPS_WITHOUT + 1)]
    assert tried == [1, *[0] * GROUPS_WITHOUT, 1]


def test_while_the_loop_is_busy_it_waits_for_what_that_brings() -> None:
    loop = Loop(works=(1 + BUSY) / 2)
    assert waits(loop, [1] * 10) == WAITS_MAX
    assert waits(loop, [2] * 10) == WAITS_MAX
    loop.works = BUSY / 2
    assert waits(loop, [1] * 10) == 0
    assert waits(loop, [2] * 10) == 1
