"""Evidence: two answers of one signer for one instance, and nothing else, convict."""

from __future__ import annotations

import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.evidence import Equivocation, close, equivocations, reveals
from fluvial.air.data.facts import CallFailure, CanonFact, Fact, Instance, Result, Sent, Step, Taken
from fluvial.identity import KeyPair

from tests.core.air.data.test_batch import CANON, ELEMENT, FAILURE, FRAME, KEYS, OTHER, OTHERS, RESULT, change, seal


def batch(*facts: Fact, keys: KeyPair = KEYS) -> Batch:
    return seal((Step(), *facts), keys=keys)


OTHER_RESULT: Result = change(RESULT, value=content_id("other"))
FAILED = CallFailure(RESULT.frame, RESULT.node, "s", "f", RESULT.arguments, 1, '"no"')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RESULT, OTHER_RESULT),
        (RESULT, change(RESULT, arguments=())),
        (RESULT, FAILED),
        (FAILURE, change(FAILURE, message='"worse"')),
        (CANON, change(CANON, elements=())),
        (CANON, change(CANON, elements=(ELEMENT, ELEMENT))),
        (RESULT, CanonFact(RESULT.frame, RESULT.node, ())),
    ],
)
def test_two_answers_convict(one: Result | CallFailure | CanonFact, other: Result | CallFailure | CanonFact) -> None:
    first, second = batch(one), batch(other)
    instance = Instance(one.frame, one.node)
    (found,) = equivocations([first, batch(Sent(b"", 1, True)), second])
    assert found == Equivocation(KEYS.peer_id, instance, (first.id, second.id), (one, other))
    (turned,) = equivocations([second, first])
    assert (turned.batches, turned.answers) == ((second.id, first.id), (other, one))
    both = batch(one, other)
    assert equivocations([both])[0].batches == (both.id, both.id)


@pytest.mark.parametrize(
    "facts",
    [
        (RESULT, RESULT),
        (RESULT, change(RESULT, node=9)),
        (RESULT, change(RESULT, frame=FRAME)),
        (Taken(b"", 1), RESULT),
        (Sent(b"", 1, False), Sent(b"", 1, True), Taken(b"", 1)),
        (close([RESULT]), RESULT),
    ],
)
def test_what_does_not_contradict_itself_does_not_convict(facts: tuple[Fact, ...]) -> None:
    assert equivocations([batch(*facts)]) == []
    assert equivocations([batch(fact) for fact in facts]) == []


def test_answers_of_two_signers_convict_neither() -> None:
    assert equivocations([batch(RESULT), batch(OTHER_RESULT, keys=OTHER)]) == []


def test_one_piece_of_evidence_for_each_signer_and_instance() -> None:
    third: Result = change(RESULT, value=content_id("third"))
    lies = [batch(fact, keys=keys) for fact in (RESULT, OTHER_RESULT, third) for keys in (KEYS, OTHER)]
    lies.append(batch(FAILURE, change(FAILURE, status=2)))
    found = equivocations(lies)
    assert [(one.signer, one.instance.node) for one in found] == [
        (KEYS.peer_id, RESULT.node),
        (OTHER.peer_id, RESULT.node),
        (KEYS.peer_id, FAILURE.node),
    ]
    assert found[0].answers == (RESULT, OTHER_RESULT)


# --- closed calls

ROW: list[Result] = [change(RESULT, node=node) for node in (3, 4, 9)]


def test_only_the_answers_that_were_closed_are_those_that_were_closed() -> None:
    closed = close(ROW)
    assert (closed.frame, closed.nodes) == (RESULT.frame, (3, 4, 9))
    assert reveals(closed, ROW)
    assert reveals(closed, ROW[::-1]), "in whatever order they come"
    others: list[Result] = [change(ROW[1], **{field: OTHERS[Result][field]}) for field in OTHERS[Result]]
    for some in [[], ROW[:2], [*ROW, RESULT], [ROW[0], ROW[0], ROW[2]], *([ROW[0], other, ROW[2]] for other in others)]:
        assert not reveals(closed, some)
    assert not reveals(change(closed, frame=FRAME), ROW)
    assert not reveals(change(closed, nodes=(3, 4, 8)), ROW)
