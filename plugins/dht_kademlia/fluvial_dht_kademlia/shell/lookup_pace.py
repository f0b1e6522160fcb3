"""How many lookups others may have this peer do: their requests have a rate, and who comes when it is used up waits for a turn.

A call of a script, or a particle for a peer that nobody knows, costs its sender some bytes and this peer dozens of requests. Each request takes a token of
one bucket, whatever it is for. A lookup that others caused begins when there are tokens; what this peer does of itself (joining, upkeep, its own records)
waits for nobody. Two lanes take turns, so that neither stops the other; before them, whoever is behind the calls and the deliveries has fair turns already.
In a lane the newest begins first: who has waited for long is about to give up, and in order of arrival everybody would begin too late.

Source of newest first: B. Maurer, *Fail at Scale*, ACM Queue 13 (8), 2015 (adaptive LIFO).
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import anyio
from fluvial.fairness import FairQueue

BURST: Final = 1_024
EACH_S: Final = 1 / 512
BEGUN: Final = 4
"""Tokens that a lookup takes when it begins, besides those of its requests: many that begin at once have not asked anybody yet."""

Lane: TypeAlias = Literal["call", "way"]
"""A script's call, or a search of the way to a peer."""
_WEIGHTS: Final[dict[Lane, int]] = {"call": 0, "way": 4}
"""Deliveries wait for ways: their lane has four turns of five."""


class LookupPace:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._at = 0.0
        self._line: FairQueue[Lane, anyio.Event] = FairQueue(_WEIGHTS.__getitem__)
        self._news = anyio.Event()

    def asked(self) -> None:
        """A request was sent."""
        self._take(1)

    async def turn(self, lane: Lane) -> None:
        """Returns when a lookup may begin."""
        if not self._line and self._refill() > 0:
            self._take(BEGUN)
            return
        turn = anyio.Event()
        self._line.push(lane, turn, first=True)
        self._news.set()
        try:
            await turn.wait()
        finally:
            self._line.remove(lane, turn)  # if it was given up

    async def run(self) -> None:
        """Let those begin who wait, until cancelled."""
        while True:
            if not self._line:
                self._news = anyio.Event()
                await self._news.wait()
            while self._line and self._refill() > 0:
                self._take(BEGUN)
                self._line.pop()[1].set()
            if self._line:
                await anyio.sleep((1 - self._left) * EACH_S)

    def stop(self) -> None:
        """Nobody waits any more; whoever asks finds out that there is nothing to begin."""
        while self._line:
            self._line.pop()[1].set()

    def _refill(self) -> float:
        now = anyio.current_time()
        self._left = min(float(BURST), self._left + (now - self._at) / EACH_S)
        self._at = now
        return self._left

    def _take(self, tokens: int) -> None:
        self._left = self._refill() - tokens
