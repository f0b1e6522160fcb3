"""Places for what is done for peers, which whoever is slow gives back: others do not wait for it; pure.

::

    state     a place was taken                        next
    -------   --------------------------------------   --------------------------------------------------
    prompt    less than ``SLOW_S`` ago, or nobody      given: gone; kept for so long while others wait: slow
              else has waited for it
    slow      long ago; it is not counted any more     given: gone

A peer that takes what it gets and then lets us wait for its answer costs a task, and the memory that is counted elsewhere, but no time. If it kept
one of the places that all peers share, some hundred of them would have them all for as long as an answer is waited for.
"""

from __future__ import annotations

from typing import Final

from fluvial.identity import PeerId

SLOW_S: Final = 0.5
"""Most peers have answered by then, and who waits for a place waits for this long at most."""
SLOW_MAX: Final = 1_024
"""Peers that are waited for besides: as many as a transport keeps connections with."""


class LanePlaces:
    """See the module's docstring. Times are in seconds, by one clock that does not go back."""

    def __init__(self) -> None:
        self._prompt: dict[PeerId, float] = {}  # since when; the oldest is the first
        self._slow: set[PeerId] = set()

    def __len__(self) -> int:
        """How many are counted."""
        return len(self._prompt)

    def take(self, peer: PeerId, now_s: float) -> None:
        """A peer that has none takes a place."""
        self._prompt[peer] = now_s

    def give(self, peer: PeerId) -> None:
        """It gives its place back."""
        if self._prompt.pop(peer, None) is None:
            self._slow.discard(peer)

    def make_room(self, now_s: float) -> float:
        """Take the oldest place from its peer if that is slow.

        Returns:
            0 if there is room now; else the time at which there will be, which may be infinite.
        """
        oldest = next(iter(self._prompt), None)
        if oldest is None or len(self._slow) >= SLOW_MAX:
            return float("inf")
        if (due_s := self._prompt[oldest] + SLOW_S) > now_s:
            return due_s
        del self._prompt[oldest]
        self._slow.add(oldest)
        return 0.0
