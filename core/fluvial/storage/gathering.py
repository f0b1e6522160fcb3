"""Whether a group of writes waits for a few more before it begins; pure.

A disk that is fast ends a commit before more than one or two further writes are there, and then what a commit costs the processor (the disk's
call, two changes of thread) is paid for each pair of them. So while several callers wait, a group waits a little for others, as long as that
brings some; where it brought nothing it is not tried again for many groups. A lone caller never waits, unless the event loop is busy: then a commit
at once would only take the processor from what brings the next writes, and whoever waits for them one by one looks like a lone caller.

Source: PostgreSQL documentation, ``commit_delay`` and ``commit_siblings``.
"""

from __future__ import annotations

from typing import Final

GATHER_S: Final = 0.002
"""One wait; about what the work for one or two writes takes."""
WAITS_MAX: Final = 4
"""So many for one group."""
FEW: Final = 2
"""Callers who must be there: of one alone nothing says that there are others."""
ENOUGH: Final = 16
"""Callers who wait for nobody."""
GROUPS_WITHOUT: Final = 64
"""Groups that do not wait after one that waited for nothing."""
LOOK_S: Final = 0.004
"""How long the loop is looked at to see whether it is busy."""
BUSY: Final = 0.8
"""It is, if it computes for so much of the time."""


class Gathering:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._waits = 0
        self._callers = 0
        self._without = 0
        self._looked_s = 0.0
        self._spent_s = 0.0
        self._busy = False

    def goes_on(self, callers: int, now_s: float, spent_s: float) -> bool:
        """Whether the next group waits for :data:`GATHER_S` and then asks again; if not, it begins.

        Args:
            callers: how many wait for it now.
            now_s: the time.
            spent_s: processor time of the loop's thread so far.
        """
        self._look(now_s, spent_s)
        useful = callers > self._callers or self._busy
        few = 1 if self._busy else FEW
        if not few <= callers < ENOUGH or self._waits >= WAITS_MAX or (self._waits and not useful):
            if self._waits == 1 and not useful:
                self._without = GROUPS_WITHOUT
            self._waits = 0
            return False
        if self._without and not self._busy:
            self._without -= 1
            return False
        self._waits += 1
        self._callers = callers
        return True

    def _look(self, now_s: float, spent_s: float) -> None:
        if (passed_s := now_s - self._looked_s) >= LOOK_S:
            self._busy = spent_s - self._spent_s >= BUSY * passed_s
            self._looked_s, self._spent_s = now_s, spent_s
