"""Vertices that wait for their parents: an author who lies has its part of the room, and takes that of nobody else."""

from __future__ import annotations

import os
import tracemalloc

import pytest
from fluvial.consensus.events import MessageReceived
from fluvial.encoding import encode
from fluvial.ledger.statements import VERTEX, signed_bytes
from fluvial_consensus_dag import pending as pending_module
from fluvial_consensus_dag.messages import Bundle, NewVertex, Parent, Vertex, read_dag_message
from fluvial_consensus_dag.pending import PendingVertices, weight_of

from tests.plugins.consensus_dag.test_dag import KEYS, arrives, signed, validator

PART = 16_384


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "PENDING_BYTES_MAX", 4 * PART)
    monkeypatch.setattr(pending_module, "PART_BYTES_MIN", 0)


def lone(number: int, author: int = 1, *, payload: int = 3_000, parents: tuple[Parent, ...] = ()) -> Vertex:
    """A vertex whose parents nobody has."""
    unknown = parents or tuple(Parent(number - 1, one, os.urandom(32)) for one in (1, 2, 3))
    unsigned = Vertex(0, number, author, unknown, bytes(payload), 0, bytes(64))
    signature = KEYS[author].sign(signed_bytes(bytes(32), VERTEX, 0, number, unsigned.id))
    return Vertex(0, number, author, unknown, bytes(payload), 0, signature)


def test_what_one_author_lets_wait_is_bounded_in_bytes_and_the_highest_rounds_go() -> None:
    engine = validator(0)
    engine.start([], 0)
    for number in range(900, 1, -9):
        arrives(engine, lone(number))
    kept = engine._pending
    assert sum(weight_of(one) for one in kept._vertices.values()) <= PART
    assert max(one.round for one in kept._vertices.values()) < 50
    assert set(kept.wanted) == {parent.id for one in kept._vertices.values() for parent in one.parents}


def test_what_a_liar_wants_of_itself_counts_as_well() -> None:
    """What is named as a parent is wanted, and was taken however much there was."""
    engine = validator(0)
    engine.start([], 0)
    chain = [lone(1_000)]
    while len(chain) < 50:
        above = 1_000 + len(chain)
        others = tuple(Parent(above - 1, one, os.urandom(32)) for one in (2, 3))
        chain.append(lone(above, parents=(chain[-1].reference, *others)))
    for one in reversed(chain):
        engine.handle(MessageReceived(KEYS[1].peer_id, encode(Bundle((one,)))), 1)
    assert sum(weight_of(one) for one in engine._pending._vertices.values()) <= PART


def test_an_honest_author_finds_room_beside_a_liar_and_goes_on_when_the_parents_come() -> None:
    engine = validator(0)
    engine.start([], 0)
    for number in range(2, 30):
        arrives(engine, lone(number))
    parents = [signed(1, author) for author in (1, 2, 3)]
    arrives(engine, signed(2, 3, parents))
    engine.handle(MessageReceived(KEYS[3].peer_id, encode(Bundle(tuple(parents)))), 2)
    assert engine.inspect()["vertices"] == 4
    assert all(one.author == 1 for one in engine._pending._vertices.values())


def test_several_liars_do_not_take_the_room_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "PENDING_MAX", 20)
    monkeypatch.setattr(pending_module, "PART_MIN", 1)
    engine = validator(0)
    engine.start([], 0)
    for number in range(2, 50):
        arrives(engine, lone(number, 1, payload=0))
        arrives(engine, lone(number, 2, payload=0))
    honest = lone(9, 3)
    arrives(engine, honest)
    kept = engine._pending
    assert honest.id in kept
    assert len(kept) == 5 + 5 + 1


@pytest.mark.parametrize(("parents", "payload"), [(0, 0), (3, 500), (40, 0)])
def test_a_vertex_is_not_underrated(monkeypatch: pytest.MonkeyPatch, parents: int, payload: int) -> None:
    monkeypatch.setattr(pending_module, "PENDING_BYTES_MAX", 1 << 20)
    made = [
        Vertex(
            0, 10**6 + one, 0, tuple(Parent(10**6 - 1, 300 + k, os.urandom(32)) for k in range(parents)),
            os.urandom(payload), 10**12, os.urandom(64),
        )
        for one in range(50)
    ]  # fmt: skip
    encoded = [encode(NewVertex(one)) for one in made]
    waiting = PendingVertices(1)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for data in encoded:
            message = read_dag_message(data)
            assert isinstance(message, NewVertex)
            assert waiting.put(message.vertex, message.vertex.parents)
            del message
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < sum(map(weight_of, made)) + 2_000
