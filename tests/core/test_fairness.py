"""Fair queueing: turns are shared by owner, whatever each of them asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from random import Random

import pytest
from fluvial.fairness import Branches, FairQueue, GroupedFairQueue, Payer, PushOut, SharedPlaces, Upstream, share_of
from fluvial.identity import PeerId
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import id_of

GREEDY, MODEST, THIRD = map(id_of, ("greedy", "modest", "third"))


def test_who_comes_behind_a_long_line_of_another_one_is_served_next() -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    for number in range(1_000):
        queue.push(GREEDY, number)
    assert [queue.pop() for _ in range(10)] == [(GREEDY, number) for number in range(10)]
    queue.push(MODEST, 0)
    assert (MODEST, 0) in [queue.pop(), queue.pop()]


class Named:
    """Counts how often one of its kind is looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        Named.looked_up += 1
        return id(self)


def test_a_turn_costs_the_same_however_many_have_had_theirs() -> None:
    queue: FairQueue[Named, None] = FairQueue()
    owners = [Named() for _ in range(4_000)]
    for owner in owners:
        queue.push(owner, None)
    Named.looked_up = 0
    while queue:
        queue.pop()
    assert Named.looked_up < 40 * len(owners)


def test_each_doubling_of_a_weight_gives_one_part_more() -> None:
    assert [share_of(weight) for weight in (0, 1, 2, 3, 4, 65_536)] == [1, 2, 3, 3, 4, 18]
    queue: FairQueue[PeerId, int] = FairQueue(lambda peer: 2 if peer == MODEST else 0)
    for number in range(400):
        queue.push(GREEDY, number)
        queue.push(MODEST, number)
    served = Counter(queue.pop()[0] for _ in range(400))
    assert served == {MODEST: 300, GREEDY: 100}
    heavy: FairQueue[PeerId, int] = FairQueue(lambda peer: 65_536 if peer == GREEDY else 0)
    for number in range(40):
        heavy.push(GREEDY, number)
    heavy.push(MODEST, 0)
    heavy.push(MODEST, 1)
    assert [heavy.pop()[0] for _ in range(20)].count(MODEST) == 2, "a stranger does not wait for ever"


def test_going_away_and_coming_again_brings_no_advantage() -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    for number in range(100):
        queue.push(MODEST, number)
    queue.push(GREEDY, 0)
    served: Counter[str] = Counter()
    for _ in range(100):
        owner, _ = queue.pop()
        served[owner] += 1
        if owner == GREEDY:
            queue.push(GREEDY, 0)
    assert abs(served[GREEDY] - served[MODEST]) <= 1


def test_what_is_not_done_yet_can_stay_before_the_owners_others() -> None:
    queue: FairQueue[PeerId, str] = FairQueue()
    queue.push(GREEDY, "one")
    queue.push(GREEDY, "two")
    queue.push(MODEST, "three")
    owner, item = queue.pop()
    queue.push(owner, item, first=True)
    assert [queue.pop() for _ in range(3)] == [(MODEST, "three"), (GREEDY, "one"), (GREEDY, "two")]


def test_what_is_not_wanted_any_more_leaves_the_line() -> None:
    queue: FairQueue[PeerId, str] = FairQueue()
    for item in ("one", "two"):
        queue.push(GREEDY, item)
    queue.push(MODEST, "three")
    assert (queue.remove(GREEDY, "one"), queue.remove(GREEDY, "one"), queue.remove(THIRD, "one")) == (
        True,
        False,
        False,
    )
    assert queue.remove(MODEST, "three")
    assert (len(queue), queue.waiting(GREEDY), queue.waiting(MODEST)) == (1, 1, 0)
    assert queue.pop() == (GREEDY, "two")
    with pytest.raises(IndexError):
        queue.pop()


@given(st.lists(st.sampled_from([GREEDY, MODEST, THIRD, None]), max_size=200))
def test_nothing_is_lost_and_each_line_keeps_its_order(moves: list[str | None]) -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    put: dict[str, list[int]] = {}
    got: dict[str, list[int]] = {}
    for number, owner in enumerate(moves):
        if owner is not None:
            queue.push(owner, number)  # type: ignore[arg-type]
            put.setdefault(owner, []).append(number)
        elif queue:
            whose, item = queue.pop()
            got.setdefault(whose, []).append(item)
    while queue:
        whose, item = queue.pop()
        got.setdefault(whose, []).append(item)
    assert got == put


@given(st.lists(st.sampled_from(["push", "pop", "pop of", "take", "remove", "withdraw"]), max_size=100), st.randoms())
def test_out_of_turn_each_item_is_taken_once(moves: list[str], rng: Random) -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    there: dict[PeerId, list[int]] = {}
    for number, move in enumerate(moves):
        owner = rng.choice([*there] or [GREEDY])
        if move == "push" or not there:
            owner = rng.choice([GREEDY, MODEST, THIRD])
            queue.push(owner, number)
            there.setdefault(owner, []).append(number)
            continue
        item = there[owner][0]
        if move == "withdraw":
            line = queue.withdraw(owner)
            assert queue.waiting(owner) == 0
            assert len(queue) == sum(map(len, there.values())) - len(line)
            queue.come_back(owner, line)
            continue
        if move == "pop":
            owner, item = queue.pop()
        elif move == "pop of":
            assert queue.pop_of(owner) == item
        else:
            item = rng.choice(there[owner])
            assert queue.remove(owner, item) if move == "remove" else queue.take(owner, item) is None
        there[owner].remove(item)
        if not there[owner]:
            del there[owner]
        assert {one: queue.waiting(one) for one in there} == {one: len(items) for one, items in there.items()}
    assert len(queue) == sum(map(len, there.values()))
    assert sorted(queue.pop() for _ in range(len(queue))) == sorted((one, item) for one in there for item in there[one])


