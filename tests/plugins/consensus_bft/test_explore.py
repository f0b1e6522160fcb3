"""A part of the exploration, for each run of the tests; the whole is a command of its own (``explore.py``)."""

from __future__ import annotations

import pytest
from fluvial_consensus_bft.simplex import Simplex

from tests.plugins.consensus_bft.explore import Unsafe, explore, first_world
from tests.plugins.consensus_bft.mutants import FinalizesAfterNullify, NotarizesTwice


def test_no_order_of_events_is_unsafe() -> None:
    assert explore(first_world(1), states_max=1_000) == (1_000, False)


@pytest.mark.parametrize("mutant", [FinalizesAfterNullify, NotarizesTwice])
def test_the_exploration_finds_what_is_unsafe(mutant: type[Simplex]) -> None:
    with pytest.raises(Unsafe, match="offence"):
        explore(first_world(1, mutant), states_max=20_000)
