"""Who fetches which block: the plan of one round of a download. Pure.

Each source takes one block after another. A source that finds nothing left to take gets a block that another one has had for too
long; whichever comes first counts. So one slow source cannot hold up a round.

::

    waiting ──take──▶ taken by a ──done──▶ done
       ▲                │  │ (after STEAL_AFTER_S)
       └──give back─────┘  └─take──▶ taken by a and b ──done──▶ done
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

STEAL_AFTER_S: Final = 2.0
"""How long a block is left to one source before an idle one fetches it too; for a third one twice as long, and so on."""

SourceT = TypeVar("SourceT", bound=Hashable)


class Schedule(Generic[SourceT]):
    """The blocks of a round.

    Args:
        numbers: what is needed, in the order in which it should come.
    """

    def __init__(self, numbers: Iterable[int]) -> None:
        self._waiting = deque(numbers)
        self._taken: dict[int, dict[SourceT, float]] = {}

    @property
    def is_done(self) -> bool:
        """Whether every block has come."""
        return not self._waiting and not self._taken

    @property
    def left(self) -> int:
        """How many blocks have not come yet."""
        return len(self._waiting) + len(self._taken)

    def take(self, source: SourceT, *, now_s: float) -> int | None:
        """The next block for a source; None if there is none for it now."""
        if self._waiting:
            number = self._waiting.popleft()
            self._taken[number] = {source: now_s}
            return number
        for number, takers in self._taken.items():  # the first is the one that was taken first
            if source not in takers and now_s - max(takers.values()) >= STEAL_AFTER_S * len(takers):
                takers[source] = now_s
                return number
        return None

    def is_taken(self, number: int) -> bool:
        """Whether a block is still to come."""
        return number in self._taken

    def done(self, number: int) -> bool:
        """A block came and is right; whether it was the first time."""
        return self._taken.pop(number, None) is not None

    def give_back(self, number: int, source: SourceT) -> None:
        """A source did not deliver."""
        takers = self._taken.get(number, {})
        if takers.pop(source, None) is not None and not takers:
            del self._taken[number]
            self._waiting.appendleft(number)
