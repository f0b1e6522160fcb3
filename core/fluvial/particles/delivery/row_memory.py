"""What the rows take in memory that wait for peers of which it is not known that they are there (a script may name hundreds of these), or in long lanes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

from fluvial.particle import ParticleKey
from fluvial.particles.delivery.lane import LaneRow
from fluvial.particles.memory import MemoryBudget

ROW_BYTES: Final = 2_500
"""Of a row: with a lane of its own 800, with an upstream of its own in the line of a lane up to 3,500."""


class RowMemory:
    """See the module's docstring.

    Args:
        budget: where they are counted, all rows of a particle together.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._rows: dict[ParticleKey, int] = {}

    def count(self, entry: LaneRow) -> None:
        """A row waits in such a way; once is enough."""
        if entry.counted:
            return
        entry.counted = True
        key = entry.row.key
        rows = self._rows[key] = self._rows.get(key, 0) + 1
        payer = self._budget.payer(entry.owner, entry.upstream)
        self._budget.charge(_place(key), payer, rows * ROW_BYTES)

    def forget(self, entries: Iterable[LaneRow]) -> None:
        """These rows are gone."""
        for entry in entries:
            if not entry.counted:
                continue
            key = entry.row.key
            rows = self._rows[key] - 1
            if rows:
                self._rows[key] = rows
                payer = self._budget.payer(entry.owner, entry.upstream)
                self._budget.charge(_place(key), payer, rows * ROW_BYTES)
            else:
                del self._rows[key]
                self._budget.release(_place(key))


def _place(key: ParticleKey) -> Hashable:
    return "outbox", key
