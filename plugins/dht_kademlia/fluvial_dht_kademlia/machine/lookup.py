"""One iterative lookup: whom to ask next, and when it is done.

A lookup has one or more disjoint paths. A path knows candidates and asks the nearest of them, ``alpha`` at a time over all paths. No peer is asked
by two paths, so a liar can spoil only the path that met it. The states of a candidate::

    new ──ask──▶ asked ──answer──▶ answered
                   │ patience        ▲
                   ▼                 │ answer
                 slow ───────────────┤
                   │ time-out        │
                   ▼
                 failed

A slow candidate holds up nothing: the next one is asked in its place, also beyond the ring, and its answer still counts; but only for ``slow_ms``
from the first slow one on. Then all that are slow have failed, or each answer of a slow liar could name the next one. Two *rings* are looked at: the ``k`` nearest
candidates that have not failed, and the nearest ``k / 2`` among those with weight. Whoever makes ids nearest to a key owns the first ring, not the
second. When the rings have answered, the ``k / 2`` nearest contacts that this peer itself had are asked as well: it has met them, while
liars that were asked first may have filled the rings with each other. A path is done when nobody of these is left to ask or outstanding.

Whom others have named is asked only while one of these has credit for that, and nobody who has none for answers (``standing``): it is as if nobody had
named them.

Source: Maymounkov, Mazières: "Kademlia", section 2.3; Baumgart, Mies: "S/Kademlia", section 4.4 (disjoint paths).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from enum import Enum
from heapq import nsmallest
from itertools import chain, islice
from typing import Final

import msgspec
from fluvial.addresses import Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Key, PlaceOf, Weigh
from fluvial_dht_kademlia.machine.standing import PeerStanding

NAMERS_MAX: Final = 4
"""Of one candidate; what becomes of it counts for so many of those that have named it."""


class CandidateState(Enum):
    """Where a candidate stands; see the module."""

    NEW = "new"
    ASKED = "asked"
    SLOW = "slow"
    ANSWERED = "answered"
    FAILED = "failed"


_OUTSTANDING = (CandidateState.ASKED, CandidateState.SLOW)


class Candidate(msgspec.Struct):
    """A peer that a lookup has heard of.

    Attributes:
        contact: who and where.
        distance: from the target.
        hops: peers on the way to it, itself included.
        path: number of the path that knows it.
        weighted: whether it had weight when the lookup heard of it.
        namers: who has named it, the first ones; nobody if this peer knew it.
        state: see the module.
    """

    contact: Contact
    distance: int
    hops: int
    path: int
    weighted: bool
    namers: list[PeerId]
    state: CandidateState = CandidateState.NEW


class LookupShape(msgspec.Struct, frozen=True, kw_only=True):
    """How wide a lookup is.

    Attributes:
        k: peers that it ends with.
        alpha: requests in flight that are not slow.
        paths: disjoint paths.
        requests_max: requests in total; then it ends with what it has.
        slow_ms: how long it is waited for slow candidates, from the first one on, in milliseconds.
    """

    k: int
    alpha: int
    paths: int = 1
    requests_max: int = 256
    slow_ms: int = 1_500

    @property
    def taken_max(self) -> int:
        """Contacts of one answer that are looked at."""
        return self.k + self.k // 2


class Lookup(msgspec.Struct):
    """A lookup of the peers nearest to a key.

    Args:
        target: the key.
        own: the peer that looks; it never becomes a candidate.
        shape: how wide it is.
        place: where a peer is.
        weigh: the weight of a peer now.
        standing: what peers are worth that answer and name others; shared by all lookups of a peer.
    """

    target: Key
    own: PeerId
    shape: LookupShape
    place: PlaceOf
    weigh: Weigh
    standing: PeerStanding = msgspec.field(default_factory=PeerStanding)
    requests: int = 0
    _slow_until: int | None = None
    _candidates: dict[PeerId, Candidate] = msgspec.field(default_factory=dict)
    _paths: list[list[Candidate]] = msgspec.field(default_factory=list)
    _weighted: list[list[Candidate]] = msgspec.field(default_factory=list)
    _seeds: list[list[Candidate]] = msgspec.field(default_factory=list)
    _turn: int = 0
    _asked: int = 0

    def start(self, seeds: Iterable[Contact]) -> None:
        """Deal the contacts to begin with to the paths, nearest first, one after the other."""
        self._paths = [[] for _ in range(self.shape.paths)]
        self._weighted = [[] for _ in range(self.shape.paths)]
        ordered = sorted(seeds, key=lambda contact: self.place(contact.peer) ^ self.target)
        for number, contact in enumerate(ordered):
            self._add(contact, path=number % self.shape.paths, hops=1, namer=None)
        self._seeds = [path[: self.shape.k // 2] for path in self._paths]

    def next(self) -> list[Contact]:
        """Whom to ask now; they count as asked."""
        room = max(self.shape.alpha, self.shape.paths) - self._asked
        chosen: list[Contact] = []
        idle = 0
        while len(chosen) < room and idle < len(self._paths) and self.requests < self.shape.requests_max:
            path = self._turn % len(self._paths)
            candidate = self._choose(path, weighted=(self._turn // len(self._paths)) % 2 == 1)
            self._turn += 1
            if candidate is None:
                idle += 1
                continue
            idle = 0
            candidate.state = CandidateState.ASKED
            self._asked += 1
            self.requests += 1
            chosen.append(candidate.contact)
        return chosen

    def answered(self, peer: PeerId, contacts: Iterable[Contact] = ()) -> None:
        """A peer has answered with contacts; of these :attr:`LookupShape.taken_max` are looked at, and none if it has no credit."""
        candidate = self._leave(peer, CandidateState.ANSWERED)
        if candidate is None:
            return
        for namer in candidate.namers:
            self.standing.named(namer, answers=True)
        for contact in islice(contacts, self.shape.taken_max if self.standing.may_name(peer) else 0):
            self._add(contact, path=candidate.path, hops=candidate.hops + 1, namer=peer)
        self._forget(candidate.path)

    def slow(self, peer: PeerId, now: int) -> int:
        """A peer takes long: it no longer holds a place among the ``alpha``. Gives the time at which :meth:`lose_patience` is to be called."""
        if self._slow_until is None:
            self._slow_until = now + self.shape.slow_ms
        candidate = self._candidates.get(peer)
        if candidate is not None and candidate.state is CandidateState.ASKED:
            self._leave(peer, CandidateState.SLOW)
        return max(self._slow_until, now)

    def lose_patience(self, peer: PeerId) -> None:
        """It was waited long enough: a peer that is still slow has failed."""
        candidate = self._candidates.get(peer)
        if candidate is not None and candidate.state is CandidateState.SLOW:
            self.failed(peer)

    def failed(self, peer: PeerId) -> None:
        """A peer has not answered in time, or with rubbish."""
        candidate = self._leave(peer, CandidateState.FAILED)
        for namer in candidate.namers if candidate is not None else ():
            self.standing.named(namer, answers=False)

    @property
    def done(self) -> bool:
        """Whether all rings of all paths have answered, or the requests are used up and none is outstanding."""
        spent = self.requests >= self.shape.requests_max
        for number, path in enumerate(self._paths):
            for candidate in path if spent else self._rings(number):
                if candidate.state in _OUTSTANDING or (candidate.state is CandidateState.NEW and not spent):
                    return False
        return True

    def has_answered(self, peer: PeerId) -> bool:
        """Whether a peer is a candidate that answered."""
        candidate = self._candidates.get(peer)
        return candidate is not None and candidate.state is CandidateState.ANSWERED

    def hops(self, peer: PeerId) -> int:
        """Peers on the way to one that was asked, itself included."""
        return self._candidates[peer].hops

    def nearest(self, count: int, *, weighted: bool = False) -> list[Contact]:
        """The nearest that answered, over all paths; with ``weighted`` only those with weight."""
        answered = [one for one in self._candidates.values() if one.state is CandidateState.ANSWERED]
        if weighted:
            answered = [one for one in answered if self.weigh(one.contact.peer) > 0]
        return [one.contact for one in nsmallest(count, answered, key=_distance)]

    def _leave(self, peer: PeerId, state: CandidateState) -> Candidate | None:
        """Move an outstanding candidate on; None if there is none of this id."""
        candidate = self._candidates.get(peer)
        if candidate is None or candidate.state not in _OUTSTANDING:
            return None
        self._asked -= candidate.state is CandidateState.ASKED
        candidate.state = state
        return candidate

    def _add(self, contact: Contact, *, path: int, hops: int, namer: PeerId | None) -> None:
        peer = contact.peer
        if peer == self.own:
            return
        if (known := self._candidates.get(peer)) is not None:
            if namer is not None and 0 < len(known.namers) < NAMERS_MAX and namer not in known.namers:
                known.namers.append(namer)
            return
        namers = [] if namer is None else [namer]
        candidate = Candidate(contact, self.place(peer) ^ self.target, hops, path, self.weigh(peer) > 0, namers)
        self._candidates[peer] = candidate
        insort(self._paths[path], candidate, key=_distance)
        if candidate.weighted:
            insort(self._weighted[path], candidate, key=_distance)

    def _rings(self, path: int) -> list[Candidate]:
        return self._ring(path, weighted=False) + self._ring(path, weighted=True) + self._asked_seeds(path)

    def _ring(
        self, path: int, *, weighted: bool, without: tuple[CandidateState, ...] = (CandidateState.FAILED,)
    ) -> list[Candidate]:
        known, size = (self._weighted, max(1, self.shape.k // 2)) if weighted else (self._paths, self.shape.k)
        ring: list[Candidate] = []
        doubts = self.standing.doubts
        for candidate in known[path]:
            if len(ring) == size:
                break
            if candidate.state not in without and (not doubts or self._is_worth_asking(candidate)):
                ring.append(candidate)
        return ring

    def _asked_seeds(self, path: int) -> list[Candidate]:
        if not self.standing.doubts:
            return self._seeds[path]
        return [one for one in self._seeds[path] if self._is_worth_asking(one)]

    def _is_worth_asking(self, candidate: Candidate) -> bool:
        """False for a new one that answers with noise, or that only those have named of whose named nobody answers."""
        if candidate.state is not CandidateState.NEW:
            return True
        namers = candidate.namers
        return self.standing.may_answer(candidate.contact.peer) and (
            not namers or any(map(self.standing.may_name, namers))
        )

    def _choose(self, path: int, *, weighted: bool) -> Candidate | None:
        """The nearest one of a path's ring that was not asked; of the other ring if this one has none. Slow ones take no place in the ring."""
        without = (CandidateState.FAILED, CandidateState.SLOW)
        rings = (self._ring(path, weighted=ring, without=without) for ring in (weighted, not weighted))
        return next((one for one in chain(*rings, self._asked_seeds(path)) if one.state is CandidateState.NEW), None)

    def _forget(self, number: int) -> None:
        """Drop candidates beyond reach: at most four rings' worth of new ones are remembered for each path."""
        path, keep_max = self._paths[number], 4 * self.shape.k
        if len(path) <= 2 * keep_max:
            return
        new = [one for one in path if one.state is CandidateState.NEW]
        worth = [one for one in new if self._is_worth_asking(one)]
        heavy = [one for one in worth if one.weighted]
        kept = {one.contact.peer for one in (*worth[:keep_max], *heavy[:keep_max], *self._seeds[number])}
        for one in new:
            if one.contact.peer not in kept:
                del self._candidates[one.contact.peer]
        for lists in (self._paths, self._weighted):
            lists[number] = [one for one in lists[number] if one.contact.peer in self._candidates]


def _distance(candidate: Candidate) -> int:
    return candidate.distance
