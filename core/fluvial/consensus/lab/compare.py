"""Several algorithms over the same schedules, seeds, sizes and loads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from fluvial.consensus.lab.judge import judge
from fluvial.consensus.lab.measures import RunMeasures, SeedsSummary, measured, summary
from fluvial.consensus.lab.passages import Passages
from fluvial.consensus.lab.play import SEED_STEP
from fluvial.consensus.lab.report import report_of
from fluvial.consensus.lab.run import Algorithm, Impossible, LaboratoryRun
from fluvial.consensus.lab.schedule import FORMAT, FaultSchedule, Load, NetworkSection, Role

HOP_MS: Final = 10
SIZES: Final = (4, 7, 13)
LOADS: Final = (50, 400, 1600)
PICTURE_MS: Final = 90
"""How much of a run a space-time diagram shows."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured point: what was varied, and what came of it."""

    at: int
    summary: SeedsSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that a page of comparison shows.

    Attributes:
        algorithms: names, in the order of the page.
        seeds: of each schedule.
        schedules: what was run.
        rows: for each schedule and algorithm.
        sizes: by algorithm: the good case for each number of validators.
        loads: by algorithm: the good case of four validators for each number of payments in a second.
        pictures: (algorithm, title, all messages and commits of a short time).
    """

    algorithms: tuple[str, ...]
    seeds: int
    schedules: tuple[FaultSchedule, ...]
    rows: tuple[SeedsSummary, ...]
    sizes: dict[str, tuple[Point, ...]]
    loads: dict[str, tuple[Point, ...]]
    pictures: tuple[tuple[str, str, Passages], ...]


def compare(
    schedules: Sequence[FaultSchedule],
    algorithms: Sequence[Algorithm],
    *,
    seeds: int,
    sizes: Sequence[int] = SIZES,
    loads: Sequence[int] = LOADS,
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Run everything.

    Args:
        schedules: with all algorithms.
        algorithms: to compare.
        seeds: of each schedule.
        sizes: numbers of validators.
        loads: payments in a second.
        progress: hears of each step.
    """
    rows = []
    for schedule in schedules:
        for algorithm in algorithms:
            progress(f"{schedule.name} with {algorithm.name}")
            rows.append(over_seeds(schedule, algorithm, seeds))
    by_size: dict[str, tuple[Point, ...]] = {}
    by_load: dict[str, tuple[Point, ...]] = {}
    pictures = []
    for algorithm in algorithms:
        progress(f"sizes, loads and pictures of {algorithm.name}")
        by_size[algorithm.name] = tuple(
            Point(size, over_seeds(good_case(f"{size} validators", size), algorithm, 1)) for size in sizes
        )
        by_load[algorithm.name] = tuple(
            Point(load, over_seeds(good_case(f"{load} payments/s", 4, load=load), algorithm, 1)) for load in loads
        )
        pictures += list(_pictures(algorithm))
    return Comparison(
        algorithms=tuple(one.name for one in algorithms),
        seeds=seeds,
        schedules=tuple(schedules),
        rows=tuple(rows),
        sizes=by_size,
        loads=by_load,
        pictures=tuple(pictures),
    )


def good_case(name: str, validators: int, *, load: int = 100, end_ms: int = 1_000) -> FaultSchedule:
    """A schedule in which all is well and each message takes 10 ms.

    Args:
        name: of the schedule.
        validators: how many.
        load: payments in a second, at least 1.
        end_ms: how long.
    """
    burst = max(1, load // 50)
    return FaultSchedule(
        format=FORMAT,
        name=name,
        seed=1,
        validators=validators,
        delta_ms=10 * HOP_MS,
        end_ms=end_ms,
        network=NetworkSection((HOP_MS, HOP_MS)),
        max_block_txs=2_000,
        accounts=64,
        workload=[Load(until_ms=end_ms, every_ms=1000 * burst / load, burst=burst)],
    )


def over_seeds(schedule: FaultSchedule, algorithm: Algorithm, seeds: int) -> SeedsSummary:
    """All seeds of a schedule with an algorithm."""
    runs: list[RunMeasures] = []
    for number in range(seeds):
        try:
            run = LaboratoryRun(schedule, algorithm, schedule.seed + number * SEED_STEP)
        except Impossible as error:
            return SeedsSummary(algorithm=algorithm.name, schedule=schedule.name, runs=0, passed=0, skipped=str(error))
        run.play()
        report = report_of(run)
        report["passed"] = all(one["ok"] for one in judge(run, report))
        runs.append(measured(run, report))
    return summary(algorithm.name, schedule.name, runs)


def _pictures(algorithm: Algorithm) -> Iterator[tuple[str, str, Passages]]:
    calm = good_case("all is well", 4, end_ms=PICTURE_MS)
    stormy = msgspec.structs.replace(
        calm, name="one validator is silent", byzantine=[Role(3, "silent")], end_ms=4 * PICTURE_MS
    )
    for schedule in (calm, stormy):
        passages = Passages(schedule.end_ms)
        run = LaboratoryRun(schedule, algorithm, 1, watch=passages.note)
        run.play()
        passages.finish(run)
        yield algorithm.name, schedule.name, passages
