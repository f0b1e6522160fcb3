"""Schedules by chance: within the bound, readable again, and small when they fail."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from fluvial.cli.lab_consensus import consensus
from fluvial.consensus.lab.fuzz import QUIET_MS, random_schedule, shrunk
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import FaultSchedule, read_schedule

from tests.support.algorithms import DAG, SIMPLEX


@pytest.mark.parametrize("seed", range(30))
def test_schedules_stay_within_the_bound_and_become_quiet(seed: int, tmp_path: Path) -> None:
    schedule = random_schedule(seed)
    assert schedule == random_schedule(seed)
    assert len({role.node for role in schedule.byzantine}) <= (schedule.validators - 1) // 3
    assert all(getattr(one, "until_ms", QUIET_MS) <= QUIET_MS for one in schedule.faults)
    (tmp_path / "one.json").write_bytes(msgspec.json.encode(schedule))
    assert read_schedule(tmp_path / "one.json") == schedule


@pytest.mark.long
@pytest.mark.parametrize("algorithm", [SIMPLEX, DAG], ids=lambda one: one.name)
def test_some_of_them_hold(algorithm: Algorithm) -> None:
    for seed in (2, 5):
        report = play(random_schedule(seed), algorithm, seed)
        assert [one for one in report["verdicts"] if not one["ok"]] == []


def test_what_does_not_matter_is_left_out() -> None:
    crowded = next(one for one in map(random_schedule, range(100)) if len(one.faults) >= 3)
    needed = crowded.faults[1]

    def fails(schedule: FaultSchedule) -> bool:
        return needed in schedule.faults

    small = shrunk(crowded, fails)
    assert (small.faults, small.byzantine) == ([needed], [])


@pytest.mark.long
def test_the_command_writes_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = [
        "fuzz",
        "--algorithm",
        "simplex",
        "--runs",
        "1",
        "--first",
        "2",
        "--validators",
        "4",
        "4",
        "--keep",
        str(tmp_path),
    ]
    assert CliRunner().invoke(consensus, call).exit_code == 0
    monkeypatch.setattr("fluvial.consensus.lab.fuzz.COMMITS_WITHIN", 0)
    done = CliRunner().invoke(consensus, call)
    assert done.exit_code == 1
    assert "0 of 1 passed" in done.output
    assert read_schedule(tmp_path / "fuzz-2.json").faults == []
