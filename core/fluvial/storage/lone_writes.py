"""Whether a write is committed on the event loop, since nobody else writes and the disk is quick; pure.

A commit that a fast disk ends after a fifth of a millisecond costs more by its two changes of thread than by itself. So a caller who is alone has
it on the loop, as long as two things hold:

- *Commits are quick*: those before took less than :data:`QUICK_S` on average. The first that takes longer than :data:`SLOW_S` sends all of them
  back to the thread, for :data:`PAUSE` times as long as it took. So however a disk behaves, slow commits hold the loop for a hundredth of the time
  at most, one at once; between them are commits that average less than a millisecond.
- *The caller is alone*: with several the thread is better, which waits for the disk while the loop computes, for all of them once. While commits
  are on the loop nobody can be seen to wait for one; so two in one turn of the loop tell it, and each :data:`LOOK_EVERY`-th goes to the thread
  to see whether others come meanwhile.

A lock that another program holds is met by the first statement of a group, before its commit, and waited for in the thread (``writer.py``).
"""

from __future__ import annotations

from typing import Final

QUICK_S: Final = 0.001
"""Commits take less on average, in seconds."""
SLOW_S: Final = 0.005
"""One that takes longer is slow: as long as the statements of one group may hold the loop."""
SMOOTHING: Final = 8
"""Over about so many commits the average goes."""
PAUSE: Final = 100
"""After a slow one the loop has none for so many times as long as it took,"""
PAUSE_S_MIN: Final = 1.0
"""but at least for so long, in seconds."""
ALONE: Final = 8
"""Groups of one caller after which it is alone."""
LOOK_EVERY: Final = 32
"""Of so many commits one is in the thread."""


class LoneWrites:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._average_s = QUICK_S  # nothing is known yet: quick ones must be seen first
        self._not_before_s = 0.0
        self._alone = 0
        self._looked = 0

    def goes_at_once(self, now_s: float) -> bool:
        """Whether the write that comes now, while no other is on its way, is committed on the loop."""
        if self._alone < ALONE or self._average_s >= QUICK_S or now_s < self._not_before_s:
            return False
        self._looked = (self._looked + 1) % LOOK_EVERY
        return self._looked != 0

    def committed(self, took_s: float, now_s: float) -> None:
        """A commit has come to its end, on the loop or in the thread; it took so many seconds."""
        self._average_s += (min(took_s, SLOW_S) - self._average_s) / SMOOTHING
        if took_s > SLOW_S:
            self._not_before_s = max(self._not_before_s, now_s + max(PAUSE * took_s, PAUSE_S_MIN))

    def seen(self, *, alone: bool) -> None:
        """A group had one caller and no other came meanwhile; or several are there."""
        self._alone = self._alone + 1 if alone else 0
