"""The scripts of the conformance scenarios are accepted and refused as the reference interpreter does it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fluvial.air.syntax import AirSyntaxError, format_text, parse, to_text

SCENARIOS = Path(__file__).parents[3] / "conformance" / "air"
NAMES = sorted(path.stem for path in SCENARIOS.glob("*.json") if not path.name.endswith(".expected.json"))
DOES_NOT_PARSE = 1


def test_the_scenarios_are_there() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_script(name: str) -> None:
    script = json.loads((SCENARIOS / f"{name}.json").read_text())["script"]
    expected = json.loads((SCENARIOS / f"{name}.expected.json").read_text())
    if any(failure["code"] == DOES_NOT_PARSE for failure in expected["failures"]):
        with pytest.raises(AirSyntaxError):
            parse(script)
        return
    parsed = parse(script)
    assert not parsed.paper
    assert parse(to_text(parsed.root)) == parsed
    assert parse(format_text(script)) == parsed
