"""What a peer has to get, and when it is tried; pure.

A lane is *idle* as long as nothing is in it. It is *due* when something is, at a time that moves away while the peer does not take
anything: each pause is twice as long as the one before, up to a limit. All particles share the pauses of their peer, so however many of
them go to a peer that is away, it is tried as often as for one. A peer that has no room for one initiator takes from the others: there is a pause
for that one, which all its particles share; and one for a particle that the peer does not take for a reason of its own.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from fluvial.fairness import GroupedFairQueue, Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery_round import SLOW_S, DeliveryRound
from fluvial.stored import OutboxRow

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_REFUSED_MAX: Final = 5.0
"""The longest pause while a peer answers, but takes nothing: it is busy, or its storage has failed."""
PAUSE_S_NAMED: Final = 1.0
"""A shorter pause that the peer names is kept only the first few times: whoever says each time that there is room in a moment is not believed for long."""
PAUSE_S_AWAY_MAX: Final = 30.0
"""The longest pause while a peer cannot be reached. As pauses double, none is longer than it has been away by then."""


CROWD: Final = 16
"""Upstreams of which a peer is being handed something, or is to be: if there are more, each turn of one of them is long in coming."""
CROWD_ROWS: Final = 64
"""What a crowd may bring together, each an equal part of it,"""
CROWD_ROWS_MIN: Final = 4
"""and so many in any case."""


PACES_MAX: Final = 1_024
"""Upstreams of which it is remembered whether the peer was slow with what they brought."""
QUICK, UNKNOWN, SLOW = range(3)
PASSED_OVER_MAX: Final = 8
"""Of upstreams with nothing under way, before it is looked no further for one that finds a place."""


class DeliveryLane:
    """See the module's docstring.

    Args:
        peer: who gets it.
        owner: who waits for it first: the initiator of the particle that made the lane.
        upstream: which way that one came.
        weight: how much an initiator counts; see :class:`FairQueue`.

    Attributes:
        rows: by particle; a newer row of a particle takes the place of the older one.
        busy: whether it is being tried.
        round: in which that happens.
        due_s: when it is to be tried, by the loop's clock.
        failures: how often it was tried since the peer took something.
        away: whether the peer could not be reached the last time, and why; empty otherwise.
    """

    __slots__ = (
        "_again",
        "_fresh",
        "_full",
        "_later",
        "_line",
        "_lined",
        "_mended",
        "_owners",
        "_paces",
        "_told",
        "_tried_s",
        "_trying",
        "_under_way",
        "_upstreams",
        "_ways",
        "away",
        "busy",
        "due_s",
        "failures",
        "owner",
        "peer",
        "round",
        "rows",
        "upstream",
    )

    def __init__(self, peer: PeerId, owner: PeerId, upstream: Upstream, weight: Callable[[PeerId], int]) -> None:
        self.peer: Final = peer
        self.owner: Final = owner
        self.upstream: Final = upstream
        self.rows: dict[ParticleKey, OutboxRow] = {}
        self.busy = False
        self.round: DeliveryRound | None = None
        self.due_s = 0.0
        self.failures = 0
        self.away = ""
        self._line: GroupedFairQueue[ParticleKey] = GroupedFairQueue(weight)
        self._lined: set[ParticleKey] = set()
        self._trying: dict[ParticleKey, Upstream] = {}
        self._under_way: Counter[Upstream] = Counter()  # the same rows
        # Upstreams that have something in line and nothing under way, by their paces, as they came; some of them no longer.
        self._fresh: tuple[deque[Upstream], ...] = deque(), deque(), deque()
        self._paces: OrderedDict[Upstream, int] = OrderedDict()
        self._owners: dict[ParticleKey, PeerId] = {}
        self._upstreams: dict[ParticleKey, Upstream] = {}  # only of those that were not brought by their initiators
        self._ways: dict[Upstream, int] | None = (
            None  # how many rows came which way; counted only where they may be a crowd's
        )
        self._told: dict[ParticleKey, str] = {}
        # Rows that were put off, and initiators of whom the peer takes nothing now: until when, and how often that was.
        self._later: dict[ParticleKey, tuple[float, int]] = {}
        self._full: dict[PeerId, tuple[float, int]] = {}
        self._again: list[
            tuple[float, ParticleKey]
        ] = []  # a heap of rows that were put off, by the times when they are due
        self._mended: set[ParticleKey] = set()  # rows that are to be tried again at once
        self._tried_s = float("-inf")

    def put(self, row: OutboxRow, owner: PeerId, upstream: Upstream) -> None:
        """The peer must get a particle of this initiator, which came from this upstream."""
        if (before := self.rows.get(row.key)) is not None and before.attempts:
            self._told.setdefault(row.key, "")
        if before is None:
            self._count(upstream)
        else:
            upstream = self.upstream_of(before)  # it came first this way, and is counted there
        self.rows[row.key] = row
        self._owners[row.key] = owner
        if upstream != Upstream(owner):
            self._upstreams[row.key] = upstream
        if row.key in self._later:
            return
        self._enter(row.key)
        if not self.failures:
            until_s = self._full[owner][0] if owner in self._full else 0.0
            self.due_s = until_s if len(self.rows) == 1 else min(self.due_s, until_s)

    def initiator_of(self, row: OutboxRow) -> PeerId:
        """Whose particle a row is about, which is in the lane."""
        return self._owners.get(row.key, self.owner)

    def upstream_of(self, row: OutboxRow) -> Upstream:
        """Which way its particle came."""
        return self._upstreams.get(row.key) or Upstream(self.initiator_of(row))

    def _count(self, upstream: Upstream) -> None:
        """One more row came this way."""
        if self._ways is None:
            if len(self.rows) < 2 * CROWD:
                return
            self._ways = Counter(map(self.upstream_of, self.rows.values()))
        self._ways[upstream] = self._ways.get(upstream, 0) + 1

    def is_full_for(self, upstream: Upstream) -> bool:
        """Whether a crowd waits for a peer that takes what it gets, and who comes this way has its part of the places in line."""
        ways = self._ways
        if ways is None or len(ways) <= CROWD or self.failures:
            return False
        own = ways.get(upstream, 0)
        return own >= CROWD_ROWS_MIN and own * len(ways) >= CROWD_ROWS

    def _enter(self, key: ParticleKey) -> None:
        if key not in self._lined and key not in self._trying:
            self._lined.add(key)
            owner = self._owners[key]
            upstream = self._upstreams.get(key) or Upstream(owner)
            if not (upstream in self._under_way or self._line.has(upstream)):
                self._fresh[self._paces.get(upstream, UNKNOWN)].append(upstream)
            self._line.push(upstream, owner, key)

    @property
    def in_line(self) -> int:
        """How many rows are to have a turn now."""
        return len(self._line)

    def turn(self, now_s: float) -> OutboxRow | None:
        """The row whose turn it is, fair by upstream and then by initiator; None if there is none. Whoever takes it says :meth:`tried`."""
        while self._again and self._again[0][0] <= now_s:  # a round may go on for as long as there is more
            if (key := heappop(self._again)[1]) in self.rows:
                self._enter(key)
        while self._line:
            if (row := self._begin(self._line.pop(), now_s)) is not None:
                return row
        return None

    def further_turn(self, now_s: float, this: DeliveryRound) -> tuple[OutboxRow, Upstream] | None:
        """The row of somebody who has nothing under way, if there is one and a further place for it, and which way it came.

        Those are first with whom the peer was quick the last time, and among equals whoever waits for longest.
        """
        for pace, line in enumerate(self._fresh):
            for _ in range(min(len(line), PASSED_OVER_MAX)):
                if not this.has_further(slow=pace == SLOW):
                    break
                upstream = line.popleft()
                if upstream in self._under_way or not self._line.has(upstream):
                    continue  # it has had its turn with all
                if not this.take_further(upstream):
                    line.append(upstream)
                    continue
                while self._line.has(upstream):
                    if (row := self._begin(self._line.pop_of(upstream), now_s)) is not None:
                        return row, upstream
                this.give_further(upstream)
        return None

    def may_have_further_turns(self, this: DeliveryRound) -> bool:
        """Whether :meth:`further_turn` may find something."""
        return any(line and this.has_further(slow=pace == SLOW) for pace, line in enumerate(self._fresh))

    def _begin(self, key: ParticleKey, now_s: float) -> OutboxRow | None:
        """The row, out of line and being tried, if it is there and nothing is to be waited for."""
        self._lined.discard(key)
        if (row := self.rows.get(key)) is None:
            return None
        if (due_s := self._due_s(key)) > now_s:
            heappush(self._again, (due_s, key))
            return None
        upstream = self._trying[key] = self.upstream_of(row)
        self._under_way[upstream] += 1
        self._mended.discard(key)
        return row

    def tried(self, row: OutboxRow, *, done: bool, took_s: float = 0.0) -> None:
        """A row had its turn. If the particle was asked for again meanwhile, it has another one; if it is not done, with the next round, or when its pause is over.

        Args:
            row: which.
            done: whether the peer has it, or nobody wants it to any more.
            took_s: how long the peer was about it.
        """
        upstream = self._trying.pop(row.key)
        self._note_pace(upstream, took_s)
        self._under_way[upstream] -= 1
        if not self._under_way[upstream]:
            del self._under_way[upstream]
            if self._line.has(upstream):
                self._fresh[self._paces.get(upstream, UNKNOWN)].append(upstream)
        if not done:
            return
        self._full.pop(self.initiator_of(row), None)
        if self.rows.get(row.key) is row:
            self._forget(row.key)
        elif row.key in self.rows:
            self._enter(row.key)

    def _note_pace(self, upstream: Upstream, took_s: float) -> None:
        """Remember whether the peer was slow with something that came this way."""
        self._paces[upstream] = SLOW if took_s > SLOW_S else QUICK
        self._paces.move_to_end(upstream)
        if len(self._paces) > PACES_MAX:
            self._paces.popitem(last=False)

    def news(self, key: ParticleKey, kind: str) -> bool:
        """Whether a particle fails in this way other than it did the last time."""
        if self._told.get(key) == kind:
            return False
        self._told[key] = kind
        return True

    def has_failed(self, row: OutboxRow) -> bool:
        """Whether the store knows of failures of a row."""
        return row.attempts > 0 or row.key in self._told

    def _forget(self, key: ParticleKey) -> None:
        if self._ways is not None:
            upstream = self.upstream_of(self.rows[key])
            self._ways[upstream] -= 1
            if not self._ways[upstream]:
                del self._ways[upstream]
            if len(self.rows) <= CROWD:
                self._ways = None
        del self.rows[key]
        del self._owners[key]
        self._upstreams.pop(key, None)
        self._told.pop(key, None)
        self._later.pop(key, None)
        self._mended.discard(key)

    def put_off(self, row: OutboxRow, now_s: float, rng: random.Random, *, mended: bool = False) -> None:
        """The peer does not take this row now, for a reason that lies in the row: it is tried again after a pause.

        The first time there is none if the reason is ``mended``.
        """
        _, times = self._later.get(row.key, (0.0, 0))
        pause_s = 0.0 if mended and not times else min(PAUSE_S_FIRST * 2**times, PAUSE_S_REFUSED_MAX)
        if mended and not times:
            self._mended.add(row.key)
        due_s = now_s + pause_s * rng.uniform(0.5, 1.5)
        self._later[row.key] = due_s, min(times + 1, 30)
        if due_s > now_s:
            heappush(self._again, (due_s, row.key))

    def put_off_all(self, row: OutboxRow, now_s: float, rng: random.Random, *, retry_s: float = 0.0) -> None:
        """The peer has no room for the initiator of this row: nothing more of that one is tried before a pause is over."""
        owner = self.initiator_of(row)
        until_s, times = self._full.get(owner, (0.0, 0))
        if until_s > now_s:  # several were under way
            heappush(self._again, (until_s, row.key))
            return
        pause_s = min(PAUSE_S_FIRST * 2**times, PAUSE_S_REFUSED_MAX) * rng.uniform(0.5, 1.5)
        if retry_s:
            pause_s = max(retry_s, min(pause_s, PAUSE_S_NAMED))
        self._full[owner] = now_s + pause_s, min(times + 1, 30)
        heappush(self._again, (now_s + pause_s, row.key))

    def is_put_off(self, row: OutboxRow, now_s: float) -> bool:
        """Whether the row waits by itself, whatever the others do."""
        return row.key in self._mended or self._due_s(row.key) > now_s

    def has_turns(self, now_s: float) -> bool:
        """Whether a row is to be tried now."""
        return any(self._due_s(key) <= now_s for key in self.rows)

    def _due_s(self, key: ParticleKey) -> float:
        own_s = self._later[key][0] if key in self._later else 0.0
        return max(own_s, self._full[owner][0]) if (owner := self._owners.get(key)) in self._full else own_s

    def begin(self, now_ms: int, now_s: float) -> None:
        """It is being tried: all rows whose particles live get a turn, the others go."""
        self.busy = True
        self._tried_s = now_s
        for key in [key for key, row in self.rows.items() if row.deadline_ms <= now_ms]:
            self._forget(key)
        self._again.clear()
        if self._full:
            owners = set(self._owners.values())
            self._full = {one: state for one, state in self._full.items() if one in owners}
        for key in self.rows:
            if (due_s := self._due_s(key)) <= now_s:
                self._enter(key)
            else:
                heappush(self._again, (due_s, key))

    def took(self) -> None:
        """All was delivered, or put off; what came meanwhile is due at once."""
        self.busy = False
        self.failures, self.away = 0, ""
        self.due_s = min(map(self._due_s, self.rows), default=0.0)

    def failed(self, now_s: float, rng: random.Random, *, away: str) -> None:
        """Something is left; it is tried again after a pause.

        Args:
            now_s: the loop's time.
            rng: makes the pauses differ by half.
            away: why the peer could not be reached; empty if it was.
        """
        self.busy = False
        self.away = away
        pause_s = min(PAUSE_S_FIRST * 2**self.failures, PAUSE_S_AWAY_MAX if away else PAUSE_S_REFUSED_MAX)
        self.failures = min(self.failures + 1, 30)
        self.due_s = now_s + pause_s * rng.uniform(0.5, 1.5)

    def wake(self) -> None:
        """There is a reason to try now, but not more often than with the shortest pause."""
        self.due_s = min(self.due_s, self._tried_s + PAUSE_S_FIRST)
