"""Who holds how much memory, and who gets no more of it."""

from __future__ import annotations

import pytest
from fluvial.errors import Refused
from fluvial.fairness import Payer, Upstream
from fluvial.particles.memory import ADMITTING, BEYOND_PART, LITTLE_PART, BySize, MemoryBudget
from hypothesis import given
from hypothesis import strategies as st

from tests.support.nodes import id_of


def of(name: str, by: str = "", branch: int = 0) -> Payer:
    """An initiator that brings its own particles, or whose particles another peer brings."""
    return Payer(Upstream(id_of(by or name), branch), id_of(name))


ME, HEAVY, LIGHT, TRUSTED = map(of, ("me", "heavy", "light", "trusted"))
LIMIT = 1_000_000


def budget(**weights: int) -> MemoryBudget:
    named = {id_of(name): weight for name, weight in weights.items()}
    return MemoryBudget(LIMIT, weight=lambda peer: named.get(peer, 0), me=id_of("me"))


def test_below_the_limit_everybody_gets_what_they_ask_for() -> None:
    one = budget()
    one.check(HEAVY, int(LIMIT * ADMITTING))
    assert one.heaviest() is None


def test_above_the_limit_who_holds_more_than_their_part_gets_nothing_more() -> None:
    one = budget()
    one.charge("a", HEAVY, LIMIT)
    with pytest.raises(Refused, match="try again") as refused:
        one.check(HEAVY, 1)
    assert refused.value.reason == "memory"
    one.check(LIGHT, LIMIT // 4)
    with pytest.raises(Refused):
        one.check(LIGHT, LIMIT)


def test_parts_go_by_weight() -> None:
    one = budget(trusted=3)
    one.charge("a", HEAVY, LIMIT)
    one.charge("b", TRUSTED, 1)
    assert (one.part(HEAVY), one.part(TRUSTED)) == (LIMIT // 5, LIMIT * 4 // 5)
    assert one.part(LIGHT) == LIMIT // 6


def test_this_peer_itself_is_never_refused() -> None:
    one = budget()
    one.charge("a", ME, 10 * LIMIT)
    one.check(ME, LIMIT)
    assert one.heaviest() is None


def test_what_is_under_way_has_the_rest_of_the_memory() -> None:
    one = budget()
    one.charge("a", HEAVY, int(LIMIT * 0.9))
    one.check_under_way(HEAVY)
    with pytest.raises(Refused):
        one.check(HEAVY, 1)


def test_before_anybody_is_refused_memory_is_asked_back() -> None:
    one = budget()
    one.charge("a", HEAVY, LIMIT)
    one.relieve = lambda: one.release("a")
    one.check(HEAVY, 1_000)
    assert one.total == 0


def test_whoever_asks_for_more_gives_back_first_what_they_can_have_again() -> None:
    one = budget()
    for number in range(10):
        one.charge(number, HEAVY, LIMIT // 10)
    idle = [3, 4]

    def give_back(payer: Payer) -> bool:
        assert payer == HEAVY
        if not idle:
            return False
        one.release(idle.pop())
        return True

    one.give_back = give_back
    one.check_under_way(LIGHT)
    with pytest.raises(Refused):
        one.check(HEAVY, LIMIT // 4)
    assert one.held(HEAVY) == LIMIT * 8 // 10
    idle += [5, 6, 7]
    one.check(HEAVY, LIMIT // 10)
    assert one.held(HEAVY) <= LIMIT * ADMITTING - LIMIT // 10
    assert idle, "no more than was needed"


def test_a_reservation_ends_with_its_block() -> None:
    one = budget()
    with one.reserved(HEAVY, 1_000) as reserved:
        reserved.grow(500)
        assert (one.total, one.held(HEAVY)) == (1_500, 1_500)
        with pytest.raises(Refused):
            reserved.grow(2 * LIMIT)
    assert (one.total, one.held(HEAVY)) == (0, 0)


def test_what_is_released_elsewhere_is_gone_with_the_next_look() -> None:
    one = budget()
    one.charge("a", HEAVY, 5)
    one.release_later("a")
    assert one.total == 0


def test_names_that_come_one_way_have_one_part() -> None:
    one = budget()
    for number in range(200):
        one.charge(number, of(f"name {number}", by="gate"), LIMIT // 200)
    with pytest.raises(Refused, match="of what"):
        one.check(of("one more", by="gate"), LIMIT // 200)
    one.check(of("honest"), LIMIT // 4)
    one.charge("honest", of("honest"), LIMIT // 4)
    one.check(of("honest"), LIMIT // 8)
    heaviest = one.heaviest()
    assert heaviest is not None
    assert heaviest.upstream.sender == id_of("gate")


def test_whoever_is_greedy_behind_a_gate_leaves_the_others_that_come_by_it_their_part() -> None:
    one = budget()
    for number in range(100):
        one.charge(number, of(f"name {number}", by="gate", branch=1), LIMIT // 100)
    one.charge("there", of("modest", by="gate"), 1_000)
    one.check(of("modest", by="gate"), LIMIT // 8)
    one.check(of("other", by="gate", branch=2), LIMIT // 8)
    with pytest.raises(Refused):
        one.check(of("name 7", by="gate", branch=1), LIMIT // 100)
    payers = one.above(0.7)
    assert payers
    assert {payer.upstream.branch for payer in payers} == {1}


def test_a_branch_with_little_is_let_in_though_its_part_is_less_than_that() -> None:
    """As it is where hundreds of branches of hundreds of peers hold something; and not without end."""
    one, little = budget(), LIMIT // LITTLE_PART
    for number in range(50):
        one.charge(("direct", number), of(f"direct {number}"), LIMIT // 100)
        one.charge(("behind", number), of("name", by="gate", branch=number), LIMIT // 100)
    modest = of("modest", by="gate", branch=1_000)
    assert one.part(modest) < little
    one.check(modest, little)
    with pytest.raises(Refused):
        one.check(modest, 2 * little)
    one.charge("more", of("direct 1"), LIMIT // BEYOND_PART)
    with pytest.raises(Refused):
        one.check(modest, little)


def test_an_initiator_for_whom_somebody_vouches_has_a_part_of_its_own_whoever_brings_it() -> None:
    one = budget(trusted=1)
    for number in range(100):
        one.charge(number, of(f"name {number}", by="gate"), LIMIT // 100)
    assert one.payer(id_of("trusted"), Upstream(id_of("gate"))) == TRUSTED
    assert one.payer(id_of("stranger"), Upstream(id_of("gate"), 3)) == of("stranger", by="gate", branch=3)
    one.check(one.payer(id_of("trusted"), Upstream(id_of("gate"))), LIMIT // 3)


entries = st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abcde"), st.integers(0, LIMIT)), max_size=60)


@given(entries, st.sets(st.integers(0, 20)))
def test_sums_hold_and_somebody_heavy_is_found_when_there_is_too_much(
    charges: list[tuple[int, str, int]], gone: set[int]
) -> None:
    one, left = budget(a=4, b=1), {}
    for number, name, size in charges:
        key = (name, number)
        one.charge(key, of(name), size)
        left[key] = size
    for key in [key for key in left if key[1] in gone]:
        one.release(key)
        del left[key]
    assert one.total == sum(left.values())
    for name in "abcde":
        assert one.held(of(name)) == sum(size for key, size in left.items() if key[0] == name)
    heaviest = one.heaviest()
    if one.over:
        assert heaviest is not None
        assert one.held(heaviest) > one.part(heaviest)


@given(st.dictionaries(st.integers(), st.integers(0, 2**40), min_size=1))
def test_the_largest_is_found_within_a_factor_of_two(sizes: dict[int, int]) -> None:
    sorted_ones: BySize[int] = BySize()
    for item in sizes:
        sorted_ones.put(item, 1)
    for item, size in sizes.items():
        sorted_ones.put(item, size)
    while sizes:
        item = sorted_ones.largest()
        assert item is not None
        assert 2 * sizes[item] >= max(sizes.values())
        sorted_ones.remove(item)
        del sizes[item]
    assert sorted_ones.largest() is None
    assert len(sorted_ones) == 0
