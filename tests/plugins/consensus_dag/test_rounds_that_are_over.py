"""Parents of rounds that are over are taken on trust: who lies about them keeps no honest validators apart."""

from __future__ import annotations

import os

import pytest
from fluvial_consensus_dag import dag
from fluvial_consensus_dag.messages import Parent

from tests.plugins.consensus_dag.honest_network import LIAR, HonestNetwork


def agree(network: HonestNetwork) -> bool:
    """Whether all have ordered the same, as far as they have come."""
    shortest = min(map(len, network.orders.values()))
    first, *others = [orders[:shortest] for orders in network.orders.values()]
    return shortest > 5 and all(one == first for one in others)


def test_what_a_vertex_says_of_a_round_that_is_over_decides_nothing() -> None:
    """It names a vertex that one of them has, with a round in which that is not; who does not have it could not see that, and stood on it."""
    network = HonestNetwork()
    number = network.run(10)
    mine = network.vertex(number - 1)
    network.says(mine, 0)
    network.says(network.vertex(number, Parent(0, LIAR, mine.id)))
    assert network.run(10) >= number + 10
    assert agree(network)


def test_who_forgets_a_round_first_stands_on_nothing_that_others_never_accept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that nobody has, of a round that is over for one of them and not yet for the others."""
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)
    network = HonestNetwork()
    network.run(20)
    floors = network.floors
    while len(set(floors)) == 1:
        network.run(1, steps_max=1)
        floors = network.floors
    assert set(floors) == {1, 5}, "they forget the same rounds at the same slots"
    first = floors.index(5)
    number = network.engines[first].inspect()["view"] + 1
    network.says(network.vertex(number, Parent(4, LIAR, os.urandom(32)), as_known_by=first))
    assert network.run(20) >= number + 15
    assert agree(network)
