"""Services made from modules in WebAssembly text: what making and calling them gives, and that a neighbour answers meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial_fce_wasm.cli.lab import fce

FOLDER = Path(__file__).parent / "fce"
FILES = [FOLDER / "public.json", FOLDER / "cases.json"]
NEIGHBOUR_S_MAX = 1.0
LATE_S_MAX = 2.0


def agrees(expected: dict[str, Any], outcome: dict[str, Any]) -> bool:
    if "ok" in expected:
        return "ok" in outcome and json.dumps(outcome["ok"]) == json.dumps(expected["ok"])
    return outcome.get("error") in expected["error"] and bool(outcome["message"])


def differences(case: dict[str, Any], outcome: dict[str, Any]) -> list[object]:
    found: list[object] = []
    created = case.get("create", {"ok": True})
    if not agrees(created, outcome["create"]):
        found.append(outcome["create"])
    calls = case.get("calls", []) if created == {"ok": True} else []
    assert len(outcome["calls"]) == len(calls)
    found += [
        (call["f"], call["expect"], got)
        for call, got in zip(calls, outcome["calls"], strict=True)
        if not agrees(call["expect"], got)
    ]
    if outcome["neighbour_max_seconds"] > NEIGHBOUR_S_MAX:
        found.append(outcome["neighbour_max_seconds"])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_case_gives_what_its_file_says(path: Path) -> None:
    result = CliRunner().invoke(fce, ["run", str(path)], catch_exceptions=False)
    outcomes = [json.loads(line) for line in result.output.splitlines()]
    cases = json.loads(path.read_text())["cases"]
    assert [one["name"] for one in outcomes] == [one["name"] for one in cases]
    wrong = {
        case["name"]: found for case, one in zip(cases, outcomes, strict=True) if (found := differences(case, one))
    }
    assert wrong == {}


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": 1}]', '{"cases": 7}'])
def test_a_file_that_has_no_cases_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    result = CliRunner().invoke(fce, ["run", str(path)])
    assert result.exit_code != 0
    assert "bad.json" in str(result.exception)
