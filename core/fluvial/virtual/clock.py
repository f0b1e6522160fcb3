"""The wall clock of virtual time."""

from __future__ import annotations

from typing import Final

import anyio

EPOCH_MS: Final = 1_750_000_000_000
"""15 June 2025, 15:06:40 UTC: when virtual time begins, unless somebody chooses otherwise."""


class LoopClock:
    """Wall-clock time that goes with the event loop's; under virtual time it jumps with it.

    Args:
        epoch_ms: the time at 0 of the loop, in milliseconds since 1970. Different ones for different peers are clocks that disagree.
    """

    def __init__(self, epoch_ms: int = EPOCH_MS) -> None:
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC; to be asked inside of the event loop."""
        return self._epoch_ms + int(anyio.current_time() * 1000 + _ROUNDING_MS)


_ROUNDING_MS: Final = 1e-6
"""0.57 s are 569.999… ms in binary."""
