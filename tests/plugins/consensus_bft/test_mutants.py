"""The schedules notice what is wrong with broken Simplexes."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import read_schedule
from fluvial_consensus_bft.plugin import TRAITS
from fluvial_consensus_bft.simplex import Simplex

from tests.plugins.consensus_bft.mutants import KILLERS

SCHEDULES = Path(__file__).parents[2] / "conformance" / "consensus"


@pytest.mark.parametrize("mutant", KILLERS, ids=lambda one: one.__name__)
def test_a_schedule_kills(mutant: type[Simplex]) -> None:
    name, thousands = KILLERS[mutant]
    schedule = read_schedule(SCHEDULES / f"{name}.json")
    algorithm = Algorithm(name="simplex", make=lambda setup, options: mutant(setup), options=None, traits=TRAITS)
    report = play(schedule, algorithm, schedule.seed + 1000 * thousands)
    assert not report["passed"], f"{mutant.__doc__} and nobody notices"


def test_there_are_enough_of_them() -> None:
    assert len(KILLERS) >= 12
