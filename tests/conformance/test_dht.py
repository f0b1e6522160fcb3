"""Scenarios of the DHT whose outcome is known: each within the bounds that its file states, from the command line on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from fluvial_dht_kademlia.lab.cli import dht
from fluvial_dht_kademlia.lab.scenario import RevocationSpec, TrustSpec
from fluvial_dht_kademlia.lab.trust_weights import weights_at

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
        weights = dict(scenario["arrivals"]) if "roots" not in scenario else scenario["weights"]
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


GRAPHS = [path for path in sorted((FOLDER.parent / "trust_graph").glob("*.json")) if '"now"' in path.read_text()]
"""Those that ask about one moment."""


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: path.stem)
def test_weights_of_the_laboratory_are_those_of_the_trust_graph(path: Path) -> None:
    file = json.loads(path.read_text())
    weights = weights_at(
        file["now"],
        roots=[tuple(root) for root in file["roots"]],
        trusts=[msgspec.convert(trust, TrustSpec) for trust in file["trusts"]],
        revocations=[msgspec.convert(one, RevocationSpec) for one in file.get("revocations", ())],
    )
    expected = {peer: weight for peer, weight in file["expect_weights"].items() if isinstance(weight, int)}
    assert {peer: weights.get(peer, 0) for peer in expected} == expected


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