def test_who_was_served_out_of_turn_waits_for_its_next_turn() -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    for number in range(3):
        queue.push(GREEDY, number)
        queue.push(MODEST, number)
    assert queue.pop_of(GREEDY) == 0
    queue.take(GREEDY, 2)
    assert [queue.pop() for _ in range(4)] == [(MODEST, 0), (MODEST, 1), (GREEDY, 1), (MODEST, 2)]


def test_between_two_turns_of_one_owner_every_other_one_in_line_has_a_turn() -> None:
    queue: FairQueue[PeerId, int] = FairQueue()
    for owner in (GREEDY, MODEST, THIRD):
        for number in range(50):
            queue.push(owner, number)
    order = [owner for owner, _ in islice(iter(queue.pop, None), 150)]
    assert all(set(order[at : at + 3]) == {GREEDY, MODEST, THIRD} for at in range(0, 150, 3))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=200), st.integers(1, 60), st.integers(1, 30))
def test_places_are_neither_lost_nor_invented(steps: list[tuple[bool, int]], total: int, each: int) -> None:
    places: SharedPlaces[int] = SharedPlaces(total, each)
    has: Counter[int] = Counter()
    for takes, who in steps:
        if takes:
            was_free = has.total() < total
            took = places.take(who)
            assert took or has[who] or not was_free, "who has none takes any that is free"
            has[who] += took
        elif has[who]:
            places.give(who)
            has[who] -= 1
        assert places.taken == has.total() <= total
        assert places.has(who) == has[who] <= each


def test_who_is_alone_has_many_places_and_greedy_ones_leave_some() -> None:
    alone: SharedPlaces[str] = SharedPlaces(1_024, 256)
    while alone.take("alone"):
        pass
    assert alone.taken > 100
    places: SharedPlaces[str] = SharedPlaces(1_024, 256)
    for greedy in map(str, range(100)):
        while places.take(greedy):
            pass
    assert places.take("newcomer")


def test_a_branch_is_the_same_for_all_of_one_source_and_tells_nothing_to_who_lacks_the_key() -> None:
    branches = Branches(bytes(16))
    assert branches.of(GREEDY) == branches.of(GREEDY) != branches.of(MODEST)
    assert branches.of(GREEDY) != Branches(b"x" * 16).of(GREEDY)


steps = st.lists(
    st.tuples(
        st.sampled_from(("push", "pop", "remove")),
        st.integers(0, 2),
        st.integers(0, 1),
        st.integers(0, 2),
    ),
    max_size=60,
)


@given(steps)
def test_what_is_grouped_comes_out_once_whatever_is_taken_out_of_line(steps: list[tuple[str, int, int, int]]) -> None:
    queue: GroupedFairQueue[int] = GroupedFairQueue()
    there: dict[int, tuple[Upstream, PeerId]] = {}
    for number, (step, sender, branch, owner) in enumerate(steps):
        way, name = Upstream(id_of(f"sender {sender}"), branch), id_of(f"owner {owner}")
        if step == "push":
            queue.push(way, name, number)
            there[number] = way, name
        elif step == "pop" and there:
            del there[queue.pop()]
        elif step == "remove":
            item = next((one for one, (by, of) in there.items() if (by, of) == (way, name)), -1)
            assert queue.remove(way, name, item) is (item in there)
            there.pop(item, None)
        assert len(queue) == len(there)
    assert sorted(queue.pop() for _ in range(len(queue))) == sorted(there)


def test_hundreds_of_names_behind_one_peer_leave_the_next_one_every_second_turn() -> None:
    queue: GroupedFairQueue[str] = GroupedFairQueue()
    for number in range(300):
        queue.push(Upstream(GREEDY), id_of(f"name {number}"), "greedy")
    for _ in range(10):
        queue.push(Upstream(MODEST), MODEST, "modest")
    assert [queue.pop() for _ in range(21)].count("modest") == 10


LEVELS: Sequence[Callable[[Payer], Hashable]] = (
    lambda one: one.upstream.sender,
    lambda one: one.upstream,
    lambda one: one.initiator,
)


@settings(max_examples=40)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), max_size=60),
    most=st.integers(1, 8),
)
def test_beyond_what_is_held_the_oldest_gives_way_of_whoever_has_most(
    steps: list[tuple[bool, int, int, int]], most: int
) -> None:
    peers = GREEDY, MODEST, THIRD
    table: PushOut[int] = PushOut(most)
    held: dict[int, Payer] = {}
    for number, (comes, sender, branch, name) in enumerate(steps):
        if not comes and held:
            gone = list(held)[sender % len(held)]
            table.remove(gone)
            table.remove(gone)
            del held[gone]
            continue
        held[number] = payer = Payer(Upstream(peers[sender], branch), peers[name])
        gives_way = table.put(number, payer)
        assert (gives_way is not None) == (len(held) > most)
        if gives_way is not None:
            crowd = list(held.values())
            for level in LEVELS:
                share = Counter(map(level, crowd))
                assert share[level(held[gives_way])] == max(share.values())
                crowd = [one for one in crowd if level(one) == level(held[gives_way])]
            assert gives_way == next(one for one, payer in held.items() if payer == held[gives_way])
            del held[gives_way]
        assert len(table) == len(held)
