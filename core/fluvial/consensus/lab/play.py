"""Running a schedule with an algorithm over some seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fluvial.consensus.lab.judge import judge
from fluvial.consensus.lab.report import FORMAT, report_of
from fluvial.consensus.lab.run import Algorithm, Impossible, LaboratoryRun
from fluvial.consensus.lab.schedule import FaultSchedule

SEED_STEP: Final = 1000
PASSED, FAILED, SKIPPED = 0, 1, 2


def play(schedule: FaultSchedule, algorithm: Algorithm, seed: int) -> dict[str, Any]:
    """The report of one run, with verdicts. A run that is impossible with this algorithm is reported as skipped, which is no pass."""
    try:
        run = LaboratoryRun(schedule, algorithm, seed)
    except Impossible as error:
        skipped = {"check": "can be run", "ok": False, "detail": str(error)}
        head = {"format": FORMAT, "schedule": schedule.name, "algorithm": algorithm.name, "seed": seed}
        return {**head, "passed": False, "skipped": True, "verdicts": [skipped]}
    run.play()
    report = report_of(run)
    report["verdicts"] = judge(run, report)
    report["passed"] = all(one["ok"] for one in report["verdicts"])
    return report


def play_seeds(schedule: FaultSchedule, algorithm: Algorithm, seeds: int) -> Iterator[dict[str, Any]]:
    """Reports for the schedule's seed, and for others a thousand apart."""
    for number in range(seeds):
        yield play(schedule, algorithm, schedule.seed + number * SEED_STEP)


def exit_status(reports: list[dict[str, Any]]) -> int:
    """0 if all passed, 2 if one could not be run, else 1."""
    if any(one.get("skipped") for one in reports):
        return SKIPPED
    return PASSED if all(one["passed"] for one in reports) else FAILED
