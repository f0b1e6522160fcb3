"""Evidence against peers that contradict themselves.

An instance has one answer: a call comes to one result or failure, a canon fixes one content. An honest peer signs one, once. Two
different ones under its signature convict it, before anybody who has the two batches and the particle: no other peer could have made
them. To the machine only the first one counts (``machine.knowledge``).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Final, TypeAlias, cast

import msgspec

from fluvial.air.data.batch import Batch, BatchId
from fluvial.air.data.content import merkle_root
from fluvial.air.data.facts import CallFailure, CanonFact, Closed, Instance, Result
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.encoding import encode
from fluvial.identity import PeerId

Answer: TypeAlias = Result | CallFailure | CanonFact
"""What there is at most one of for an instance and a signer."""


class Equivocation(msgspec.Struct, frozen=True):
    """Two answers of one peer to one question.

    Attributes:
        signer: who contradicts itself.
        instance: what both answers are about.
        batches: ids of the batches that hold them; twice the same if one batch holds both.
        answers: the two, which differ.
    """

    signer: PeerId
    instance: Instance
    batches: tuple[BatchId, BatchId]
    answers: tuple[Answer, Answer]


def equivocations(batches: Iterable[Batch]) -> list[Equivocation]:
    """Whoever contradicts itself in these batches: for each signer and instance the first answer, and the first that differs from it.

    Args:
        batches: of one particle, verified; which of two answers is the first follows their order.

    Returns:
        In the order in which the second answers stand.
    """
    return finished(finding_equivocations(batches))


def finding_equivocations(
    batches: Iterable[Batch], wanted: Container[tuple[str, Instance]] | None = None
) -> Found[list[Equivocation]]:
    """As :func:`equivocations`, in slices; of these signers and instances only, if they are given."""
    first: dict[tuple[PeerId, Instance], tuple[BatchId, Answer]] = {}
    found: dict[tuple[PeerId, Instance], Equivocation] = {}
    pace = SlicePace()
    for batch in batches:
        for item in batch.signed.items:
            if pace.over():
                yield
            if type(item) not in _ANSWERS:
                continue
            item = cast(Answer, item)
            about = (batch.signer, Instance(item.frame, item.node))
            if wanted is not None and about not in wanted:
                continue
            there, answer = first.setdefault(about, (batch.id, item))
            if answer != item and about not in found:
                found[about] = Equivocation(*about, (there, batch.id), (answer, item))
    return list(found.values())


_ANSWERS: Final = frozenset((Result, CallFailure, CanonFact))


def close(results: Sequence[Result]) -> Closed:
    """What says of calls that they were answered, without saying what.

    Args:
        results: at least one, of one frame, in ascending order of their numbers.
    """
    root = merkle_root([encode(result) for result in results])
    return Closed(results[0].frame, tuple([result.node for result in results]), root)


def reveals(closed: Closed, results: Sequence[Result]) -> bool:
    """Whether these are the answers that a peer has bound itself to when it closed the calls.

    Args:
        closed: what the peer has signed.
        results: what is said to have been the answers, in any order.
    """
    return bool(results) and close(sorted(results, key=lambda result: result.node)) == closed
