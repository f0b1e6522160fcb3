"""A round in which a lane's rows are tried by several workers, and who finds a place; pure.

A peer says that it has a particle when its machine has run, which may take seconds. Whoever brings such particles would soon hold all places, and what others
bring would wait for those, though the peer had time for it at once. So for each place that is held for long there is a further one, for who has nothing
under way: not too many of them for what one sender brings, nor for those with whom the peer was slow the last time.

Not before it is held for long: what a peer is handed at one time waits there in the order in which it came, and here in a fair one.
"""

from __future__ import annotations

from typing import Final

from fluvial.fairness import SharedPlaces, Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery.byte_gate import ByteGate
from fluvial.waiting import Event, TimerHandle

SLOW_S: Final = 0.5
"""Most deliveries are answered in less time, also where much is done."""
FURTHER: Final = 256
"""Further places,"""
FURTHER_SLOW: Final = 128
"""those among them that somebody takes with whom the peer was slow,"""
FURTHER_EACH: Final = 128
"""and those that one sender may have at most, for all whom it serves."""
LARGE_BYTES: Final = 2**20
"""Of large deliveries under way at one time. A peer reads nothing more of a connection of which it has too much, and what is small would wait for that."""


class DeliveryRound:
    """See the module's docstring. Times are in seconds, by one clock that does not go back.

    Args:
        at_once: places for all; if there is only one, there are no further ones.

    Attributes:
        at_once: see above.
        workers: how many are at work, or about to begin.
        failed: whether a row is left.
        away: why the peer cannot be reached; empty as long as it can.
        heard_s: when it has answered something the last time.
        large: lets large deliveries through.
        over: set when no worker is left, for whoever waits for that.
        timer: of whoever waits for a place to be held for long.
    """

    __slots__ = (
        "_free",
        "_further",
        "_further_of",
        "_old",
        "_young",
        "at_once",
        "away",
        "failed",
        "heard_s",
        "large",
        "over",
        "timer",
        "workers",
    )

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.workers = 0
        self.failed = False
        self.away = ""
        self.heard_s = float("-inf")
        self.large: Final = ByteGate(LARGE_BYTES)
        self.over: Event | None = None
        self.timer: TimerHandle | None = None
        self._free = 0  # workers that have no row
        self._young: dict[ParticleKey, float] = {}  # since when they are under way; the oldest is the first
        self._old: dict[ParticleKey, float] = {}  # those that are for long
        self._further: SharedPlaces[PeerId] | None = None
        self._further_of: dict[ParticleKey, Upstream] = {}

    def comes(self) -> None:
        """A worker is about to begin."""
        self.workers += 1
        self._free += 1

    def leaves(self) -> None:
        """A worker has found nothing more to do."""
        self.workers -= 1
        self._free -= 1
        if not self.workers:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.over is not None:
                self.over.set()

    @property
    def places(self) -> int:
        """How many of the places for all are left when each worker that has no row has one; negative if they are not enough."""
        return self.at_once - len(self._young) - len(self._old) - self._free

    def has_further(self, *, slow: bool) -> bool:
        """Whether a further place may be taken, for one with whom the peer was ``slow`` the last time, as soon as there is one."""
        taken = 0 if self._further is None else self._further.taken
        return self.at_once > 1 and taken < (FURTHER_SLOW if slow else FURTHER)

    def young_places(self, now_s: float) -> int:
        """As :attr:`places`, without those that are held for long."""
        while self._young and now_s - (oldest := next(iter(self._young.items())))[1] >= SLOW_S:
            del self._young[oldest[0]]
            self._old[oldest[0]] = oldest[1]
        return self.at_once - len(self._young) - self._free

    @property
    def next_old_s(self) -> float:
        """When the next place is held for long; infinite if none will be."""
        return next(iter(self._young.values()), float("inf")) + SLOW_S

    def take_further(self, upstream: Upstream) -> bool:
        """Take a further place for what comes this way; False if its sender has too many."""
        if self._further is None:
            self._further = SharedPlaces(FURTHER, FURTHER_EACH, FURTHER_EACH // 2)
        return self._further.take(upstream.sender)

    def give_further(self, upstream: Upstream) -> None:
        """Give it back."""
        if self._further is not None:
            self._further.give(upstream.sender)

    def begin(self, key: ParticleKey, now_s: float, further: Upstream | None = None) -> None:
        """A worker begins with a row, in a ``further`` place if somebody has taken one for it."""
        self._free -= 1
        self._young[key] = now_s
        if further is not None:
            self._further_of[key] = further

    def end(self, key: ParticleKey, now_s: float) -> float:
        """It has been tried; how long that took."""
        self._free += 1
        since_s = self._young.pop(key) if key in self._young else self._old.pop(key)
        if (further := self._further_of.pop(key, None)) is not None:
            self.give_further(further)
        return now_s - since_s
