"""Whether a group of writes waits for a few more before it begins; pure.

A disk that is fast ends a commit before more than one or two further writes are there, and then what a commit costs the processor (the disk's
call, two changes of thread) is paid for each pair of them. So while several callers wait, a group waits a little for others, as long as that
brings some, or the event loop has other work to do meanwhile: then a commit would only take the processor from what brings the next ones. A lone
caller never waits, and where waiting brought nothing and the loop was idle it is not tried again for many groups.

Source: PostgreSQL documentation, ``commit_delay`` and ``commit_siblings``.
"""

from __future__ import annotations

from typing import Final

GATHER_S: Final = 0.002
"""One wait; about what the work for one or two writes takes."""
WAITS_MAX: Final = 4
"""So many for one group."""
BUSY_S: Final = GATHER_S / 2
"""Processor time of the loop's thread in one wait from which on the loop was busy."""
FEW: Final = 2
"""Callers who must be there: of one alone nothing says that there are others."""
ENOUGH: Final = 16
"""Callers who wait for nobody."""
GROUPS_WITHOUT: Final = 64
"""Groups that do not wait after one that waited for nothing."""


class Gathering:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._waits = 0
        self._callers = 0
        self._spent_s = 0.0
        self._without = 0

    def goes_on(self, callers: int, spent_s: float) -> bool:
        """Whether the next group waits for :data:`GATHER_S` and then asks again; if not, it begins.

        Args:
            callers: how many wait for it now.
            spent_s: processor time of the loop's thread so far.
        """
        useful = callers > self._callers or spent_s - self._spent_s >= BUSY_S
        if not FEW <= callers < ENOUGH or self._waits >= WAITS_MAX or (self._waits and not useful):
            if self._waits == 1 and not useful:
                self._without = GROUPS_WITHOUT
            self._waits = 0
            return False
        if self._without:
            self._without -= 1
            return False
        self._waits += 1
        self._callers, self._spent_s = callers, spent_s
        return True
