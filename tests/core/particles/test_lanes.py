"""A lane: who has the next turn at a peer, and who waits for what."""

from __future__ import annotations

import random
import sys
from hashlib import sha256

import msgspec
import pytest
from fluvial.fairness import Upstream, equal
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery.lane import (
    CROWD_ROWS_MIN,
    DEAD_MAX,
    PAUSE_S_FIRST,
    PAUSE_S_REFUSED_MAX,
    SCAN_S,
    DeliveryLane,
)
from fluvial.particles.delivery.places import ANSWER_S, SLOW_FOR_S, SparePlaces
from fluvial.particles.delivery.round import HELD_S, DeliveryRound
from fluvial.stored import OutboxRow

from tests.support.nodes import id_of

THERE, ALICE, BOB = id_of("there"), id_of("alice"), id_of("bob")
LONG_AFTER = 2 * PAUSE_S_REFUSED_MAX


def row_of(name: str, version: int = 1) -> OutboxRow:
    key = ParticleKey(sha256(name.encode()).digest())
    return OutboxRow(
        key=key,
        peer=THERE,
        version=version,
        since_ms=0,
        attempts=0,
        last_error="",
        deadline_ms=10**15,
        initiator=ALICE,
        sender=ALICE,
    )


def lane_with(**rows: PeerId) -> DeliveryLane:
    """Rows by name, with their initiators; it has begun."""
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    for name, owner in rows.items():
        lane.put(row_of(name), owner, Upstream(owner))
    lane.begin(0, 0.0)
    return lane


def turns(lane: DeliveryLane, now_s: float) -> set[str]:
    """The names of all rows that have a turn now."""
    names = {row_of(name).key: name for name in ("a1", "a2", "a3", "b1", "b2")}
    found = set()
    while (row := lane.turn(now_s)) is not None:
        found.add(names[row.key])
        lane.tried(row, done=False)
    return found


def test_who_has_no_room_there_waits_with_all_rows_and_others_do_not() -> None:
    lane, rng = lane_with(a1=ALICE, a2=ALICE, b1=BOB), random.Random(1)
    lane.put_off_all(row_of("a1"), 0.0, rng)
    assert turns(lane, 0.0) == {"b1"}
    assert lane.is_put_off(row_of("a2"), 0.0)
    lane.took()
    assert lane.due_s == 0.0
    lane.begin(0, LONG_AFTER)
    assert turns(lane, LONG_AFTER) == {"a1", "a2", "b1"}


