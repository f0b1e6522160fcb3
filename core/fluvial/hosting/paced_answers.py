"""Lets answers leave at a rate, one for each peer at a time. Who asks for little does not wait for those who ask for much, however many these are.

What a peer got is counted in virtual time, which goes on with each answer by its bytes divided by the number of those who wait. An answer begins where the one before
to the same peer ended, but not before now; the one that ends first leaves first.

Source: A. Demers, S. Keshav, S. Shenker, *Analysis and Simulation of a Fair Queueing Algorithm*, SIGCOMM 1989.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from fluvial import waiting
from fluvial.identity import PeerId

WAITING_MAX: Final = 512
"""Peers whose questions wait; of more the one gives way whose answer would leave last."""
PEERS_MAX: Final = 1_024
"""Of which it is remembered what they got."""
BYTES_MIN: Final = 8_192
"""An answer counts as so many bytes at least: as many take as much of the processor as a short one."""
BURST_S: Final = 0.25
"""After a rest so much of the rate is there at once."""


class _Question(NamedTuple):
    """A question that waits: where its answer ends in virtual time, its bytes, and who gives it."""

    end: float
    size: int
    give: Callable[[], None]


class PacedAnswers:
    """See the module's docstring.

    Args:
        bytes_per_s: of all together.
    """

    def __init__(self, bytes_per_s: int) -> None:
        self._rate: Final = bytes_per_s
        self._waiting: dict[PeerId, _Question] = {}
        self._ends: dict[PeerId, float] = {}  # who got something last is at the end
        self._now = 0.0
        self._free_at = 0.0
        self._timer: waiting.TimerHandle | None = None

    def ask(self, peer: PeerId, size: int, give: Callable[[], None]) -> None:
        """Answer a peer when its turn comes, which may be now; not if it waits for an answer already, or many wait for less.

        Args:
            peer: who asks.
            size: of the answer, in bytes, about.
            give: answers; raises nothing.
        """
        if peer in self._waiting:
            return
        size = max(size, BYTES_MIN)
        end = max(self._now, self._ends.get(peer, 0.0)) + size
        if len(self._waiting) >= WAITING_MAX:
            last = max(self._waiting, key=lambda one: self._waiting[one].end)
            if self._waiting[last].end <= end:
                return
            del self._waiting[last]
        self._waiting[peer] = _Question(end, size, give)
        if self._timer is None:
            self._answer()

    def close(self) -> None:
        """Answer nobody any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self) -> None:
        """Answer whose turn it is, if there is room; others have a turn of the loop after each answer."""
        self._timer = None
        now = waiting.now_s()
        if self._waiting and self._free_at <= now:
            peer = min(self._waiting, key=lambda one: self._waiting[one].end)
            end, size, give = self._waiting.pop(peer)
            self._free_at = max(self._free_at, now - BURST_S) + size / self._rate
            self._now += size / (len(self._waiting) + 1)
            self._ends.pop(peer, None)
            self._ends[peer] = end
            if len(self._ends) > PEERS_MAX:
                del self._ends[next(iter(self._ends))]
            give()
        if self._waiting and self._timer is None:
            self._timer = waiting.at(max(self._free_at, now), self._answer)
