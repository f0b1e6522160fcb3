"""What other peers have of a particle, so that a peer is sent only what it has neither sent nor been sent before.

Kept in memory: after a restart everything is sent once more, which does no harm. If a peer turns out to lack something, it asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fluvial.air.data.batch import Batch, BatchId, Known
from fluvial.air.data.content import ContentId, Json


@dataclass(slots=True)
class _Had:
    """What a peer has; of all batches at least the first ``begins`` ones."""

    begins: int = 0
    batches: set[BatchId] = field(default_factory=set)
    contents: set[ContentId] = field(default_factory=set)


class Exchange:
    """Batches and values that are known to be with other peers."""

    def __init__(self) -> None:
        self._had: dict[str, _Had] = {}

    def received(self, peer: str, known: Known) -> None:
        """A peer sent this, so it has it."""
        had = self._had.setdefault(peer, _Had())
        had.batches.update(batch.id for batch in known.batches)
        had.contents.update(known.contents)

    def owed(self, peer: str, batches: Sequence[Batch], contents: Mapping[ContentId, Json]) -> Known:
        """What a peer lacks of all batches, to which new ones are only added at the end, and of the values that they speak of."""
        had = self._had.get(peer, _Had())
        while had.begins < len(batches) and batches[had.begins].id in had.batches:
            had.begins += 1
        lacking = tuple(batch for batch in batches[had.begins :] if batch.id not in had.batches)
        needed = set().union(*(batch.contents() for batch in lacking)) - had.contents
        return Known(lacking, {key: contents[key] for key in needed})

    def given(self, peer: str, known: Known) -> None:
        """A peer has taken this in."""
        self.received(peer, known)

    def forget(self, peer: str) -> None:
        """A peer lacks something that it was thought to have: it gets everything."""
        self._had.pop(peer, None)
