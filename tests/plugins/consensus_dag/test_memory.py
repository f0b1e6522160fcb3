"""What an engine keeps, and what it writes, is bounded by the rounds that may still matter."""

from __future__ import annotations

import gc

import pytest
from fluvial.consensus.effects import BuildPayload, Forget, Persist
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import PayloadBuilt
from fluvial.consensus.lab.keys import keys_of
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import NOTHING, Validator, ValidatorSet
from fluvial_consensus_dag import dag, messages
from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.messages import VERTEX_PAYLOAD_BYTES_MAX, Vertex

from tests.plugins.consensus_dag.test_pulls import GRAPH, follower, hears

ALONE = keys_of("node 0").peer_id


def alone() -> Dag:
    """The only validator."""
    setup = EngineSetup(
        me=ALONE,
        sign=lambda message: bytes(64),
        verify=lambda key, signature, message: True,
        chain=bytes(32),
        epoch=0,
        validators=ValidatorSet([Validator(str(ALONE))]),
        anchor=Anchor(0, 0, NOTHING, bytes(32), 0),
        delta_ms=100,
    )
    return Dag(setup)


def vertices_in_memory() -> int:
    gc.collect()
    return sum(type(one) is Vertex for one in gc.get_objects())


def test_who_makes_no_vertices_keeps_those_of_the_last_rounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)
    before = vertices_in_memory()
    engine = follower()
    engine.start([], 0)
    for vertex in GRAPH:
        hears(engine, vertex)
    assert engine.inspect()["decided"] > 100
    assert vertices_in_memory() - before <= 4 * 30


def test_what_is_not_needed_any_more_is_forgotten_and_nothing_is_written_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "RECORDS_MAX", 10)
    monkeypatch.setattr(dag, "DEPTH", 20)
    monkeypatch.setattr(dag, "SLACK", 5)
    engine = alone()
    kept: list[bytes] = []
    written = 0
    effects = list(engine.start([], 0))
    for number in range(1, 121):
        assert [one.bytes_max for one in effects if isinstance(one, BuildPayload)] == [VERTEX_PAYLOAD_BYTES_MAX]
        effects = list(engine.handle(PayloadBuilt(number, bytes(500), b"", number), number))
        for one in effects:
            match one:
                case Persist(record):
                    kept.append(record)
                    written += len(record)
                case Forget(keep):
                    del kept[:-keep]
        if number % 10 in (1, 9):
            again = alone()
            restarted = again.start(kept, 0)
            assert again.inspect()["decided"] == engine.inspect()["decided"]
            assert [one.request for one in restarted if isinstance(one, BuildPayload)] == [number + 1]
    assert len(kept) < 50
    assert written < 120 * 800 + 12 * 2_000


@pytest.mark.parametrize(("authors", "most"), [(1, 1 << 18), (4, 1 << 18), (8, 1 << 17), (100, 9 << 13)])
def test_the_more_authors_there_are_the_smaller_are_their_vertices(authors: int, most: int) -> None:
    assert messages.payload_max(authors) == most


def test_vertices_that_are_written_together_make_small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "RECORD_BYTES_MAX", 2_000)
    records = list(messages.vertex_records(GRAPH[:100]))
    assert [vertex for one in records for vertex in one.vertices] == GRAPH[:100]
    assert max(len(encode(one)) for one in records) < 4_000
