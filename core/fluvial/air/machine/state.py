"""What a machine has come to: all that a run changes, and that is made anew from the log when a run is undone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluvial.air.data.batch import Batch, BatchId
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import Item
from fluvial.air.machine.evaluator import Evaluator

NO_MEMBERS: Final[frozenset[Any]] = frozenset()
"""Shared by all machines: an empty set of its own takes 200 bytes."""


class MachineState:
    """All that a run changes.

    Attributes:
        knowledge, evaluator: what is known, and what it has come to.
        batches: all batches, each after those that its steps name.
        unsealed: own steps that were not given away yet.
        unseen: batches that came in after the last own step.
        kept: values of own answers that were closed: they stay here.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.knowledge = evaluator.knowledge
        self.batches: dict[BatchId, Batch] = {}
        self.unsealed: list[Item] = []
        self.unseen: list[BatchId] = []
        self.kept: frozenset[ContentId] = NO_MEMBERS

    def keep(self, batches: Mapping[BatchId, Batch]) -> None:
        """These batches are known now."""
        self.batches.update(batches)
        self.unseen.extend(batches)
        self.knowledge.count_batches(len(batches))
