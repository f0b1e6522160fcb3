"""Who may write how much: rates that recover, shares that leave room for whoever comes new, and the room itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.particles.brought import LATELY_S, Brought
from fluvial.particles.limits import DiskLimits
from fluvial.particles.quota import (
    LITTLE_WAY_PART,
    RESERVED_PART,
    DiskQuota,
    kept_bytes,
    log_bytes,
    room_bytes,
)
from fluvial.storage.account import DiskAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from tests.support.deliveries import make_particle
from tests.support.nodes import id_of, keys_of

LIMITS = DiskLimits(
    bytes_max=2**24, initiator_bytes_per_s=1_000, initiator_burst_bytes=10_000, particle_bytes_max=1_000_000
)
FAST = DiskLimits(bytes_max=2**24, initiator_bytes_per_s=2**40, initiator_burst_bytes=2**40)
ROOM = room_bytes(LIMITS)
LITTLE = ROOM // LITTLE_WAY_PART


class Disk:
    """A quota with its account, a clock that is set, and writes that are done at once."""

    def __init__(self, limits: DiskLimits = LIMITS, weight: Callable[[PeerId], int] = lambda _: 0) -> None:
        self.now_s = 100.0
        self.account = DiskAccount()
        self.quota = DiskQuota(
            self.account, limits, me=id_of("me"), weight=weight, clock=lambda: self.now_s, metrics=CollectorRegistry()
        )

    def write(self, name: str, size: int, *, journal: int = 0, by: Upstream | None = None) -> None:
        """An initiator's particle is written, which it brought itself unless it came by another way."""
        self.quota.spend(particle_of(name), by or Upstream(id_of(name)), size, journal=journal)
        self.account.add(keys_of(name).public_key, size)

    def remove(self, name: str, size: int) -> None:
        """So much of it, a whole particle, is removed."""
        self.quota.removed([particle_of(name).key])
        self.account.add(keys_of(name).public_key, -size)

    def refusal(self, name: str, by: Upstream | None = None) -> Refused | None:
        """Why nothing of an initiator is taken in; None if it is."""
        try:
            self.quota.check(id_of(name), by or Upstream(id_of(name)))
        except Refused as refused:
            return refused if refused.reason == "quota" else None
        return None


_PARTICLES: dict[str, Particle] = {}


def particle_of(name: str) -> Particle:
    return _PARTICLES.setdefault(name, make_particle("(null)", keys=keys_of(name)))


# --- rate


def test_whoever_writes_faster_than_it_may_is_told_when_to_come_again() -> None:
    disk = Disk()
    disk.write("a", 10_000)
    assert disk.refusal("a") is None, "all of the burst may be used"
    disk.write("a", 2_500)
    refused = disk.refusal("a")
    assert refused is not None
    assert refused.retry_ms == 2_500
    assert "1000 bytes a second" in refused.message
    assert disk.refusal("b") is None, "the others have buckets of their own"
    disk.now_s += 2.4
    assert disk.refusal("a") is not None
    disk.now_s += 0.1
    assert disk.refusal("a") is None


def test_a_long_pause_gives_no_more_than_the_burst() -> None:
    disk = Disk()
    disk.write("a", 1)
    disk.now_s += 1_000_000
    disk.write("a", 10_001)
    assert disk.refusal("a") is not None


def test_weight_counts() -> None:
    disk = Disk(weight=lambda peer: 3 if peer == id_of("heavy") else 0)
    for name in ("heavy", "light"):
        disk.write(name, 14_000)
    assert disk.refusal("heavy") is None
    light = disk.refusal("light")
    assert light is not None
    assert light.retry_ms == 4_000


# --- share


def test_one_alone_may_have_half_and_what_is_removed_opens_the_door_again() -> None:
    disk = Disk(FAST)
    disk.account.add(keys_of("a").public_key, ROOM // 2)
    assert disk.refusal("a") is None
    disk.account.add(keys_of("a").public_key, 2)
    refused = disk.refusal("a")
    assert refused is not None
    assert "more than its share" in refused.message
    assert refused.retry_ms > 0
    assert disk.refusal("b") is None
    disk.account.add(keys_of("a").public_key, -2)
    assert disk.refusal("a") is None


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(50_000, 400_000))
def test_however_many_write_as_much_as_they_can_somebody_new_is_let_in(count: int, step: int) -> None:
    disk, names = Disk(FAST), [f"n{number}" for number in range(count)]
    going = set(names)
    while going:
        for name in sorted(going):
            if disk.refusal(name) is not None:
                going.discard(name)
            elif disk.account.total + step <= ROOM:
                disk.write(name, step)
            else:
                going.discard(name)
    free = ROOM - disk.account.total
    assert disk.account.total <= ROOM
    assert free >= ROOM // (count + 1) - count * step
    assert disk.refusal("new") is None


