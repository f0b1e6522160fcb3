"""What was written here of what somebody brought, as it fades; pure.

Each byte counts half after a half-life, and nothing any more when it is removed. Of those who are counted, and of the particles, a bounded number is
remembered; who brought nothing for the longest time is forgotten first.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

import msgspec

from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey

OneT = TypeVar("OneT", bound=Hashable)

COUNTED_MAX: Final = 4_096
"""Those who are counted in one table."""
PARTICLES_MAX: Final = 16_384
"""Particles of which it is remembered what was written."""
LATELY_S: Final = 60.0
"""What was brought lately counts half after so long,"""
JUST_NOW_S: Final = 20.0
"""and what was brought just now after so long: what matters there is how fast somebody goes on."""


class FadingBytes(Generic[OneT]):
    """Bytes of several, of which each counts half after a while.

    Args:
        half_life_s: after how long, seconds.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, half_life_s: float, clock: Callable[[], float]) -> None:
        self._half_life_s = half_life_s
        self._clock = clock
        self._counted: OrderedDict[OneT, tuple[float, float]] = OrderedDict()  # bytes, and at what time

    def of(self, one: OneT) -> float:
        """What counts of somebody now."""
        if (counted := self._counted.get(one)) is None:
            return 0.0
        amount, then_s = counted
        return amount * self._left_of(then_s, self._clock())

    def add(self, one: OneT, size: float) -> None:
        """Somebody has brought so much."""
        now_s = self._clock()
        if (counted := self._counted.get(one)) is not None:
            amount, then_s = counted
            size += amount * self._left_of(then_s, now_s)
        self._counted[one] = size, now_s
        self._counted.move_to_end(one)
        if len(self._counted) > COUNTED_MAX:
            self._counted.popitem(last=False)

    def give_back(self, one: OneT, size: float, since_s: float) -> None:
        """So much that somebody brought at a time, or after it, counts no more."""
        if (counted := self._counted.get(one)) is not None:
            now_s, (amount, then_s) = self._clock(), counted
            left = amount * self._left_of(then_s, now_s) - size * self._left_of(since_s, now_s)
            self._counted[one] = max(0.0, left), now_s

    def _left_of(self, then_s: float, now_s: float) -> float:
        return math.exp2((then_s - now_s) / self._half_life_s)


class _Written(msgspec.Struct):
    """Of one particle: which way it came, when the first of it was written, how much, and how much of that in the room for those who brought little."""

    upstream: Upstream
    since_s: float
    size: int = 0
    reserved: int = 0


class Brought:
    """See the module's docstring.

    Args:
        clock: seconds of a clock that never goes back.

    Attributes:
        lately: by senders.
        lately_by: by their branches.
        just_now: by senders, sooner forgotten.
        just_now_by: by their branches, sooner forgotten.
        reserved: what a sender's branches took of the room for those who brought little.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.lately: Final = FadingBytes[PeerId](LATELY_S, clock)
        self.lately_by: Final = FadingBytes[Upstream](LATELY_S, clock)
        self.just_now: Final = FadingBytes[PeerId](JUST_NOW_S, clock)
        self.just_now_by: Final = FadingBytes[Upstream](JUST_NOW_S, clock)
        self.reserved: Final = FadingBytes[PeerId](JUST_NOW_S, clock)
        self._written: OrderedDict[ParticleKey, _Written] = OrderedDict()

    def wrote(self, key: ParticleKey, upstream: Upstream, size: int, *, reserved: bool) -> None:
        """Something is written of a particle that came this way, perhaps in the room for branches that brought little."""
        if (written := self._written.get(key)) is None:
            written = self._written[key] = _Written(upstream, self._clock())
            if len(self._written) > PARTICLES_MAX:
                self._written.popitem(last=False)
        written.size += size
        sender = upstream.sender
        self.lately.add(sender, size)
        self.just_now.add(sender, size)
        if upstream.branch:
            self.lately_by.add(upstream, size)
            self.just_now_by.add(upstream, size)
        if reserved:
            written.reserved += size
            self.reserved.add(sender, size)

    def removed(self, keys: Iterable[ParticleKey]) -> None:
        """These particles take no room any more."""
        for key in keys:
            if (written := self._written.pop(key, None)) is None:
                continue
            upstream, size, since_s = written.upstream, written.size, written.since_s
            for senders in (self.lately, self.just_now):
                senders.give_back(upstream.sender, size, since_s)
            for branches in (self.lately_by, self.just_now_by):
                branches.give_back(upstream, size, since_s)
            self.reserved.give_back(upstream.sender, written.reserved, since_s)
