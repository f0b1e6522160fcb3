"""Comparing algorithms: the page is whole, says what was measured, and is the same each time."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from click.testing import CliRunner
from fluvial.cli.lab_consensus import consensus
from fluvial.consensus.lab.charts import ChartLine, LineChart, number_text
from fluvial.consensus.lab.compare import compare, good_case, over_seeds
from fluvial.consensus.lab.comparison_page import page, text
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import Partition, Role

from tests.support.algorithms import DAG, SCHEDULES, SIMPLEX

CALM = good_case("calm & <good>", 4, end_ms=300)
SPLIT = msgspec.structs.replace(
    good_case("split", 4, end_ms=900),
    faults=[Partition(at_ms=100, until_ms=400, groups=[[0, 1]])],
    byzantine=[Role(3, "impersonate")],
)


@pytest.fixture(scope="module")
def written() -> tuple[str, str]:
    """A page, and the summary."""
    run = compare([CALM, SPLIT], [SIMPLEX, DAG], seeds=2, sizes=[4, 5], loads=[100])
    return page(run), text(run)


def test_the_page_is_one_file_without_scripts_or_links(written: tuple[str, str]) -> None:
    html, _ = written
    assert "<script" not in html
    assert "http" not in html
    assert "calm &amp; &lt;good&gt;" in html
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert len(drawings) > 12
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_the_same_runs_give_the_same_bytes() -> None:
    one, other = (compare([SPLIT], [SIMPLEX], seeds=1, sizes=[4], loads=[]) for _ in range(2))
    assert (page(one), text(one)) == (page(other), text(other))


def test_the_summary_says_what_was_measured(written: tuple[str, str]) -> None:
    lines = [line.split() for line in written[1].replace("calm & <good>", "calm").splitlines()]
    assert ["calm", "simplex", "2/2", "3"] in [line[:4] for line in lines]
    assert "simplex, 5 validators: commit after 3 δ" in written[1]


def test_measures_are_what_happens() -> None:
    calm = over_seeds(CALM, SIMPLEX, 1)
    assert (calm.delay.median, calm.delay.worst) == (3, 3)
    assert calm.recovery.median is None
    assert calm.first is not None
    assert calm.first.height == pytest.approx(14, abs=1)
    troubled = over_seeds(SPLIT, SIMPLEX, 1)
    assert troubled.gap.worst is not None
    assert troubled.gap.worst >= 3
    assert troubled.recovery.worst is not None
    assert 0 < troubled.recovery.worst < 5


def test_what_cannot_be_run_is_said() -> None:
    traits = msgspec.structs.replace(SIMPLEX.traits, reseal=None)
    bare = Algorithm(name="bare", make=SIMPLEX.make, options=SIMPLEX.options, traits=traits)
    found = over_seeds(SPLIT, bare, 1)
    assert (found.runs, "reseal" in found.skipped) == (0, True)


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("points", [[(1, 1)], [(0, 0)], [(1, 0.001), (1000, 5)], [(3, 7), (3, 7)], []])
def test_any_numbers_can_be_drawn(points: list[tuple[float, float]], logarithmic: bool) -> None:
    lines = [ChartLine(name="a", points=points, colour=0)] if points else []
    drawn = LineChart(about="x", x="x", y="y", lines=lines, logarithmic=logarithmic).svg()
    assert "nan" not in drawn
    ElementTree.fromstring(drawn.replace("class=none", 'class="none"'))


def test_numbers_are_short() -> None:
    assert [number_text(one, 2) for one in (None, 3.0, 3.456, 12345.6, 0.0)] == ["–", "3", "3.46", "12,346", "0"]


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    report = tmp_path / "page.html"
    call = [str(SCHEDULES[-8]), "--algorithm", "simplex", "--sizes", "4", "--loads", "50", "--report", str(report)]
    done = CliRunner().invoke(consensus, ["compare", *call])
    assert done.exit_code == 0, done.output
    assert "p01-good-case" in done.output
    assert report.read_text().startswith("<!doctype html>")
    wrong = CliRunner().invoke(consensus, ["compare", str(SCHEDULES[-8]), "--algorithm", "simplex", "--sizes", "x"])
    assert wrong.exit_code == 2