def test_the_heaviest_is_refused_first() -> None:
    disk = Disk(FAST)
    for name, part in (("a", 3), ("b", 6), ("c", 12)):
        disk.account.add(keys_of(name).public_key, ROOM // part)
    assert [disk.refusal(name) is None for name in ("a", "b", "c")] == [True, True, True]
    disk.account.add(keys_of("d").public_key, ROOM // 5)
    assert [disk.refusal(name) is None for name in ("a", "b", "c")] == [False, True, True]


# --- way


def fill(disk: Disk, senders: list[PeerId], step: int, *, branches: int = 0) -> None:
    """All that these can write under as many names as they like, none of which writes twice; and behind them branches."""
    going, number = {Upstream(sender, branch) for sender in senders for branch in range(branches + 1)}, 0
    while going:
        for way in sorted(going, key=lambda one: (one.sender.public_key, one.branch)):
            number += 1
            try:
                if disk.refusal(f"name {number}", way) is None:
                    disk.write(f"name {number}", step, by=way)
                    continue
            except Refused:
                pass
            going.discard(way)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(100_000, 400_000))
def test_whoever_brings_hundreds_of_names_has_one_share(count: int, step: int) -> None:
    disk = Disk(FAST)
    fill(disk, [id_of(f"gate {number}") for number in range(count)], step)
    assert ROOM - disk.account.total >= ROOM // (count + 1) - count * step
    assert disk.refusal("new") is None


def test_who_has_little_goes_on_though_hundreds_fill_the_disk() -> None:
    disk = Disk(FAST)
    disk.write("modest", LITTLE - 5_000)
    disk.account.add(
        keys_of("strangers").public_key, ROOM - ROOM // 10
    )  # of before the start: nobody knows who brought it
    assert disk.refusal("modest") is None
    disk.write("modest", 5_000)
    assert disk.refusal("modest", Upstream(id_of("gate"))) is None
    assert disk.refusal("strangers") is not None


def test_what_is_left_at_last_is_for_those_who_brought_little() -> None:
    """What was brought counts half after a while, and is still there: else who brings something again and again would have all in the end."""
    disk, gates, number = Disk(FAST), [id_of(f"gate {one}") for one in range(8)], 0
    for _ in range(40):
        for gate in gates:
            for _ in range(10):
                number += 1
                with suppress(Refused):
                    disk.write(f"name {number}", 2 * LITTLE, by=Upstream(gate))
        disk.now_s += LATELY_S
    assert ROOM // RESERVED_PART // 2 < ROOM - disk.account.total < ROOM // 4
    disk.write("modest", LITTLE // 2)
    assert disk.refusal("modest") is None


def test_whoever_brings_much_does_not_shut_out_the_others_that_it_serves() -> None:
    disk, gate = Disk(FAST), id_of("gate")
    fill(disk, [gate], 100_000)
    assert disk.refusal("another name", Upstream(gate)) is not None
    assert disk.refusal("one of its clients", Upstream(gate, 7)) is None
    before = disk.account.total
    fill(disk, [gate], 100_000, branches=40)
    assert before < disk.account.total < ROOM * 4 // 5, "and not without end"
    assert disk.refusal("somebody else") is None


def test_a_relaying_peer_that_brought_much_has_a_part_of_what_is_left_at_last_for_its_little_branches() -> None:
    disk, gate = Disk(FAST), id_of("gate")
    fill(disk, [gate], 100_000, branches=4)
    disk.account.add(keys_of("strangers").public_key, ROOM - ROOM // 6 - disk.account.total)
    assert disk.refusal("greedy", Upstream(gate, 1)) is not None
    for number in range(5):
        assert disk.refusal(f"modest {number}", Upstream(gate, 7 + number)) is None
        disk.write(f"modest {number}", LITTLE // 20, by=Upstream(gate, 7 + number))
    # A sender may make up branches.
    for number in range(1_000):
        with suppress(Refused):
            disk.write(f"name {number % 50}", LITTLE // 20, by=Upstream(gate, 100 + number))
    assert ROOM - disk.account.total > ROOM // 6 * 7 // 10
    assert disk.refusal("somebody else") is None
    disk.write("somebody else", LITTLE // 2)


def test_what_some_have_under_way_does_not_shut_out_others_behind_the_same_peer() -> None:
    disk, gate, number = Disk(FAST), id_of("gate"), 0
    with suppress(Refused):
        while True:  # what is under way asks at no door
            number += 1
            disk.write(f"name {number % 40}", 100_000, by=Upstream(gate, number % 40 + 1))
    assert disk.refusal("name 1", Upstream(gate, 1)) is not None
    assert disk.refusal("one of its clients", Upstream(gate, 77)) is None
    disk.write("one of its clients", 100_000, by=Upstream(gate, 77))
    assert disk.refusal("somebody else") is None


def test_what_was_brought_is_forgotten_in_time() -> None:
    disk, gate = Disk(FAST), id_of("gate")
    fill(disk, [gate], 100_000)
    disk.now_s += LATELY_S
    assert disk.refusal("another name", Upstream(gate)) is None


@pytest.mark.parametrize("branch", [0, 7])
def test_what_was_removed_counts_as_brought_no_more(branch: int) -> None:
    disk, modest = Disk(FAST), Upstream(id_of("gate"), branch)
    disk.account.add(keys_of("strangers").public_key, ROOM - ROOM // 10)  # the rest is for those who bring little
    for number in range(40):
        name = f"flow {number}"
        assert disk.refusal(name, modest) is None, f"before flow {number}"
        disk.write(name, LITTLE // 20, by=modest)
        disk.now_s += 0.1
        if number:
            disk.remove(f"flow {number - 1}", LITTLE // 20)
    written = 0
    with suppress(Refused):
        for number in range(40):
            disk.write(f"flow that stays {number}", LITTLE // 20, by=modest)
            written += 1
    assert written < 40, "what is not removed counts"


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 1_000), st.integers(0, 2), st.floats(0, 90)), max_size=30)
)
def test_what_stays_counts_in_full_whatever_else_is_removed(writes: list[tuple[str, int, int, float]]) -> None:
    """Of three senders and their branches, each with a particle that may be removed and come again: at least as if what is gone had never come."""
    now_s, kept = 0.0, list[tuple[float, str, int, int]]()
    brought, plain = Brought(lambda: now_s), Brought(lambda: now_s)
    for name, size, branch, pause_s in writes:
        for one in (brought, plain):
            bring(one, name, size, branch)
        kept.append((now_s, name, size, branch))
        now_s += pause_s
        gone = branch + 1
        brought.removed([particle_of(f"{name} {gone}").key])
        kept = [write for write in kept if (write[1], write[3]) != (name, gone)]
    end_s, least = now_s, Brought(lambda: now_s)
    for at_s, name, size, branch in kept:
        now_s = at_s
        bring(least, name, size, branch)
    now_s = end_s
    for sender in map(id_of, "abc"):
        low, part, high = (
            (one.lately.of(sender), one.just_now.of(sender), one.reserved.of(sender)) for one in (least, brought, plain)
        )
        assert all(x - 1e-6 <= y <= z + 1e-6 for x, y, z in zip(low, part, high, strict=True)), "but for rounding"


def bring(brought: Brought, name: str, size: int, branch: int) -> None:
    key = particle_of(f"{name} {branch}").key
    brought.wrote(key, Upstream(id_of(name), branch), size, reserved=branch > 1)


def test_a_disk_with_much_room_asks_nobody_what_it_brought() -> None:
    disk, gate = Disk(FAST), id_of("gate")
    for number in range(40):
        disk.write(f"name {number}", ROOM // 20, by=Upstream(gate))
        disk.account.add(keys_of(f"name {number}").public_key, -ROOM // 20)
    assert disk.refusal("another name", Upstream(gate)) is None


# --- room


def test_what_is_under_way_may_go_beyond_the_share_but_not_for_ever() -> None:
    disk = Disk(FAST)
    disk.write("a", ROOM // 2 + 1)
    assert disk.refusal("a") is not None
    disk.write("a", ROOM // 8)
    with pytest.raises(Refused, match="are free") as refused:
        disk.write("a", ROOM // 8)
    assert refused.value.reason == "quota"
    disk.write("b", 1_000)


def test_what_is_brought_back_of_what_is_here_is_held_to_what_may_be_under_way() -> None:
    disk = Disk(FAST)
    disk.write("a", ROOM // 2 + 1)
    assert disk.refusal("a") is not None
    disk.quota.check_under_way(id_of("a"), Upstream(id_of("a")))
    disk.account.add(keys_of("others").public_key, ROOM // 2 - ROOM // 10)
    with pytest.raises(Refused, match="are free") as refused:
        disk.quota.check_under_way(id_of("a"), Upstream(id_of("a")))
    assert refused.value.retry_ms > 0


def test_nobody_may_write_more_than_there_is_room_for() -> None:
    disk = Disk(FAST)
    disk.write("me", ROOM - 1_000)
    assert disk.refusal("me") is None, "an own particle is told when it writes"
    for name in ("me", "a"):
        with pytest.raises(Refused, match="disk is full"):
            disk.write(name, 1_001)
    assert disk.account.total <= ROOM


def test_a_journal_has_its_limit() -> None:
    disk = Disk()
    disk.write("a", 10, journal=1_000_000)
    with pytest.raises(Refused, match="1000001 bytes, 1000000 are allowed") as refused:
        disk.write("a", 10, journal=1_000_001)
    assert refused.value.retry_ms == 0, "that will not change"


def test_own_particles_are_held_to_the_room_alone() -> None:
    disk = Disk()
    disk.write("me", 1_000_000)
    assert disk.refusal("me") is None
    disk.write("me", ROOM - 1_000_000)


@pytest.mark.parametrize("bytes_max", [2**24, 2**30, 2**40])
def test_room_and_log_are_within_what_was_asked_for(bytes_max: int) -> None:
    limits = DiskLimits(bytes_max=bytes_max, keep_bytes_max=2**50)
    assert room_bytes(limits) + 2 * log_bytes(limits) <= bytes_max
    assert kept_bytes(limits) <= room_bytes(limits) // 3
