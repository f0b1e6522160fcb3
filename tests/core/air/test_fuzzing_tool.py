"""What the fuzzer finds can be found again with the command that it prints."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fluvial.simulation.scenario import Scenario

from tests.fuzz import air
from tests.fuzz.sources import own_cases
from tests.fuzz.twins import DifferenceError


def test_a_case_is_compared_in_the_same_way_when_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared: list[tuple[str, str, int]] = []

    def differ(scenario: Scenario, way: str, *, seed: int) -> Any:
        compared.append((scenario.script, way, seed))
        raise DifferenceError("they differ")

    monkeypatch.setattr(air, "compare_in", differ)

    def fuzz(first: int, many: int) -> None:
        fuzzing = air.Fuzzing(math.inf, None, machines=True, found_max=1000, kept=None)
        monkeypatch.setattr(fuzzing, "_compare_pruned", lambda case: None)
        fuzzing.run(own_cases(range(7, 8), first, many))

    fuzz(0, 4)
    whole = compared.copy()
    assert len({way for _, way, _ in whole}) > 1
    assert "python -m tests.fuzz.air --seeds 7 --first 3 --count 1: they differ" in capsys.readouterr().out
    compared.clear()
    fuzz(3, 1)
    assert compared == whole[-len(compared) :]
