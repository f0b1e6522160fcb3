"""The simulation does what the reference interpreter did: written scenarios, and generated ones."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import pytest
from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import differences, expected_file, missing, play, scenario_files
from tests.conformance.reference_rules import Rule, reference_rules
from tests.reevaluating.machine import Machine as Reevaluating

HERE: Final = Path(__file__).parent
WRITTEN: Final = scenario_files(HERE / "air")
ELSEWHERE: Final = Path(os.environ.get("FLUVIAL_CONFORMANCE", HERE.parents[2] / "shared" / "conformance"), "air")
"""A newer collection of scenarios, where there is one."""

GENERATED: Final[dict[str, dict[str, Any]]] = {
    line["scenario"]["name"]: line
    for path in sorted((HERE / "generated").glob("*.jsonl"))
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())
}
DEVIATING: Final = [name for name, line in GENERATED.items() if "differs" in line]
EQUAL: Final = [name for name, line in GENERATED.items() if "differs" not in line]


def generated(name: str) -> tuple[Scenario, Any]:
    line = GENERATED[name]
    return msgspec.convert(line["scenario"], Scenario), line["expected"]


def rules(name: str) -> list[Rule]:
    """The rules of the reference that explain why fluvial does something else."""
    reasons: list[Rule] = GENERATED[name]["differs"].split(" and ")
    return reasons


def test_scenarios_are_all_here() -> None:
    assert len(WRITTEN) >= 71
    assert len(EQUAL) >= 230
    assert {rule for name in DEVIATING for rule in rules(name)} == set(get_args(Rule))


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_written_scenario(path: Path) -> None:
    assert differences(json.loads(expected_file(path).read_bytes()), play(Scenario.load(path))) == []


def test_scenarios_kept_elsewhere() -> None:
    for path in scenario_files(ELSEWHERE):
        found = differences(json.loads(expected_file(path).read_bytes()), play(Scenario.load(path)))
        assert found == [], path.name


@pytest.mark.parametrize("name", EQUAL)
def test_generated_scenario(name: str) -> None:
    scenario, expected = generated(name)
    assert differences(expected, play(scenario)) == []


@pytest.mark.parametrize("name", DEVIATING)
def test_generated_scenario_differs_for_known_reasons(name: str) -> None:
    scenario, expected = generated(name)
    ours = play(scenario)
    assert differences(expected, ours), "this scenario does not differ any more"
    with reference_rules(rules(name)):
        assert differences(expected, play(scenario, machine=Reevaluating)) == []
    if rules(name) == ["sent"]:
        assert missing(expected, ours) == [], "never a call fewer than the reference"
