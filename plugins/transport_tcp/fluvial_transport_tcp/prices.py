"""What a second of work counts, by its kind: more where a kind takes most of this node's time, less where it takes little.

Turns are shared among connections, and connections are cheap enough to have hundreds: all that ask the same costly question would leave one that sends
flows a hundredth part. With these prices the kinds have equal parts as far as they have use for them, before connections share what their kind gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

HALF_LIFE_S: Final = 1.0
"""What was done counts half after so long."""
FADES_S: Final = 0.1
"""Between two looks at that."""
FORGOTTEN_S: Final = 0.001
"""A kind with less than this is not there any more."""
CHEAPEST: Final = 0.125
DEAREST: Final = 2.0


class WorkPrices:
    """See the module's docstring; one for all connections of a node.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now: Final = now
        self._used: dict[str, float] = {}
        self._total = 0.0
        self._faded_s = now()

    def price(self, kind: str) -> float:
        """What a second of a kind counts; 1 if nothing of it was of use lately, since names of kinds cost nothing."""
        used = self._used.get(kind)
        if not used:  # unknown; or a coarse clock has seen no time pass
            return 1.0
        price = used / self._total * len(self._used)
        return DEAREST if price > DEAREST else CHEAPEST if price < CHEAPEST else price

    def use(self, kind: str, seconds: float) -> None:
        """Work of a kind was done, and was of use."""
        now = self._now()
        if (passed_s := now - self._faded_s) > FADES_S:
            part = 0.5 ** (passed_s / HALF_LIFE_S)
            self._used = {one: left for one, used in self._used.items() if (left := used * part) > FORGOTTEN_S}
            self._total = sum(self._used.values())
            self._faded_s = now
        self._used[kind] = self._used.get(kind, 0.0) + seconds
        self._total += seconds
