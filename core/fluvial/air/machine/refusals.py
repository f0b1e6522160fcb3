"""What was undone because it went beyond a limit: kept, so that it need not come again, and what goes with it is refused without work.

Limits are never taken back: what goes beyond one also does so with more facts. Kept in memory only: after a restart it is tried once more.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Final

from fluvial.air.data.batch import Batch, BatchId, Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.healing import uniting
from fluvial.air.data.log import splitting_contents
from fluvial.air.data.pace import Found, SlicePace
from fluvial.air.data.partial import Content
from fluvial.air.data.weight import weighing
from fluvial.air.machine.errors import LIMITS, Uncatchable
from fluvial.air.machine.knowledge import BATCH_BYTES, FACT_BYTES
from fluvial.encoding import encode

BYTES_MAX: Final = 8_388_608
"""Batches and values that are kept, as much as one delivery may carry; beyond it all is forgotten, and senders are asked for it again."""

HELD_MAX: Final = 16_777_216
"""Memory that they may take, in bytes."""

REFUSED_MAX: Final = 64
"""Refused sets of batches that are kept; the oldest go."""

REFUSED_BATCHES_MAX: Final = 65_536
"""Batches in all of them, of which the ids are kept."""

ID_BYTES: Final = 130
"""Memory of the id of a refused batch."""

ENCODED: Final = 256
"""Facts that are encoded together."""


class Refusals:
    """The batches of one particle that were refused on one peer, and those that came with or after them.

    Attributes:
        always: why everything is refused, if it is.
    """

    __slots__ = ("_batches", "_bytes", "_contents", "_held", "_ids", "_refused", "always")

    def __init__(self) -> None:
        self._refused: tuple[tuple[frozenset[BatchId], Uncatchable], ...] = ()
        self._batches: dict[BatchId, Batch] | None = (
            None  # made when something is refused, as the next: few particles have that
        )
        self._contents: dict[ContentId, Content] | None = None
        self._bytes = self._held = self._ids = 0
        self.always: Uncatchable | None = None

    @property
    def held(self) -> int:
        """How many bytes of memory they take, about."""
        return self._held + ID_BYTES * self._ids

    def refuse_all(self, error: Uncatchable) -> None:
        """What this peer itself knows is beyond a limit."""
        if error.code in LIMITS:
            self.always = error
            self._refused, self._ids = (), 0
            self._forget()

    def refusing(self, fresh: Mapping[BatchId, Batch], known: Known, error: Uncatchable) -> Iterator[None]:
        """These batches, taken in together, came to an error; in slices."""
        if not fresh:
            self.refuse_all(error)
        elif error.code in LIMITS:
            self._refused = (*self._refused[1 - REFUSED_MAX :], (frozenset(fresh), error))
            while (ids := sum(len(batches) for batches, _ in self._refused)) > REFUSED_BATCHES_MAX and ids > len(fresh):
                self._refused = self._refused[1:]
            self._ids = ids
            yield from self._keep(fresh, known)

    def refusal(self, fresh: Mapping[BatchId, Batch], known: Known) -> Found[Uncatchable | None]:
        """Why these batches cannot be taken in, if that is known; they are kept then. In slices."""
        if self.always is not None:
            return self.always
        for refused, error in self._refused:
            if refused <= fresh.keys():
                yield from self._keep(fresh, known)
                return error
        return None

    def completed(self, known: Known, here: Collection[BatchId]) -> Generator[None, None, Known]:
        """What came, with what it builds on and was refused before; in slices.

        Args:
            known: what came.
            here: the batches that were taken in.
        """
        if self._batches is None or self._contents is None:
            return known
        found = {batch.id: batch for batch in known.batches if batch.id not in here}
        waiting, pace = list(found.values()), SlicePace()
        while waiting:
            for step, _ in waiting.pop().steps():
                if pace.over(1 + len(step.seen)):
                    yield
                for seen in map(BatchId, step.seen):
                    if seen not in found and seen not in here and (batch := self._batches.get(seen)) is not None:
                        found[seen] = batch
                        waiting.append(batch)
        return Known(tuple(found.values()), (yield from uniting(self._contents, known.contents)))

    def _keep(self, fresh: Mapping[BatchId, Batch], known: Known) -> Iterator[None]:
        if self._batches is None or self._contents is None:
            self._batches, self._contents = {}, {}
        batches = {key: batch for key, batch in fresh.items() if key not in self._batches}
        needed = set().union(*(batch.contents() for batch in batches.values())) - self._contents.keys()
        contents = {key: known.contents[key] for key in needed if key in known.contents}
        self._batches |= batches
        self._contents |= contents
        pace = SlicePace()
        for batch in batches.values():
            items = batch.signed.items
            self._held += BATCH_BYTES + FACT_BYTES * len(items)
            for begin in range(0, len(items), ENCODED):
                self._bytes += len(encode(items[begin : begin + ENCODED]))
                if pace.over(ENCODED):
                    yield
        for content in contents.values():
            self._bytes += len(encode((yield from splitting_contents([content]))))
            for weight in weighing(content):
                if weight is None:
                    yield
                else:
                    self._held += weight
            if pace.over():
                yield
        if self._bytes > BYTES_MAX or self._held > HELD_MAX:
            self._forget()

    def _forget(self) -> None:
        self._batches = self._contents = None
        self._bytes = self._held = 0
