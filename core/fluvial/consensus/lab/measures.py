"""What is measured in a run, and over the seeds of a schedule, so that algorithms can be compared. All of it is virtual time, so it is the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fluvial.consensus.lab.run import LaboratoryRun
from fluvial.consensus.lab.schedule import Crash, FaultSchedule


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMeasures:
    """One run.

    Attributes:
        passed: whether everything held that the schedule expects.
        delays: from a proposal to its commit at each correct node, in message delays.
        latencies: from a payment's submission to its commit at each correct node, in ms.
        height: blocks that are final at the end, at the best correct node.
        payments: that are committed somewhere.
        messages, bytes: that were sent.
        gap: the longest time without a commit, in Δ.
        recoveries: from the end of each fault to the next commit at each correct node, in Δ.
        commits_ms: when the best correct node committed.
        end_ms: how long the run was.
    """

    passed: bool
    delays: Sequence[float]
    latencies: Sequence[float]
    height: int
    payments: int
    messages: int
    bytes: int
    gap: float
    recoveries: Sequence[float]
    commits_ms: Sequence[float]
    end_ms: float


def measured(run: LaboratoryRun, report: dict[str, Any]) -> RunMeasures:
    """The measures of a run with its report."""
    schedule = run.schedule
    liars = {role.node for role in schedule.byzantine}
    correct = [node for node in report["nodes"] if node["node"] not in liars]
    gone = {one.node for one in schedule.faults if isinstance(one, Crash) and one.restart_ms is None}
    live = [node for node in correct if node["node"] not in gone]
    best = max(correct, key=lambda node: len(node["commits"]), default=None)
    times = [row[3] for row in best["commits"]] if best is not None else []
    hop_ms = schedule.network.delay_ms[1]
    proposed = report["proposed_ms"]
    rows = [row for node in correct for row in node["commits"] if row[1] in proposed]
    committed = [one for one in report["txs"] if one["committed_ms"]]
    edges = [0.0, *times, float(schedule.end_ms)]
    return RunMeasures(
        passed=report["passed"],
        delays=[(row[3] - proposed[row[1]]) / hop_ms for row in rows] if hop_ms else [],
        latencies=[at - one["submitted_ms"] for one in committed for at in one["committed_ms"].values()],
        height=len(times),
        payments=len(committed),
        messages=sum(report["messages"].values()),
        bytes=sum(report["bytes"].values()),
        gap=max(after - before for before, after in pairwise(edges)) / schedule.delta_ms,
        recoveries=list(_recoveries(schedule, live)),
        commits_ms=times,
        end_ms=schedule.end_ms,
    )


def troubled(schedule: FaultSchedule) -> Iterator[tuple[float, float]]:
    """The times in which something is wrong with the network or with correct nodes, in ms."""
    if schedule.gst_ms:
        yield 0.0, schedule.gst_ms
    for one in schedule.faults:
        end = one.restart_ms if isinstance(one, Crash) else one.until_ms
        yield one.at_ms, schedule.end_ms if end is None else min(end, schedule.end_ms)


def _recoveries(schedule: FaultSchedule, live: Sequence[dict[str, Any]]) -> Iterator[float]:
    for end in sorted({end for _, end in troubled(schedule) if end < schedule.end_ms}):
        for node in live:
            after = [row[3] for row in node["commits"] if row[3] > end]
            if after:
                yield (after[0] - end) / schedule.delta_ms


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and worst of many values; None if there are none."""

    median: float | None
    worst: float | None


def spread(values: Sequence[float], worst: float = 0.99) -> Spread:
    """Median and a high quantile (1 for the maximum)."""
    if not values:
        return Spread(None, None)
    ordered = sorted(values)
    return Spread(ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * worst))])


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsSummary:
    """All seeds of one schedule with one algorithm.

    Attributes:
        algorithm: its name.
        schedule: its name.
        runs: how many.
        passed: how many of them passed.
        skipped: why the algorithm cannot be run with this schedule; empty if it can.
        delay: of commits, in message delays: median and 99 %.
        latency: of payments, in ms: median and 99 %.
        messages, bytes: for each block.
        blocks, payments: in a second.
        gap: without a commit, in Δ: median and longest over the seeds.
        recovery: after a fault, in Δ: median and longest.
        first: the measures of the first seed; None if it was skipped.
    """

    algorithm: str
    schedule: str
    runs: int
    passed: int
    skipped: str = ""
    delay: Spread = Spread(None, None)
    latency: Spread = Spread(None, None)
    messages: float | None = None
    bytes: float | None = None
    blocks: float | None = None
    payments: float | None = None
    gap: Spread = Spread(None, None)
    recovery: Spread = Spread(None, None)
    first: RunMeasures | None = None


def summary(algorithm: str, schedule: str, runs: Sequence[RunMeasures]) -> SeedsSummary:
    """What the runs of all seeds have in common."""
    height = sum(one.height for one in runs)
    seconds = sum(one.end_ms for one in runs) / 1000
    return SeedsSummary(
        algorithm=algorithm,
        schedule=schedule,
        runs=len(runs),
        passed=sum(one.passed for one in runs),
        delay=spread([value for one in runs for value in one.delays]),
        latency=spread([value for one in runs for value in one.latencies]),
        messages=sum(one.messages for one in runs) / height if height else None,
        bytes=sum(one.bytes for one in runs) / height if height else None,
        blocks=height / seconds,
        payments=sum(one.payments for one in runs) / seconds,
        gap=spread([one.gap for one in runs], 1),
        recovery=spread([value for one in runs for value in one.recoveries], 1),
        first=runs[0],
    )
