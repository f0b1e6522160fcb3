"""All of a view, for each run of the tests; more views are a command of its own (``explore.py``)."""

from __future__ import annotations

import pytest
from fluvial_consensus_bft.simplex import Simplex

from tests.plugins.consensus_bft.explore import Exploration, Unsafe
from tests.plugins.consensus_bft.mutants import FinalizesAfterNullify, NotarizesTwice, NullifiesAfterFinalize


@pytest.mark.parametrize(
    ("start", "states", "final"), [(2, 104, 2), (1, 51, 1)], ids=["a liar leads", "the liar follows"]
)
def test_a_view_is_safe_in_every_order_of_events(start: int, states: int, final: int) -> None:
    found = Exploration(1, start=start).run()
    assert (found.states, found.final_blocks, found.whole) == (states, final, True)


def test_a_part_of_two_views_is_safe() -> None:
    found = Exploration(2).run(states_max=500)
    assert found.states >= 500
    assert not found.whole


@pytest.mark.parametrize("mutant", [FinalizesAfterNullify, NotarizesTwice, NullifiesAfterFinalize])
def test_the_exploration_finds_what_is_unsafe(mutant: type[Simplex]) -> None:
    with pytest.raises(Unsafe, match="offence"):
        Exploration(2, mutant).run(states_max=20_000)


def test_one_traitor_too_many_is_found() -> None:
    with pytest.raises(Unsafe, match="exclude each other"):
        Exploration(1, needed=1).run()
