"""Who fetches which block."""

from __future__ import annotations

from fluvial.blobs.schedule import STEAL_AFTER_S, Schedule
from hypothesis import given
from hypothesis import strategies as st


def test_each_block_goes_to_one_source_until_it_takes_too_long() -> None:
    plan: Schedule[str] = Schedule([7, 8])
    assert (plan.take("a", now_s=0), plan.take("b", now_s=1), plan.take("c", now_s=1)) == (7, 8, None)
    assert plan.take("c", now_s=STEAL_AFTER_S) == 7
    assert plan.take("a", now_s=STEAL_AFTER_S) is None  # it has the one, and the other one is young
    assert plan.take("a", now_s=1 + STEAL_AFTER_S) == 8
    assert plan.take("d", now_s=1 + STEAL_AFTER_S) is None
    assert plan.take("d", now_s=3 * STEAL_AFTER_S) == 7  # a third one only after twice the time


def test_what_comes_twice_counts_once() -> None:
    plan: Schedule[str] = Schedule([7])
    plan.take("a", now_s=0)
    plan.take("b", now_s=STEAL_AFTER_S)
    assert plan.done(7)
    assert not plan.done(7)
    plan.give_back(7, "a")
    assert plan.is_done


def test_what_is_given_back_is_the_next_to_be_taken() -> None:
    plan: Schedule[str] = Schedule([7, 8])
    plan.take("a", now_s=0)
    plan.give_back(7, "a")
    assert plan.take("b", now_s=0) == 7
    plan.give_back(7, "a")  # it does not have it any more
    assert plan.is_taken(7)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.floats(0, 10)), max_size=200), st.integers(0, 8))
def test_no_block_is_lost_whatever_the_sources_do(steps: list[tuple[str, bool, float]], blocks: int) -> None:
    plan: Schedule[str] = Schedule(range(blocks))
    came: set[int] = set()
    now_s = 0.0
    for source, right, passes_s in steps:
        now_s += passes_s
        number = plan.take(source, now_s=now_s)
        if number is not None and right:
            assert plan.done(number)
            assert number not in came
            came.add(number)
        elif number is not None:
            plan.give_back(number, source)
    assert plan.left == blocks - len(came)
    while (number := plan.take("honest", now_s=now_s)) is not None:
        assert plan.done(number)
    assert plan.is_done
