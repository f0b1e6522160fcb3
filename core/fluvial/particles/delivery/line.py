"""Whose turn it is in a lane that has more than one row; pure.

Turns are fair by upstream, and of each by initiator. Who has nothing under way may have one besides, in a further place (``round``): those first with
whom the peer was quick the last time, and among equals whoever waits for longest.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Final

from fluvial.fairness import GroupedFairQueue, Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery.round import SLOW_S, DeliveryRound

PACES_MAX: Final = 1_024
"""Upstreams of which it is remembered whether the peer was slow with what they brought."""
PASSED_OVER_MAX: Final = 8
"""Of senders that have as many places as they may, before it is looked no further."""
QUICK, UNKNOWN, SLOW = range(3)


class LaneLine:
    """See the module's docstring.

    Args:
        weight: how much an initiator counts; see :class:`FairQueue`.
    """

    __slots__ = ("_fresh", "_paces", "_queue", "_under_way")

    def __init__(self, weight: Callable[[PeerId], int]) -> None:
        self._queue: GroupedFairQueue[ParticleKey] = GroupedFairQueue(weight)
        self._under_way: Counter[Upstream] = Counter()
        # Upstreams that have something in line and nothing under way, by their paces and senders, as they came; some of them no longer.
        self._fresh: tuple[OrderedDict[PeerId, deque[Upstream]], ...] = OrderedDict(), OrderedDict(), OrderedDict()
        self._paces: OrderedDict[Upstream, int] = OrderedDict()

    def __len__(self) -> int:
        """How many are in line."""
        return len(self._queue)

    def push(self, key: ParticleKey, owner: PeerId, upstream: Upstream) -> None:
        """A row is to have a turn, which is in line no more than once."""
        if not (upstream in self._under_way or self._queue.has(upstream)):
            self._put_fresh(upstream)
        self._queue.push(upstream, owner, key)

    def pop(self) -> ParticleKey:
        """The next row; raises IndexError if there is none."""
        return self._queue.pop()

    def has(self, upstream: Upstream) -> bool:
        """Whether something is in line that came this way."""
        return self._queue.has(upstream)

    def pop_of(self, upstream: Upstream) -> ParticleKey:
        """The next row that came this way, out of turn."""
        return self._queue.pop_of(upstream)

    def may_have_further(self, this: DeliveryRound) -> bool:
        """Whether :meth:`further` may find somebody."""
        return any(lines and this.has_further(slow=pace == SLOW) for pace, lines in enumerate(self._fresh))

    def further(self, this: DeliveryRound) -> Upstream | None:
        """Who has something in line and nothing under way, and has been given a further place; None if nobody has."""
        for pace, lines in enumerate(self._fresh):
            passed_over = 0
            while lines and passed_over < PASSED_OVER_MAX and this.has_further(slow=pace == SLOW):
                sender, line = lines.popitem(last=False)
                while line and not self._is_fresh(line[0]):
                    line.popleft()  # it has had its turn with all
                if not line:
                    continue
                found = line.popleft() if this.take_further(line[0]) else None
                if line:
                    lines[sender] = line
                if found is not None:
                    return found
                passed_over += 1
        return None

    def began(self, upstream: Upstream) -> None:
        """A row that came this way is being tried."""
        self._under_way[upstream] += 1

    def ended(self, upstream: Upstream, took_s: float) -> None:
        """It has been, for so long."""
        self._paces[upstream] = SLOW if took_s > SLOW_S else QUICK
        self._paces.move_to_end(upstream)
        if len(self._paces) > PACES_MAX:
            self._paces.popitem(last=False)
        self._under_way[upstream] -= 1
        if not self._under_way[upstream]:
            del self._under_way[upstream]
            if self._queue.has(upstream):
                self._put_fresh(upstream)

    def _put_fresh(self, upstream: Upstream) -> None:
        lines = self._fresh[self._paces.get(upstream, UNKNOWN)]
        lines.setdefault(upstream.sender, deque()).append(upstream)

    def _is_fresh(self, upstream: Upstream) -> bool:
        return upstream not in self._under_way and self._queue.has(upstream)
