"""A round in which a lane's rows are tried by several workers, and who finds a place; pure.

A peer says that it has a particle when its machine has run, which may take seconds. Whoever brings such particles would soon hold all places, and what others
bring would wait for those, though the peer had time for it at once. So a place that is held for long does not count any more:

=======  ===========================================  =======
place    event                                        next
=======  ===========================================  =======
young    the peer has answered                        free
young    it has not for ``HELD_S``                    old
old      the peer has answered                        gone
=======  ===========================================  =======

There are so many young places, for which all take turns (``lane``); a quarter of them is for those alone with whom the peer was quick the last time, if it was with any. Old ones cost the peer: who has some of them begins nothing new while there are too many
(:meth:`DeliveryRound.is_open_to`), and the fewer of them somebody has, the more there may be. Who has none always begins.

Not before a place is held for long: what a peer is handed at one time waits there in the order in which it came, and here in a fair one.

A peer that others hand much as well takes less from each of them, and answers what is beyond that with an error. So no more is under way then than the others
that it has at that moment, and one more each time that it has taken so many. What is left waits here, where each has turns, and not each row in longer and longer pauses.
Of these few as well a quarter, and one of two, is for those with whom the peer was quick, and they try whether it takes one more: it may take seconds for each of the others.

Sources: of the rule for old places as for ``SharedPlaces`` (``fluvial.fairness``); of that for what is under way D.-M. Chiu, R. Jain, *Analysis of the Increase and
Decrease Algorithms for Congestion Avoidance in Computer Networks*, Computer Networks and ISDN Systems 17 (1989).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery.byte_gate import ByteGate
from fluvial.waiting import Event, TimerHandle

HELD_S: Final = 0.25
"""Most deliveries are answered in less time, also where much is done."""
OLD_MAX: Final = 96
"""Old places; a peer takes about so many more from one sender. One upstream alone has 10 of them, dozens have one each,"""
OLD_OF_SENDER: Final = 512
"""and all branches of a sender together some 80."""
FOR_QUICK: Final = 4
"""This part of the young places is for them: it is known that these are soon free again."""
UNDER_WAY_MAX: Final = 256
"""More is never under way to a peer, in young and old places."""
LARGE_BYTES: Final = 2**20
"""Of large deliveries under way at one time. A peer reads nothing more of a connection of which it has too much, and what is small would wait for that."""


class DeliveryRound:
    """See the module's docstring. Times are in seconds, by one clock that does not go back.

    Args:
        at_once: young places; if there is only one, none becomes old.

    Attributes:
        at_once: see above.
        workers: how many are at work, or about to begin.
        failed: whether a row is left.
        away: why the peer cannot be reached; empty as long as it can.
        heard_s: when it has answered something the last time.
        stuck: whether nobody in line may begin before an old place is gone.
        held_back: whether nobody in line may have one of the places for the quick.
        large: lets large deliveries through.
        over: set when no worker is left, for whoever waits for that.
        timer: of whoever waits for a time at which more may begin.
    """

    __slots__ = (
        "_besides",
        "_free",
        "_most",
        "_of_quick",
        "_old",
        "_old_of",
        "_shown",
        "_young",
        "at_once",
        "away",
        "failed",
        "heard_s",
        "held_back",
        "large",
        "over",
        "stuck",
        "timer",
        "workers",
    )

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.workers = 0
        self.failed = False
        self.away = ""
        self.heard_s = float("-inf")
        self.stuck = False
        self.held_back = False
        self.large: Final = ByteGate(LARGE_BYTES)
        self.over: Event | None = None
        self.timer: TimerHandle | None = None
        self._free = 0  # workers that have no row
        self._most = float(UNDER_WAY_MAX)  # under way at one time
        self._shown = UNDER_WAY_MAX  # the same, but for what is only tried
        self._young: dict[ParticleKey, tuple[float, Upstream]] = {}  # since when; the oldest is the first
        self._of_quick: set[ParticleKey] = set()  # those of them in the places for the quick
        self._old: dict[ParticleKey, Upstream] = {}
        self._besides: dict[ParticleKey, int] = {}  # of each, how many others were under way when it began
        self._old_of: Counter[Upstream | PeerId] = Counter()  # by upstream and by sender

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

    def places(self, now_s: float) -> int:
        """How many young places for all are left when each worker that has no row has one; negative if they are not enough."""
        while self.at_once > 1 and self._young:
            key, (since_s, upstream) = next(iter(self._young.items()))
            if now_s - since_s < HELD_S:
                break
            del self._young[key]
            self._of_quick.discard(key)
            self._old[key] = upstream
            self._old_of[upstream] += 1
            self._old_of[upstream.sender] += 1
        for_all = self.at_once - self.at_once // FOR_QUICK
        return for_all - len(self._young) + len(self._of_quick) - self._free

    @property
    def places_for_quick(self) -> int:
        """How many of those for the quick are left."""
        return self.at_once // FOR_QUICK - len(self._of_quick)

    def takes(self, more: int, *, quick: bool = False) -> bool:
        """Whether the peer takes so many more than those under way, and one for each worker that has no row, as far as it has shown.

        Args:
            more: how many.
            quick: whether they are of those with whom it was quick.
        """
        wanted = self._under_way + self._free + more
        if quick:
            return wanted <= self._most
        # Where nothing is quick, it is tried at times as well whether the peer takes more.
        shown = max(self._shown, int(self._most) // 2)
        kept = max(1, shown // FOR_QUICK) - len(self._of_quick)
        return wanted <= max(1, shown - max(0, kept))

    def narrow(self, key: ParticleKey) -> bool:
        """The peer has answered one of those under way with an error: it has no place for more than the others; False if there are none.

        Some of the others may have ended since: what was under way when it began counts, too.
        """
        others = max(self._under_way - 1, self._besides[key])
        if others:
            self._most = min(self._most, others)
            self._shown = min(self._shown, others)
        return others > 0

    def widen(self) -> None:
        """The peer has taken one of those under way."""
        self._shown = max(self._shown, self._under_way)
        self._most = min(self._most + 1 / self._most, UNDER_WAY_MAX)

    @property
    def _under_way(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def old(self) -> int:
        """How many old places there are."""
        return len(self._old)

    @property
    def next_old_s(self) -> float:
        """When the next place is held for long; infinite if none will be."""
        if self.at_once == 1 or not self._young:
            return float("inf")
        return next(iter(self._young.values()))[0] + HELD_S

    def is_open_to(self, upstream: Upstream) -> bool:
        """Whether more may begin of what comes this way."""
        all_of_them = len(self._old)
        if not all_of_them:
            return True
        own, of_sender = self._old_of[upstream], self._old_of[upstream.sender]
        if own and all_of_them * (1 + own) >= OLD_MAX:
            return False
        return not of_sender or all_of_them * (OLD_OF_SENDER + of_sender) < OLD_MAX * OLD_OF_SENDER

    def begin(self, key: ParticleKey, upstream: Upstream, now_s: float, *, as_quick: bool = False) -> None:
        """A worker begins with a row, perhaps in one of the places for the quick."""
        self._free -= 1
        self._besides[key] = self._under_way
        if as_quick:
            self._of_quick.add(key)
        self._young[key] = now_s, upstream

    def end(self, key: ParticleKey) -> bool:
        """It has been tried; whether that was quick."""
        self._free += 1
        del self._besides[key]
        if self._young.pop(key, None) is not None:
            self._of_quick.discard(key)
            return True
        upstream = self._old.pop(key)
        self.stuck = False
        for one in (upstream, upstream.sender):
            self._old_of[one] -= 1
            if not self._old_of[one]:
                del self._old_of[one]
        return False
