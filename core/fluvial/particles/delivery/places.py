"""Places for what is done for peers, which whoever is slow gives back: others do not wait for it; pure.

::

    state     a place was taken                        next
    -------   --------------------------------------   --------------------------------------------------
    prompt    less than ``SLOW_S`` ago, or nobody      given: gone; kept for so long while others wait: slow
              else has waited for it
    slow      long ago; it is not counted any more,    given: gone
          unless it keeps its place for now

A peer that takes what it gets and then lets us wait for its answer costs a task, and the memory that is counted elsewhere, but no time. If it kept
one of the places that all peers share, some hundred of them would have them all for as long as an answer is waited for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fluvial.identity import PeerId

SLOW_S: Final = 0.5
"""Most peers have answered by then, and who waits for a place waits for this long at most."""
SLOW_MAX: Final = 1_024
"""Peers that are waited for besides: as many as a transport keeps connections with."""
ANSWER_S: Final = 1.0
"""How long a peer may take to which something is passed on, until others have its spare place,"""
SLOW_FOR_S: Final = 30.0
"""and for how long it has none after that."""


def nobody(peer: PeerId) -> bool:
    """Whoever it is keeps no place."""
    return False


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

    def make_room(self, now_s: float, keeps: Callable[[PeerId], bool] = nobody) -> float:
        """Take the oldest place from its peer if that is slow.

        Args:
            now_s: the time.
            keeps: whether a peer that is slow keeps its place for now.

        Returns:
            0 if there is room now; else the time at which there may be, which may be infinite.
        """
        if len(self._slow) >= SLOW_MAX:
            return float("inf")
        for peer, since_s in self._prompt.items():
            if since_s + SLOW_S > now_s:
                return since_s + SLOW_S
            if not keeps(peer):
                del self._prompt[peer]
                self._slow.add(peer)
                return 0.0
        return now_s + SLOW_S if self._prompt else float("inf")


class SparePlaces:
    """Places besides others that are all taken: one for each peer that may answer soon.

    A peer that does not for ``ANSWER_S`` keeps none for which others wait, and has no further one for a while. So those who never answer hold few of
    them at a time, however many they are. Times are in seconds, by one clock that does not go back.

    Args:
        most: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._since_s: dict[PeerId, float] = {}  # the oldest is the first
        self._slow_s: OrderedDict[PeerId, float] = OrderedDict()  # until when; those found last are the last

    def take(self, peer: PeerId, now_s: float) -> bool:
        """Take a place for a peer; False if there is none for it now."""
        if peer in self._since_s or self._slow_s.get(peer, now_s) > now_s:
            return False
        if len(self._since_s) >= self._most:
            oldest, since_s = next(iter(self._since_s.items()))
            if now_s - since_s < ANSWER_S:
                return False
            del self._since_s[oldest]
            self.took(oldest, now_s - since_s, now_s)
        self._since_s[peer] = now_s
        return True

    def give(self, peer: PeerId) -> None:
        """It gives its place back, if it still has it."""
        self._since_s.pop(peer, None)

    def took(self, peer: PeerId, seconds: float, now_s: float) -> None:
        """A peer has taken so long for something, in such a place or another one."""
        self._slow_s.pop(peer, None)
        if seconds >= ANSWER_S:
            self._slow_s[peer] = now_s + SLOW_FOR_S
            if len(self._slow_s) > SLOW_MAX:
                self._slow_s.popitem(last=False)
