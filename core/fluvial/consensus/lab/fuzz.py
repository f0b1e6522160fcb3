"""Schedules made up by chance, within what an algorithm must bear, and the smallest part of one that still fails.

A schedule has two phases. In the first one everything happens at once: loss, partitions, links of one direction, crashes with damaged disks, wrong clocks, and as many
liars as the bound allows. Then the network and the correct nodes are well, only the liars go on, and there must be progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import msgspec

from fluvial.consensus.lab.schedule import (
    FORMAT,
    ClockFault,
    Conditions,
    Crash,
    Fault,
    FaultSchedule,
    LinkFault,
    Load,
    NetworkSection,
    Partition,
    Role,
)

DELTA_MS: Final = 100
QUIET_MS: Final = 4_000
END_MS: Final = 20_000
COMMITS_WITHIN: Final = 130
"""In the second phase there are three blocks within so many Δ: timeouts may have grown to 32 times 3 Δ."""
_CLASSES: Final = ("proposal", "vote", "certificate", "sync", "evidence")


def random_schedule(seed: int, *, nodes: tuple[int, int] = (4, 7)) -> FaultSchedule:
    """The schedule of a seed.

    Args:
        seed: of all chance.
        nodes: the smallest and the largest number of validators.
    """
    rng = Random(f"schedule {seed}")  # noqa: S311 - no secret
    count = rng.randint(*nodes)
    liars = rng.sample(range(count), rng.randint(0, (count - 1) // 3))
    correct = [node for node in range(count) if node not in liars]
    delay = rng.choice([(10, 10), (1, 100), (20, 60), (5, 30)])
    before = Conditions(
        rng.choice([delay, (10, 800), (50, 300)]), rng.choice([0.0, 0.05, 0.3]), rng.choice([0.0, 0.0, 0.2])
    )
    return FaultSchedule(
        format=FORMAT,
        name=f"fuzz-{seed}",
        seed=seed,
        validators=count,
        delta_ms=DELTA_MS,
        gst_ms=QUIET_MS if rng.random() < 0.6 else 0,
        end_ms=END_MS,
        timeout_hint_ms=rng.choice([None, None, None, 30, 300]),
        fsync_ms=rng.choice([0, 0, 1, 5]),
        network=NetworkSection(delay, 0.0, rng.choice([0.0, 0.1]), before),
        workload=[Load(until_ms=8_000, every_ms=rng.choice([20, 100]), burst=rng.choice([1, 5]))],
        faults=[_fault(rng, correct, count) for _ in range(rng.randint(0, 4))],
        byzantine=[role for liar in sorted(liars) for role in _roles(rng, liar, count)],
        expect={"progress": [{"after": QUIET_MS, "commits": 3, "within_deltas": COMMITS_WITHIN}]},
    )


def _fault(rng: Random, correct: list[int], count: int) -> Fault:
    at_ms = rng.randrange(0, QUIET_MS - 500)
    until_ms = rng.randrange(at_ms + 50, QUIET_MS)
    node = rng.choice(correct)
    kind = rng.choice(["partition", "partition", "link", "link", "crash", "crash", "clock"])
    if kind == "partition":
        group: list[Any] = rng.sample(range(count), rng.randint(1, count // 2))
        return Partition(at_ms=at_ms, until_ms=until_ms, groups=[group])
    if kind == "link":
        to = rng.choice([other for other in range(count) if other != node])
        lossy = rng.random() < 0.6
        return LinkFault(
            sender=node,
            to=to,
            loss=1.0 if lossy else 0.0,
            extra_delay_ms=0 if lossy else rng.choice([150, 900]),
            at_ms=at_ms,
            until_ms=until_ms,
        )
    if kind == "crash":
        return Crash(node=node, at_ms=at_ms, restart_ms=until_ms, disk=rng.choice(["keep", "lose_unsynced", "torn"]))
    return ClockFault(
        node=node,
        at_ms=at_ms,
        until_ms=until_ms,
        offset_ms=rng.choice([-2_000, 300, 2_000]),
        rate=rng.choice([0.5, 1, 2]),
    )


def _roles(rng: Random, node: int, count: int) -> Iterator[Role]:
    """What one liar does: one or two things."""
    half = rng.sample(range(count), count // 2)
    split: list[list[Any]] = [half, [other for other in range(count) if other not in half]]
    classes = rng.choice([None, [rng.choice(_CLASSES)]])
    some: list[Any] = rng.sample(range(count), rng.randint(1, count - 1))
    doubled = [
        Role(node, "twin", lag_ms=rng.choice([0, 30, 400])),
        Role(node, "equivocate", split=split),
        Role(node, "amnesia", at_ms=[700.0, 2_500.0], down_ms=rng.choice([50, 600])),
    ]
    more = [
        Role(node, "silent", from_ms=rng.choice([0, 1_000])),
        Role(node, "withhold", classes=classes, to=some),
        Role(node, "delay", classes=classes, ms=(0, rng.choice([50, 500]))),
        Role(node, "bad_signature", classes=classes, probability=rng.choice([0.3, 1.0])),
        Role(node, "wrong_state_root"),
        Role(node, "invalid_payload"),
        Role(node, "censor", account=rng.randrange(16)),
        Role(node, "flood", copies=4),
        Role(node, "replay", probability=0.3),
        Role(node, "garbage", size=200),
        Role(node, "impersonate"),
    ]
    if rng.random() < 0.5:
        yield rng.choice(doubled)
        if rng.random() < 0.5:
            return
    yield rng.choice(more)


def shrunk(schedule: FaultSchedule, fails: Callable[[FaultSchedule], bool]) -> FaultSchedule:
    """The schedule without all faults and roles that it fails without as well.

    Args:
        schedule: that fails.
        fails: whether another one does.
    """
    smaller = True
    while smaller:
        smaller = False
        for part in ("faults", "byzantine"):
            rows = getattr(schedule, part)
            for number in range(len(rows)):
                without = msgspec.structs.replace(schedule, **{part: rows[:number] + rows[number + 1 :]})
                if fails(without):
                    schedule, smaller = without, True
                    break
    return schedule