def test_what_others_have_waiting_there_is_not_looked_at_for_each_that_comes() -> None:
    lane, rng, many = lane_with(b1=BOB), random.Random(1), [row_of(f"a{number}") for number in range(1_000)]
    for row in many:
        lane.put(row, ALICE, Upstream(ALICE))
    for _ in range(2):
        turn = lane.turn(0.0)
        assert turn is not None
        if lane.initiator_of(turn) == ALICE:
            lane.put_off_all(turn, 0.0, rng, retry_s=60.0)
        lane.tried(turn, done=lane.initiator_of(turn) == BOB)
    while lane.has_turns(0.0):
        lane.begin(0, 0.0)
        assert lane.turn(0.0) is None
    lane.took()
    assert lane.due_s > 30
    lane.put(row_of("b2"), BOB, Upstream(BOB))
    calls = 0

    def count(frame: object, event: str, what: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        assert lane.has_turns(0.0)
        lane.begin(0, 0.0)
        turn = lane.turn(0.0)
        assert turn is not None
        assert lane.turn(0.0) is None
        lane.tried(turn, done=True)
        lane.took()
    finally:
        sys.setprofile(None)
    assert calls < len(many) / 2
    assert not lane.has_turns(0.0)
    assert lane.due_s > 30


def test_of_many_none_is_lost_whatever_became_of_it() -> None:
    lane, rng, now_s = lane_with(), random.Random(1), 0.0
    left = {(row := row_of(f"{number}")).key: row for number in range(300)}
    for number, row in enumerate(left.values()):
        lane.put(row, (ALICE, BOB)[number % 2], Upstream((ALICE, BOB)[number % 2]))
    while left:
        if not lane.has_turns(now_s):
            lane.took()
            assert lane.due_s > now_s, "somebody waits for that time"
            now_s = lane.due_s
            continue
        lane.begin(0, now_s)
        while (turn := lane.turn(now_s)) is not None:
            match rng.randrange(5):
                case 0:
                    lane.put_off(turn, now_s, rng)
                case 1:
                    lane.put_off_all(turn, now_s, rng)
                case 2:
                    del left[turn.key]
            lane.tried(turn, done=turn.key not in left)
        if rng.randrange(2):
            lane.took()
        else:
            lane.failed(now_s, rng, away="lost")
            now_s = lane.due_s
    assert not lane.rows


def test_what_comes_of_one_who_has_no_room_waits_too() -> None:
    lane, rng = lane_with(a1=ALICE), random.Random(1)
    lane.put_off_all(row_of("a1"), 0.0, rng)
    lane.took()
    lane.put(row_of("a2"), ALICE, Upstream(ALICE))
    assert lane.due_s > 0
    assert not lane.has_turns(0.0)
    lane.put(row_of("b1"), BOB, Upstream(BOB))
    assert lane.due_s == 0
    lane.begin(0, 0.0)
    assert turns(lane, 0.0) == {"b1"}


def test_several_refusals_at_one_time_are_one_reason_to_wait_and_each_later_one_doubles_it() -> None:
    lane, rng, now_s, pauses = lane_with(a1=ALICE, a2=ALICE), random.Random(1), 0.0, []
    for _ in range(10):
        for name in ("a1", "a2"):
            lane.put_off_all(row_of(name), now_s, rng)
        lane.took()
        pauses.append(lane.due_s - now_s)
        now_s = lane.due_s
    assert 0.5 * PAUSE_S_FIRST <= pauses[0] <= 1.5 * PAUSE_S_FIRST
    assert PAUSE_S_REFUSED_MAX / 2 <= pauses[-1] <= 1.5 * PAUSE_S_REFUSED_MAX
    assert all(2 ** (at - 1) * PAUSE_S_FIRST <= pause for at, pause in enumerate(pauses[:5]))


def test_who_has_room_again_begins_with_the_shortest_pause() -> None:
    lane, rng = lane_with(a1=ALICE, a2=ALICE), random.Random(1)
    for _ in range(5):
        lane.put_off_all(row_of("a1"), lane.due_s, rng)
        lane.took()
    assert lane.turn(0.0) is None
    lane.begin(0, lane.due_s)
    row = lane.turn(lane.due_s)
    assert row is not None
    lane.tried(row, done=True)
    assert lane.has_turns(0.0)
    lane.put_off_all(row_of("a2"), 100.0, rng)
    lane.took()
    assert lane.due_s - 100.0 <= 1.5 * PAUSE_S_FIRST


def test_a_pause_that_the_peer_named_is_kept() -> None:
    lane = lane_with(a1=ALICE)
    lane.put_off_all(row_of("a1"), 0.0, random.Random(1), retry_s=60.0)
    lane.took()
    assert lane.due_s == 60.0


def test_a_peer_cannot_have_itself_tried_without_pause() -> None:
    lane, rng, tries = lane_with(a1=ALICE), random.Random(1), 0
    while lane.due_s < 60.0:
        lane.put_off_all(row_of("a1"), lane.due_s, rng, retry_s=0.001)
        lane.took()
        tries += 1
    assert tries <= 70


def test_what_was_mended_is_tried_again_at_once_but_only_once() -> None:
    lane, rng = lane_with(a1=ALICE), random.Random(1)
    assert turns(lane, 0.0) == {"a1"}
    lane.put_off(row_of("a1"), 0.0, rng, mended=True)
    assert lane.is_put_off(row_of("a1"), 0.0), "that is no failure of the lane"
    lane.took()
    assert lane.due_s == 0.0
    lane.begin(0, 0.0)
    assert turns(lane, 0.0) == {"a1"}
    assert not lane.is_put_off(row_of("a1"), 0.0)
    lane.put_off(row_of("a1"), 0.0, rng, mended=True)
    lane.took()
    assert lane.due_s > 0.0


@pytest.mark.parametrize("modest", [Upstream(BOB), Upstream(ALICE, branch=1)])
def test_many_names_that_come_one_way_have_one_share_of_the_turns(modest: Upstream) -> None:
    """Whether the other one comes by itself, or by the same peer, which says that it is somebody else's."""
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    many = [row_of(f"many {number}") for number in range(50)]
    for number, row in enumerate(many):
        lane.put(row, id_of(f"name {number}"), Upstream(ALICE))
    lane.put(row_of("b1"), BOB, modest)
    lane.put(row_of("b2"), BOB, modest)
    order = [lane.turn(0.0) for _ in range(52)]
    assert order.index(row_of("b2")) < 5
    assert [row for row in order if row in many] == many, "those of one sender take turns by initiator"
    assert lane.turn(0.0) is None


def crowded(each: int = 2) -> DeliveryLane:
    """A lane with rows of 64 that came over as many connections; begun."""
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    for number in range(64):
        for which in range(each):
            lane.put(row_of(f"{number}-{which}"), id_of(f"c{number}"), Upstream(id_of(f"c{number}")))
    lane.begin(0, 0.0)
    return lane


def test_of_a_crowd_each_one_has_its_part_of_the_places_in_line_and_who_has_nothing_there_finds_one() -> None:
    lane = crowded(CROWD_ROWS_MIN)
    assert lane.is_full_for(Upstream(id_of("c1")))
    for number in range(CROWD_ROWS_MIN):
        assert not lane.is_full_for(Upstream(ALICE))
        lane.put(row_of(f"a{number}"), ALICE, Upstream(ALICE))
    assert lane.is_full_for(Upstream(ALICE))
    while (row := lane.turn(0.0)) is not None:
        lane.tried(row, done=True)
    assert not lane.is_full_for(Upstream(id_of("c1")))


def test_the_branches_of_which_one_sender_speaks_are_no_crowd_to_others() -> None:
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    for number in range(300):
        lane.put(row_of(f"{number}"), ALICE, Upstream(ALICE, number % 50))
    for number in range(20):
        assert not lane.is_full_for(Upstream(BOB))
        lane.put(row_of(f"b{number}"), BOB, Upstream(BOB))
    assert lane.is_full_for(Upstream(ALICE, 7))


def test_what_has_gone_of_a_client_is_not_counted_any_more() -> None:
    """A client says of its own particles as well whose they are, with a number."""
    lane, alice = crowded(CROWD_ROWS_MIN - 1), Upstream(ALICE, 7)
    for number in range(3 * CROWD_ROWS_MIN):
        lane.put(row_of(f"a{number}"), ALICE, alice)
        while (row := lane.turn(0.0)) is not None:
            lane.tried(row, done=row == row_of(f"a{number}"))
        lane.begin(0, 0.0)
    assert not lane.is_full_for(alice)


def test_a_lone_sender_fills_no_lane_nor_do_few_nor_a_crowd_before_a_peer_that_is_away() -> None:
    lone = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    for number in range(1_000):
        owner = (ALICE, BOB)[number % 2]
        lone.put(row_of(f"{number}"), owner, Upstream(owner))
    assert not lone.is_full_for(Upstream(ALICE))
    away = crowded(CROWD_ROWS_MIN)
    away.failed(0.0, random.Random(1), away="it is not there")
    assert not away.is_full_for(Upstream(id_of("c1")))


def test_who_comes_with_nothing_else_in_line_is_served_before_a_crowd() -> None:
    lane = crowded()
    for _ in range(80):
        row = lane.turn(0.0)
        assert row is not None
        lane.tried(row, done=True)
    lane.put(row_of("a1"), ALICE, Upstream(ALICE))
    assert row_of("a1") in [lane.turn(0.0), lane.turn(0.0)]


def test_what_was_put_off_has_its_turn_when_its_pause_is_over_though_the_round_goes_on() -> None:
    lane, rng = lane_with(a1=ALICE, b1=BOB), random.Random(1)
    lane.put_off(row_of("a1"), 0.0, rng)
    lane.put_off_all(row_of("b1"), 0.0, rng, retry_s=0.5)
    assert turns(lane, 0.0) == set()
    lane.put(row_of("a2"), ALICE, Upstream(ALICE))
    assert turns(lane, PAUSE_S_FIRST / 4) == {"a2"}
    assert turns(lane, LONG_AFTER) == {"a1", "b1"}
    assert turns(lane, LONG_AFTER) == set(), "with the next round"


# --- places that are held for long


def lane_of(*ways: Upstream, rows_each: int = 9) -> DeliveryLane:
    """A lane with so many rows that came each of these ways; begun."""
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    for which in range(rows_each):
        for number, way in enumerate(ways):
            lane.put(row_of(f"{number}-{which}"), way.sender, way)
    lane.begin(0, 0.0)
    return lane


def begun(lane: DeliveryLane, this: DeliveryRound, now_s: float) -> list[OutboxRow]:
    """Whatever finds a place now."""
    found = []
    while True:
        this.comes()
        row = lane.turn(now_s, this.is_open_to) if this.places(now_s) >= 0 else None
        if row is None:
            this.leaves()
            return found
        this.begin(row.key, lane.upstream_of(row), now_s)
        found.append(row)


def ended(lane: DeliveryLane, this: DeliveryRound, row: OutboxRow) -> None:
    """The peer has taken a row, and the worker goes."""
    this.end(row.key)
    this.leaves()
    lane.tried(row, done=True)


def crowd_of(count: int) -> list[Upstream]:
    return [Upstream(id_of(f"c{number}")) for number in range(count)]


def test_who_has_nothing_under_way_finds_a_place_though_others_hold_all_for_long() -> None:
    lane, this = lane_of(*crowd_of(60)), DeliveryRound(16)
    for turn in range(10):
        begun(lane, this, turn * HELD_S)
    assert this.places(100.0) == 12, "nobody of the others has another one"
    lane.put(row_of("a"), ALICE, Upstream(ALICE))
    assert begun(lane, this, 100.0) == [row_of("a")]


def test_what_may_still_be_quick_is_waited_for() -> None:
    lane, this = lane_of(*crowd_of(6)), DeliveryRound(4)
    assert len(begun(lane, this, 0.0)) == 3
    lane.put(row_of("a"), ALICE, Upstream(ALICE))
    assert not begun(lane, this, HELD_S / 2)
    assert this.next_old_s == HELD_S
    assert row_of("a") in begun(lane, this, HELD_S) + begun(lane, this, 2 * HELD_S)


@pytest.mark.parametrize(
    ("ways", "most"),
    [([Upstream(BOB)], 16 + 10), ([Upstream(BOB, branch + 1) for branch in range(300)], 16 + 96)],
    ids=["one way", "branches of one sender"],
)
def test_whoever_is_slow_has_a_bounded_number_of_places_and_leaves_some(ways: list[Upstream], most: int) -> None:
    lane, this, count = lane_of(*ways, rows_each=1 + 300 // len(ways)), DeliveryRound(16), 0
    for turn in range(40):
        count += len(begun(lane, this, turn * HELD_S))
    assert count <= most
    lane.put(row_of("a"), ALICE, Upstream(ALICE))
    assert begun(lane, this, 100.0) == [row_of("a")]


def test_who_was_slow_goes_on_when_it_is_over_and_has_lost_nothing() -> None:
    lane, this, bob = lane_of(Upstream(BOB), rows_each=200), DeliveryRound(16), []
    for turn in range(3):
        bob += begun(lane, this, turn * HELD_S)
    for number in range(1_000):
        lane.put(row_of(f"a{number}"), ALICE, Upstream(ALICE))
        for row in begun(lane, this, 100.0):
            ended(lane, this, row)
    for row in bob:
        ended(lane, this, row)
    for number in range(100):
        lane.put(row_of(f"again{number}"), ALICE, Upstream(ALICE))
    owners = [lane.initiator_of(row) for row in begun(lane, this, 101.0)]
    assert owners.count(BOB) == len(owners) // 2


def test_a_quarter_of_the_places_is_for_those_with_whom_the_peer_was_quick_and_no_more() -> None:
    lane, this = lane_of(*crowd_of(20), Upstream(ALICE), rows_each=60), DeliveryRound(16)
    while (row := lane.turn(0.0)) is not None:
        lane.tried(row, done=True, quick=lane.initiator_of(row) == ALICE)
    for number in range(100):
        for one in (ALICE, *(way.sender for way in crowd_of(20))):
            lane.put(row_of(f"{one}{number}"), one, Upstream(one))
    slow = begun(lane, this, 0.0)
    assert len(slow) == 12
    this.comes()
    row = lane.turn(0.0, lane.is_quick)
    assert row is not None
    assert lane.initiator_of(row) == ALICE
    this.begin(row.key, Upstream(ALICE), 0.0, as_quick=True)
    assert this.places_for_quick == 3
    ended(lane, this, slow[0])
    (after,) = begun(lane, this, 0.1)
    assert after not in slow, "the others have the other places"


def test_of_the_few_that_a_peer_takes_at_one_time_one_is_for_those_with_whom_it_was_quick() -> None:
    this, keys = DeliveryRound(16), [row_of(f"r{number}").key for number in range(6)]

    def begin(key: bytes, **how: bool) -> None:
        this.comes()
        this.begin(ParticleKey(key), Upstream(BOB), 0.0, **how)

    def end(key: bytes, *, taken: bool) -> None:
        assert taken or this.narrow(ParticleKey(key))
        if taken:
            this.widen()
        this.end(ParticleKey(key))
        this.leaves()

    for key in keys[:5]:
        begin(key)
    for key in keys[3:5]:
        end(key, taken=False)
    begin(keys[3])
    end(keys[3], taken=False)
    assert not this.takes(1, quick=True), "it has refused more than three"
    end(keys[2], taken=True)
    assert this.takes(1, quick=True)
    assert not this.takes(1), "the others have two of the three"
    begin(keys[5], as_quick=True)
    end(keys[5], taken=True)
    assert not this.takes(1)
    assert this.takes(1, quick=True)
    end(keys[1], taken=True)
    assert this.takes(1)
    end(keys[0], taken=True)
    begin(keys[0])
    assert not this.narrow(ParticleKey(keys[0])), "there is none that it has taken instead"


def test_with_whom_a_peer_was_quick_in_refusing_it_was_not_quick() -> None:
    lane = lane_of(Upstream(BOB), Upstream(ALICE), rows_each=10)
    assert lane.is_quick(Upstream(ALICE)), "nobody knows with whom it is quick"
    for one, done in ((BOB, True), (ALICE, False)):
        row = lane.turn(0.0, Upstream(one).__eq__)
        assert row is not None
        lane.tried(row, done=done)
        assert lane.is_quick(Upstream(one)) is done


def test_spare_places_go_round_among_those_who_may_answer_soon() -> None:
    spare, deaf = SparePlaces(2), [id_of(f"deaf {number}") for number in range(4)]
    assert [spare.take(one, 0.0) for one in deaf[:3]] == [True, True, False]
    assert not spare.take(deaf[0], 0.0), "it has one"
    assert [spare.take(one, ANSWER_S) for one in deaf[2:]] == [True, True]
    assert not spare.take(deaf[0], 3 * ANSWER_S), "it did not answer soon"
    assert spare.take(ALICE, 3 * ANSWER_S)
    spare.give(ALICE)
    spare.took(ALICE, ANSWER_S / 2, 3 * ANSWER_S)
    spare.give(deaf[0])
    assert spare.take(ALICE, 3 * ANSWER_S)
    assert spare.take(deaf[0], ANSWER_S + SLOW_FOR_S)


def test_a_lane_that_tries_whether_its_peer_is_there_has_one_place() -> None:
    lane, this = lane_of(*crowd_of(2)), DeliveryRound(1)
    assert len(begun(lane, this, 0.0)) == 1
    assert not begun(lane, this, LONG_AFTER)


def test_a_row_that_has_died_and_comes_again_has_one_turn() -> None:
    """Its particle may be asked for once more just after its time is over, while the dead row is still in line."""
    lane = DeliveryLane(THERE, ALICE, Upstream(ALICE), equal)
    dead = msgspec.structs.replace(row_of("a1"), deadline_ms=5)
    for row in (dead, row_of("b1")):
        lane.put(row, ALICE, Upstream(ALICE))
    lane.begin(0, 0.0)
    lane.failed(0.0, random.Random(1), away="lost")
    lane.begin(6, 1.0)
    lane.put(dead, ALICE, Upstream(ALICE))
    assert sorted(row.key for row in iter(lambda: lane.turn(1.0), None)) == sorted((dead.key, row_of("b1").key))


def test_of_rows_that_die_while_a_peer_is_away_little_stays_in_line() -> None:
    """One that lives is in line before them, and the only one that has a turn in each round."""
    lane, now_ms = lane_with(b1=BOB), 0
    for number in range(5 * DEAD_MAX):
        dead = msgspec.structs.replace(row_of(f"short {number}"), deadline_ms=now_ms + 1)
        lane.put(dead, ALICE, Upstream(id_of("relay"), number))
        if not number % 512:
            now_ms += 2
            lane.begin(now_ms, now_ms * SCAN_S)
            assert lane.in_line <= 2 * DEAD_MAX
    assert len(lane.rows) <= 512
    assert row_of("b1").key in {row.key for row in iter(lambda: lane.turn(10.0), None)}


def test_what_was_mended_has_its_turn_in_the_same_round() -> None:
    lane = lane_with(a1=ALICE, b1=BOB)
    row = lane.turn(0.0)
    assert row is not None
    lane.put_off(row, 0.0, random.Random(1), mended=True)
    lane.tried(row, done=False)
    assert {lane.turn(0.0), lane.turn(0.0)} == {row_of("a1"), row_of("b1")}
