"""How much of this thread's processor time a piece of work took, found out cheaply.

Asking the system for processor time takes five times as long as looking at a clock, and work is measured several times for each message. So the clock is
looked at; where it says that a short piece took long, the thread may not have run at all meanwhile, and the system is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

DOUBTFUL_S: Final = 0.001
"""What took longer by the clock is looked at more closely: a thread that has to let others have the processor misses some milliseconds."""


class WorkClock:
    """See the module's docstring.

    Args:
        now: seconds of a clock that never goes back.
        used: seconds of processor time of this thread.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.thread_time) -> None:
        self.now: Final = now
        self._used: Final = used
        self._seen = self._seen_at = float("-inf")

    def used(self) -> float:
        """Seconds of processor time of this thread, of the system."""
        self._seen_at = self.now()
        self._seen = self._used()
        return self._seen

    def before(self, used: float) -> bool:
        """Whether :meth:`used` would give less; the system is asked only if so much can have been used since it was last asked."""
        return self._seen + self.now() - self._seen_at < used or self.used() < used

    def since(self, began: float) -> float:
        """Seconds of work since :meth:`now` was ``began``.

        Never more than what the clock says, nor than the processor time since :meth:`used` was last called; call it before work begins.
        """
        took = self.now() - began
        return took if took <= DOUBTFUL_S else self.at_most(took)

    def at_most(self, took: float) -> float:
        """Seconds of work of what took longer than ``DOUBTFUL_S`` by the clock; as :meth:`since`."""
        seen = self._seen
        return min(took, self.used() - seen)
