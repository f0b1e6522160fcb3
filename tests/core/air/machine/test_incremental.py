"""The incremental machine does what the plain one does, after every single step of random flows."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest
from fluvial.air.syntax import parse
from fluvial.air.syntax.words import INSTRUCTIONS
from fluvial.simulation.scenario import Seeded

from tests.fuzz.generator import scenario
from tests.fuzz.twins import WAYS, Budget, TooLongError, compare_in

SEED: Final = 2026
SCENARIOS: Final = range(200)
ROWS: Final = [range(start, start + 50) for start in SCENARIOS[::50]]
TOO_LONG_MAX: Final = 3
"""How many of a row may make too many calls."""


def compared(row: range, way: str) -> list[Budget]:
    """What was compared, scenario by scenario, two of three with shuffled deliveries."""
    done = []
    for number in row:
        order = Seeded(number) if number % 3 else "fifo"
        try:
            done.append(compare_in(msgspec.structs.replace(scenario(SEED, number), order=order), way, seed=number))
        except TooLongError:
            continue
    assert len(done) >= len(row) - TOO_LONG_MAX
    return done


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_incremental_machine_does_what_the_plain_one_does(row: range, way: str) -> None:
    done = compared(row, way)
    assert all(budget.runs for budget in done)
    if way == "restored after every run":
        assert all(budget.restored for budget in done)
    if way == "batches overtake":
        assert sum(budget.refused for budget in done) >= 3


def test_generated_scenarios_are_valid_repeatable_and_have_every_instruction() -> None:
    scripts = [scenario(SEED, number).script for number in SCENARIOS]
    assert scripts == [scenario(SEED, number).script for number in SCENARIOS]
    assert len(set(scripts)) > 0.99 * len(scripts)
    for script in scripts:
        parse(script)
    whole = " ".join(scripts)
    assert [name for name in INSTRUCTIONS if f"({name}" not in whole] == []
    for operand in (":error:", "%last_error%", "%timestamp%", "(fold $", "(fold %", "(fold #c", "(fold #%", "(fold []"):
        assert operand in whole
