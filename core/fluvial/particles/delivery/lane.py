"""What a peer has to get, and when it is tried; pure.

A lane is *idle* as long as nothing is in it. It is *due* when something is, at a time that moves away while the peer does not take
anything: each pause is twice as long as the one before, up to a limit. All particles share the pauses of their peer, so however many of
them go to a peer that is away, it is tried as often as for one. A peer that has no room for one initiator takes from the others: there is a pause
for that one, which all its particles share; and one for a particle that the peer does not take for a reason of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

import msgspec

from fluvial.fairness import GroupedFairQueue, Upstream
from fluvial.few import EMPTY
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.delivery.round import DeliveryRound
from fluvial.stored import OutboxRow

PAUSE_S_FIRST: Final = 0.1
PAUSE_S_REFUSED_MAX: Final = 5.0
"""The longest pause while a peer answers, but takes nothing: it is busy, or its storage has failed."""
PAUSE_S_NAMED: Final = 1.0
"""A shorter pause that the peer names is kept only the first few times: whoever says each time that there is room in a moment is not believed for long."""
PAUSE_S_NAMED_MAX: Final = 60.0
"""The longest pause that a peer may name: rows of particles that have died are forgotten with the next attempt."""
PAUSE_S_AWAY_MAX: Final = 30.0
"""The longest pause while a peer cannot be reached. As pauses double, none is longer than it has been away by then."""
CROWD: Final = 16
"""Senders of which a peer is being handed something, or is to be, times branches of one of them: if there are more, each turn of one of these is long in coming."""
CROWD_ROWS: Final = 64
"""What a crowd may bring together, each an equal part of it,"""
CROWD_ROWS_MIN: Final = 4
"""and so many in any case."""
SCANNED_MAX: Final = 64
"""So many rows are all looked at whenever the lane is tried; more of them once in a while:"""
SCAN_S: Final = 5.0
"""After so long."""
AT_ONCE_MAX: Final = 256
"""Rows that come into line, or are looked at for one that may have its turn, in one go: two milliseconds."""
FEW: Final = 8
"""So many rows need no fair line: the oldest is first."""
QUICK_MAX: Final = 256
"""Upstreams of which it is remembered that the peer was quick with them."""
PASSED_OVER_MAX: Final = 256
"""Rows that may not begin, before it is looked no further for one that may."""
DEAD_MAX: Final = 1_024
"""Rows that are gone whose keys may stay in line, and a quarter of those that are there."""


def everybody(upstream: Upstream) -> bool:
    """Whoever it is may begin."""
    return True


class LaneRow(msgspec.Struct):
    """A row in a lane.

    Attributes:
        row: the row; a newer one of its particle takes its place.
        owner: the initiator of the particle.
        upstream: which way that came.
        lined: whether it is in line for a turn.
        trying: whether it has its turn.
        mended: whether it is to be tried again without a pause.
        told: the kind of failure that the store knows of, if it does; empty if it is one of another row of the particle.
        counted: whether its memory is counted.
        due_s: until when it is put off.
        times: how often it was put off.
    """

    row: OutboxRow
    owner: PeerId
    upstream: Upstream
    lined: bool = False
    trying: bool = False
    mended: bool = False
    told: str | None = None
    counted: bool = False
    due_s: float = 0.0
    times: int = 0


class _NoRoom(msgspec.Struct):
    """An initiator of whom the peer takes nothing now: until when, how often that was in a row, and the rows that wait for it."""

    until_s: float
    times: int
    rows: list[ParticleKey]


class DeliveryLane:
    """See the module's docstring. Most lanes have one row, and of such lanes there may be very many: they have nothing that only others need.

    Args:
        peer: who gets it.
        owner: who waits for it first: the initiator of the particle that made the lane.
        upstream: which way that one came.
        weight: how much an initiator counts; see :class:`FairQueue`.

    Attributes:
        rows: by particle.
        busy: whether it is being served (``schedule``): tried, perhaps several times.
        round: in which that happens.
        due_s: when it is to be tried, by the loop's clock.
        look_s: when it will be looked whether it is due; infinite if it will not.
        failures: how often it was tried since the peer took something.
        away: whether the peer could not be reached the last time, and why; empty otherwise.
    """

    __slots__ = (
        "_again",
        "_full",
        "_left",
        "_line",
        "_quick",
        "_scanned_s",
        "_tried_s",
        "_ways",
        "_weight",
        "away",
        "busy",
        "due_s",
        "failures",
        "look_s",
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
        self.rows: dict[ParticleKey, LaneRow] = {}
        self.busy = False
        self.round: DeliveryRound | None = None
        self.due_s = 0.0
        self.look_s = float("inf")
        self.failures = 0
        self.away = ""
        self._weight = weight
        self._line: GroupedFairQueue[ParticleKey] | None = None  # of more than a few rows
        # How many rows came which way, by sender, where they may be a crowd's.
        self._ways: dict[PeerId, dict[Upstream, int]] | None = None
        self._full: dict[PeerId, _NoRoom] = EMPTY
        self._left: list[ParticleKey] = []  # rows that may have a turn in the next round, if they are not put off
        # A heap of rows that were put off, by the times when they are due.
        self._again: list[tuple[float, ParticleKey]] | None = None
        self._quick: dict[Upstream, None] = EMPTY  # upstreams with which the peer was quick; the last ones are the last
        self._tried_s = self._scanned_s = float("-inf")

    def put(self, row: OutboxRow, owner: PeerId, upstream: Upstream) -> LaneRow:
        """The peer must get a particle of this initiator, which came from this upstream.

        Returns:
            What is remembered of the row.
        """
        if (entry := self.rows.get(row.key)) is None:
            self._count(upstream)
            entry = self.rows[row.key] = LaneRow(row, owner, upstream)
        else:
            if entry.row.attempts and entry.told is None:
                entry.told = ""
            entry.row = row  # the way by which it came first is the one that counts
        if not entry.times:
            until_s = 0.0
            if (full := self._full.get(owner)) is not None:
                until_s = full.until_s
                self._wait_for_room(full, row.key)
            else:
                self._enter(entry)
            if not self.failures:
                self.due_s = until_s if len(self.rows) == 1 else min(self.due_s, until_s)
        return entry

    def initiator_of(self, row: OutboxRow) -> PeerId:
        """Whose particle a row is about, which is in the lane."""
        entry = self.rows.get(row.key)
        return self.owner if entry is None else entry.owner

    def upstream_of(self, row: OutboxRow) -> Upstream:
        """Which way its particle came."""
        entry = self.rows.get(row.key)
        return self.upstream if entry is None else entry.upstream

    def _count(self, upstream: Upstream) -> None:
        """One more row came this way."""
        if self._ways is None:
            if len(self.rows) < 2 * CROWD:
                return
            self._ways = {}
            for entry in self.rows.values():
                self._count(entry.upstream)
        of_sender = self._ways.setdefault(upstream.sender, {})
        of_sender[upstream] = of_sender.get(upstream, 0) + 1

    def is_full_for(self, upstream: Upstream) -> bool:
        """Whether a crowd waits for a peer that takes what it gets, and who comes this way has its part of the places in line.

        Senders have equal parts, and of each its branches: those cost it nothing, and are no crowd to anybody else.
        """
        if self._ways is None or self.failures:
            return False
        of_sender = self._ways.get(upstream.sender, {})
        own, crowd = of_sender.get(upstream, 0), len(self._ways) * len(of_sender)
        return crowd > CROWD and own >= CROWD_ROWS_MIN and own * crowd >= CROWD_ROWS

    def _enter(self, entry: LaneRow) -> None:
        if entry.lined or entry.trying:
            return
        entry.lined = True
        if self._line is not None:
            self._line.push(entry.upstream, entry.owner, entry.row.key)
        elif len(self.rows) > FEW:
            self._line_up()

    def _line_up(self) -> None:
        """Make the line of all that are to have turns."""
        self._line = GroupedFairQueue(self._weight)
        for one in self.rows.values():
            if one.lined:
                self._line.push(one.upstream, one.owner, one.row.key)

    def enter_due(self, now_s: float) -> float:
        """Put what was put off into line, if its pause is over, or some of that; when the next pause will be."""
        for _ in range(AT_ONCE_MAX):
            if not self._again or self._again[0][0] > now_s:
                break
            if (entry := self.rows.get(heappop(self._again)[1])) is not None:
                self._enter(entry)
        return self._again[0][0] if self._again else float("inf")

    @property
    def in_line(self) -> int:
        """How many rows are to have a turn now."""
        return len(self._line) if self._line is not None else sum(entry.lined for entry in self.rows.values())

    def turn(self, now_s: float, may_begin: Callable[[Upstream], bool] = everybody) -> OutboxRow | None:
        """The row whose turn it is, fair by upstream and then by initiator; None if there is none. Whoever takes it says :meth:`tried`.

        Args:
            now_s: the loop's time.
            may_begin: whether it may be one that came this way; others keep their place in line.
        """
        self.enter_due(now_s)
        if self._line is None:
            lined = (entry for entry in self.rows.values() if entry.lined and may_begin(entry.upstream))
            return next(filter(None, (self._begin(entry, now_s) for entry in lined)), None)
        passed: dict[Upstream, list[LaneRow]] = {}
        found, left, looks = None, PASSED_OVER_MAX, AT_ONCE_MAX
        while self._line and found is None and left and looks:
            looks -= 1
            # Dead rows are forgotten while their keys are in line, and may have come again since.
            if (entry := self.rows.get(self._line.pop())) is None or not entry.lined:
                continue
            if may_begin(entry.upstream):
                found = self._begin(entry, now_s)
                continue
            seen = entry.upstream in passed
            passed.setdefault(entry.upstream, []).append(entry)
            left = 0 if seen else left - 1  # all others have been asked in between
        for entries in passed.values():
            for entry in entries:
                self._line.push(entry.upstream, entry.owner, entry.row.key)
        return found

    def _begin(self, entry: LaneRow, now_s: float) -> OutboxRow | None:
        """The row of an entry that was in line, which is being tried now; None if something is to be waited for."""
        entry.lined = False
        if self._waits(entry, now_s):
            return None
        entry.trying, entry.mended = True, False
        return entry.row

    def _waits(self, entry: LaneRow, now_s: float) -> bool:
        """Whether something is to be waited for before a row is tried; it is looked at again then."""
        if entry.due_s > now_s:
            self._look_again(entry.due_s, entry.row.key)
            return True
        if (full := self._full.get(entry.owner)) is not None and full.until_s > now_s:
            self._wait_for_room(full, entry.row.key)
            return True
        return False

    def is_quick(self, upstream: Upstream) -> bool:
        """Whether the peer was quick with what came this way the last time, as far as it is remembered; of everybody, if it was with nobody."""
        return not self._quick or upstream in self._quick

    def tried(self, row: OutboxRow, *, done: bool, quick: bool = True) -> tuple[LaneRow, ...]:
        """A row had its turn. If the particle was asked for again meanwhile, it has another one; if it is not done, with the next round, or when its pause is over.

        Args:
            row: which.
            done: whether the peer has it, or nobody wants it to any more.
            quick: whether the peer was quick.

        Returns:
            What was remembered of the row, if it is gone.
        """
        entry = self.rows[row.key]
        entry.trying = False
        # Else there is room for all, or the peer was quick to refuse it.
        if self._line is not None and (done or not quick):
            self._note_pace(entry.upstream, quick)
        if not done:
            self._left.append(row.key)
            return ()
        if self._full and (full := self._full.pop(entry.owner, None)) is not None:
            self._left += full.rows
        if entry.row is row:
            self._forget(entry)
            return (entry,)
        self._enter(entry)
        return ()

    def _note_pace(self, upstream: Upstream, quick: bool) -> None:
        if quick:
            if self._quick is EMPTY:
                self._quick = {}
            self._quick.pop(upstream, None)
            self._quick[upstream] = None
            if len(self._quick) > QUICK_MAX:
                del self._quick[next(iter(self._quick))]
        elif upstream in self._quick:
            del self._quick[upstream]

    def news(self, key: ParticleKey, kind: str) -> bool:
        """Whether a particle fails in this way other than it did the last time."""
        entry = self.rows[key]
        is_news, entry.told = entry.told != kind, kind
        return is_news

    def has_failed(self, row: OutboxRow) -> bool:
        """Whether the store knows of failures of a row."""
        return row.attempts > 0 or self.rows[row.key].told is not None

    def _forget(self, entry: LaneRow) -> None:
        if self._ways is not None:
            of_sender = self._ways[entry.upstream.sender]
            of_sender[entry.upstream] -= 1
            if not of_sender[entry.upstream]:
                del of_sender[entry.upstream]
            if not of_sender:
                del self._ways[entry.upstream.sender]
            if len(self.rows) <= CROWD:
                self._ways = None
        del self.rows[entry.row.key]

    def put_off(self, row: OutboxRow, now_s: float, rng: random.Random, *, mended: bool = False) -> None:
        """The peer does not take this row now, for a reason that lies in the row: it is tried again after a pause.

        The first time there is none if the reason is ``mended``.
        """
        entry = self.rows[row.key]
        at_once = mended and not entry.times
        pause_s = 0.0 if at_once else min(PAUSE_S_FIRST * 2**entry.times, PAUSE_S_REFUSED_MAX)
        entry.mended = entry.mended or at_once
        entry.due_s = now_s + pause_s * rng.uniform(0.5, 1.5)
        entry.times = min(entry.times + 1, 30)
        self._look_again(entry.due_s, row.key)

    def put_off_all(self, row: OutboxRow, now_s: float, rng: random.Random, *, retry_s: float = 0.0) -> None:
        """The peer has no room for the initiator of this row: nothing more of that one is tried before a pause is over."""
        owner = self.initiator_of(row)
        full = self._full.get(owner)
        if full is not None and full.until_s > now_s:  # several were under way
            self._wait_for_room(full, row.key)
            return
        times = 0 if full is None else full.times
        pause_s = min(PAUSE_S_FIRST * 2**times, PAUSE_S_REFUSED_MAX) * rng.uniform(0.5, 1.5)
        if retry_s:
            pause_s = max(min(retry_s, PAUSE_S_NAMED_MAX), min(pause_s, PAUSE_S_NAMED))
        if self._full is EMPTY:
            self._full = {}
        self._full[owner] = full = _NoRoom(now_s + pause_s, min(times + 1, 30), [])
        self._wait_for_room(full, row.key)

    def _wait_for_room(self, full: _NoRoom, key: ParticleKey) -> None:
        full.rows.append(key)
        self._look_again(full.until_s, key)

    def _look_again(self, at_s: float, key: ParticleKey) -> None:
        if self._again is None:
            self._again = []
        heappush(self._again, (at_s, key))

    def is_put_off(self, row: OutboxRow, now_s: float) -> bool:
        """Whether the row waits by itself, whatever the others do."""
        entry = self.rows.get(row.key)
        return entry is not None and (entry.mended or self._due_s(entry) > now_s)

    def times_put_off(self, row: OutboxRow) -> int:
        """How often a row was put off for a reason of its own."""
        return self.rows[row.key].times

    def has_turns(self, now_s: float) -> bool:
        """Whether a row is to be tried now, as far as that is known without a look at all of many."""
        if len(self.rows) <= SCANNED_MAX:
            return any(self._due_s(entry) <= now_s for entry in self.rows.values())
        self._enter_left(now_s)
        again_s = self.enter_due(now_s)
        return self.in_line > 0 or bool(self._left) or again_s <= now_s

    def _due_s(self, entry: LaneRow) -> float:
        return max(entry.due_s, self._full[entry.owner].until_s) if entry.owner in self._full else entry.due_s

    def _enter_left(self, now_s: float) -> None:
        """Put what is left of the round before into line, or some of that."""
        left, self._left = self._left[:AT_ONCE_MAX], self._left[AT_ONCE_MAX:]
        for key in left:
            if (entry := self.rows.get(key)) is not None and not self._waits(entry, now_s):
                self._enter(entry)

    def begin(self, now_ms: int, now_s: float) -> list[LaneRow]:
        """It is being tried: all rows whose particles live get a turn, the others go, if they are found, and are returned."""
        self._tried_s = now_s
        if len(self.rows) <= SCANNED_MAX or now_s >= self._scanned_s + SCAN_S:
            return self._scan(now_ms, now_s)
        self._enter_left(now_s)
        return []

    def _scan(self, now_ms: int, now_s: float) -> list[LaneRow]:
        """Look at all rows; those whose particles have died go, and are returned. Few of them come into line as well, if they are not put off."""
        self._scanned_s = now_s
        dead = [entry for entry in self.rows.values() if entry.row.deadline_ms <= now_ms]
        for entry in dead:
            self._forget(entry)
        if self._line is not None and len(self._line) > DEAD_MAX + 1.25 * len(self.rows):
            self._line_up()
        if self._full:
            owners = {entry.owner for entry in self.rows.values()}
            self._full = {one: state for one, state in self._full.items() if one in owners} or EMPTY
        if len(self.rows) > SCANNED_MAX:
            self._enter_left(now_s)
            return dead
        self._left.clear()
        self._again = None
        for key, entry in self.rows.items():
            if (due_s := self._due_s(entry)) <= now_s:
                self._enter(entry)
            else:
                self._look_again(due_s, key)
        return dead

    def took(self) -> None:
        """All was delivered, or put off; what came meanwhile is due at once."""
        self.failures, self.away = 0, ""
        if len(self.rows) <= SCANNED_MAX:
            self.due_s = min(map(self._due_s, self.rows.values()), default=0.0)
        else:
            self.due_s = 0.0 if self.in_line or self._left or not self._again else self._again[0][0]

    def failed(self, now_s: float, rng: random.Random, *, away: str) -> None:
        """Something is left; it is tried again after a pause.

        Args:
            now_s: the loop's time.
            rng: makes the pauses differ by half.
            away: why the peer could not be reached; empty if it was.
        """
        self.away = away
        pause_s = min(PAUSE_S_FIRST * 2**self.failures, PAUSE_S_AWAY_MAX if away else PAUSE_S_REFUSED_MAX)
        self.failures = min(self.failures + 1, 30)
        self.due_s = now_s + pause_s * rng.uniform(0.5, 1.5)

    def wake(self) -> None:
        """There is a reason to try now, but not more often than with the shortest pause."""
        self.due_s = min(self.due_s, self._tried_s + PAUSE_S_FIRST)
