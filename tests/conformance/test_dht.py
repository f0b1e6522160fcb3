"""Scenarios of the DHT whose outcome is known: each within the bounds that its file states, from the command line on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial_dht_kademlia.lab.cli import dht

FOLDER = Path(__file__).parent / "dht"
FILES = sorted(FOLDER.glob("*.json"))


def judge(scenario: dict[str, Any], outcome: dict[str, Any]) -> None:
    expect = scenario.get("expect", {})
    for bound, value in expect.items():
        what, _, side = bound.rpartition("_")
        got = min(outcome[what]) if isinstance(outcome[what], list) else outcome[what]
        assert got >= value if side == "min" else got <= value, (bound, got)
    if scenario["kind"] == "providers":
        assert outcome["order"] == scenario["expect_order"]
        assert outcome["weightless"] == scenario["expect_weightless"]
    if scenario["kind"] == "bucket":
        weights = dict(scenario["arrivals"])
        assert set(scenario["expect_present"]) <= set(outcome["present"])
        assert not set(scenario["expect_absent"]) & set(outcome["present"])
        assert sum(weights[peer] == 0 for peer in outcome["present"]) >= scenario["expect_weightless_min"]
    if scenario["kind"] == "challenge":
        assert outcome["accepted"] == {case["case"]: case["accept"] for case in scenario["cases"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_scenario_ends_within_its_bounds(path: Path) -> None:
    result = CliRunner().invoke(dht, ["run", str(path)], catch_exceptions=False)
    outcome = json.loads(result.output)
    scenario = json.loads(path.read_text())
    assert outcome["name"] == scenario["name"]
    judge(scenario, outcome)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = (
        CliRunner().invoke(dht, ["run", str(FOLDER / "quiet-small.json")], catch_exceptions=False).output
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "lookup", "name": "x"}', '{"kind": "dance", "name": "x"}'])
def test_a_file_that_is_no_scenario_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    result = CliRunner().invoke(dht, ["run", str(path)])
    assert result.exit_code != 0
    assert "bad.json" in str(result.exception)
