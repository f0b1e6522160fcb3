"""Who lacks vertices gets them, a bundle at a time, and an answer costs no more than what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from fluvial.consensus.effects import Effect, Send
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import MessageReceived, TimerFired
from fluvial.consensus.lab.keys import keys_of
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import NOTHING
from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.messages import BUNDLE_MAX, Bundle, NewVertex, Parent, Pull, Vertex, read_dag_message

from tests.plugins.consensus_dag.drawing import VALIDATORS

PEERS = VALIDATORS.peers


SOMEBODY = keys_of("somebody").peer_id


def follower(me: PeerId = SOMEBODY) -> Dag:
    """An engine that makes no vertices, unless it is a validator's, and believes all signatures."""
    setup = EngineSetup(
        me=me,
        sign=lambda message: bytes(64),
        verify=lambda key, signature, message: True,
        chain=bytes(32),
        epoch=0,
        validators=VALIDATORS,
        anchor=Anchor(0, 0, NOTHING, bytes(32), 0),
        delta_ms=100,
    )
    return Dag(setup)


def hears(engine: Dag, vertex: Vertex) -> Sequence[Effect]:
    """A vertex comes from its author."""
    return engine.handle(MessageReceived(PEERS[vertex.author], encode(NewVertex(vertex))), 1)


def rounds(many: int, authors: Sequence[int] = range(4)) -> Iterator[Vertex]:
    """The vertices of validators when all is well, oldest first."""
    before: tuple[Parent, ...] = ()
    for number in range(1, many + 1):
        made = [Vertex(0, number, author, before, b"", number, bytes(64)) for author in authors]
        yield from made
        before = tuple(one.reference for one in made)


GRAPH = list(rounds(150))


@pytest.fixture(scope="module")
def knowing() -> Dag:
    engine = follower()
    engine.start([], 0)
    for vertex in GRAPH:
        hears(engine, vertex)
    return engine


def sent(effects: Sequence[Effect]) -> list[tuple[PeerId, Bundle | Pull]]:
    found = [(one.to, read_dag_message(one.data)) for one in effects if isinstance(one, Send)]
    return [(to, message) for to, message in found if isinstance(message, Bundle | Pull)]


CLOCK = count(1_000, 1_000)


def answer(engine: Dag, pull: Pull) -> Sequence[Vertex]:
    """What an engine answers, after a pause."""
    found = sent(engine.handle(MessageReceived(PEERS[1], encode(pull)), next(CLOCK)))
    return [vertex for _, message in found if isinstance(message, Bundle) for vertex in message.vertices]


class CountingVertices(dict[bytes, Vertex]):
    """Counts how often it is asked."""

    asked = 0

    def get(self, name: bytes, default: object = None) -> Vertex | None:  # type: ignore[override]
        self.asked += 1
        return super().get(name)

    def __getitem__(self, name: bytes) -> Vertex:
        self.asked += 1
        return super().__getitem__(name)


def test_who_has_nothing_gets_the_oldest_first_and_an_answer_looks_at_no_more(
    knowing: Dag, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = CountingVertices(knowing._graph.vertices)
    monkeypatch.setattr(knowing._graph, "vertices", counting)
    for have in ((0, 0, 0, 0), (0, 150, 150, 150)):
        counting.asked = 0
        found = answer(knowing, Pull((), have))
        lacking = [one for one in GRAPH if one.round > have[one.author]]
        assert list(found) == lacking[:BUNDLE_MAX]
        assert counting.asked <= BUNDLE_MAX + 20


def test_what_was_asked_for_by_name_comes_with_what_is_lacking_below(knowing: Dag) -> None:
    asked = [one for one in GRAPH if one.round == 100 and one.author in (1, 2)]
    found = answer(knowing, Pull(tuple(one.id for one in asked), (98, 99, 99, 99)))
    assert [(one.round, one.author) for one in found] == [(99, 0), (100, 1), (100, 2)]
    again = answer(knowing, Pull((asked[0].id,), (150, 150, 150, 150)))
    assert list(again) == asked[:1], "whatever it says that it has"


def test_nobody_who_has_all_gets_anything(knowing: Dag) -> None:
    assert not answer(knowing, Pull((), (150, 150, 150, 150)))


@pytest.mark.parametrize("known", [0, 3, 60], ids=("nothing", "the beginning", "much"))
def test_whoever_lacks_much_has_all_after_a_few_pulls(knowing: Dag, known: int) -> None:
    late = follower()
    late.start([], 0)
    for vertex in GRAPH[: 4 * known]:
        hears(late, vertex)
    newest = GRAPH[-1]
    pulls = sent(late.handle(MessageReceived(PEERS[1], encode(NewVertex(newest))), 2))
    now = 2
    for _ in range(6):
        now += 1_000
        bundles = [Bundle(tuple(answer(knowing, pull))) for _, pull in pulls if isinstance(pull, Pull)]
        pulls = [one for each in bundles for one in sent(late.handle(MessageReceived(PEERS[1], encode(each)), now))]
        pulls = pulls or sent(late.handle(TimerFired("stall"), now))[:1]
    assert late.inspect()["vertices"] == len(GRAPH)
    assert late.inspect()["decided"] == knowing.inspect()["decided"]
