"""What an engine keeps, and what it writes, is bounded by the rounds that may still matter."""

from __future__ import annotations

import gc

import pytest
from fluvial.consensus.effects import BuildPayload, Persist
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import PayloadBuilt
from fluvial.consensus.lab.keys import keys_of
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
    for vertex in GRAPH:
        hears(engine, vertex)
    assert engine.inspect()["decided"] > 100
    assert vertices_in_memory() - before <= 4 * 30


def test_all_that_matters_is_written_in_small_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "RECORDS_MAX", 10)
    monkeypatch.setattr(messages, "RECORD_BYTES_MAX", 2_000)
    engine = alone()
    written: list[Persist] = []
    effects = list(engine.start([], 0))
    for number in range(1, 36):
        assert [one.bytes_max for one in effects if isinstance(one, BuildPayload)] == [VERTEX_PAYLOAD_BYTES_MAX]
        effects = list(engine.handle(PayloadBuilt(number, bytes(500), b"", number), number))
        written += [one for one in effects if isinstance(one, Persist)]
    assert max(len(one.record) for one in written) < 4_000
    newest = max(number for number, one in enumerate(written) if one.fresh)
    assert newest > 30
    again = alone()
    effects = list(again.start([one.record for one in written[newest:]], 0))
    assert again.inspect() == engine.inspect()
    assert [one.request for one in effects if isinstance(one, BuildPayload)] == [36]
