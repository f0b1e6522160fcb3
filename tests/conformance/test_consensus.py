"""Every schedule holds with every algorithm that is shipped, and a judge who knows only the report agrees with the laboratory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial.cli.lab_consensus import consensus
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import read_schedule
from fluvial.errors import ConfigError

from tests.conformance.consensus.check_report import check
from tests.support.algorithms import DAG, SCHEDULES, SIMPLEX

FOLDER = Path(__file__).parent / "consensus"
SEEDS = (3,)
"""One of 25 that are run now and then: `fluvial lab consensus run … --seeds 25`."""


def failures(verdicts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in verdicts if not one["ok"]]


@pytest.mark.parametrize("algorithm", [SIMPLEX, DAG], ids=lambda one: one.name)
@pytest.mark.parametrize("path", SCHEDULES, ids=lambda one: one.stem)
def test_schedules_hold(path: Path, algorithm: Algorithm) -> None:
    schedule = read_schedule(path)
    for number in SEEDS:
        report = play(schedule, algorithm, schedule.seed + 1000 * number)
        assert failures(report["verdicts"]) == []
        assert report["passed"]
        seen = json.loads(json.dumps(report))
        assert failures(check(json.loads(path.read_text()), seen)) == []


def test_the_independent_judge_finds_what_the_laboratory_finds() -> None:
    path = FOLDER / "p01-good-case.json"
    wrong = json.loads(path.read_text())
    wrong["expect"]["min_height"] = 100_000
    wrong["expect_by_algorithm"] = {}
    wrong["expect"]["no_commit_ms"] = [[1_000, 2_000]]
    import msgspec
    from fluvial.consensus.lab.schedule import FaultSchedule

    report = play(msgspec.convert(wrong, FaultSchedule), SIMPLEX, 1)
    assert not report["passed"]
    ours = {one["check"] for one in failures(report["verdicts"])}
    assert ours == {one["check"] for one in failures(check(wrong, json.loads(json.dumps(report))))}
    assert ours == {"min_height", "no commit in 1000..2000"}


def test_simplex_commits_after_three_delays_and_a_block_every_two() -> None:
    schedule = read_schedule(FOLDER / "p01-good-case.json")
    report = play(schedule, SIMPLEX, schedule.seed)
    assert report["figures"]["commit_delays"] == {"p50": 3.0, "p99": 3.0}
    times = [one[3] for one in report["nodes"][0]["commits"]]
    assert {round(after - before) for before, after in pairwise(times[5:])} == {20}


def run_command(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fluvial", "lab", "consensus", "run", *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )


def test_runs_are_the_same_under_every_hash_seed() -> None:
    schedules = [str(FOLDER / "p03-equivocating-proposer.json")]
    outputs = []
    for hash_seed in ("1", "2"):
        done = run_command(*schedules, "--algorithm", "simplex,dag", hash_seed=hash_seed)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(json.loads(outputs[0])) == 2
    assert outputs[0] == outputs[1]


def test_the_exit_status_says_what_has_happened(tmp_path: Path) -> None:
    values = json.loads((FOLDER / "p01-good-case.json").read_text())
    values["end_ms"] = 300
    (tmp_path / "short.json").write_text(json.dumps(values))
    short, run = str(tmp_path / "short.json"), partial(CliRunner().invoke, consensus)
    done = run(["run", short, "--algorithm", "simplex", "--report", str(tmp_path / "report.json")])
    assert done.exit_code == 1
    assert not json.loads((tmp_path / "report.json").read_text())["passed"]
    values["byzantine"] = [{"node": 1, "role": "rebel", "variant": "sings"}]
    (tmp_path / "short.json").write_text(json.dumps(values))
    done = run(["run", short, "--algorithm", "simplex", "--seeds", "1"])
    assert done.exit_code == 2
    assert [one["passed"] for one in json.loads(done.stdout)] == [False]
    assert run(["run", short, "--algorithm", "simple"]).exit_code == 1


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 3}', "[]"])
def test_what_is_no_schedule_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ConfigError, match="no schedule"):
        read_schedule(tmp_path / "bad.json")
