"""Fair queueing: whoever asks for much waits for their own, not the others for them; pure.

Every owner has a line, first in, first out. Of the owners that have something in line, the one is served whose next item has the
lowest *start tag* in virtual time: an item starts when the owner's item before it has ended, but not before now, and takes one unit of
virtual time divided by the owner's share. So owners of equal shares take turns, however long their lines are, and who comes for the
first time is served next.

A stranger's share is 1. Weights halve with each link of a chain of trust, and the greatest is 65,536; in proportion to it strangers would wait for ever. So
the share grows by one with each doubling (:func:`share_of`): each link nearer to a root counts one, and the heaviest peer gets 18 times as much as a stranger.

Source: P. Goyal, H. M. Vin, H. Cheng, *Start-time Fair Queueing*, SIGCOMM 1996; items have length 1.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any, Final, Generic, TypeVar

import msgspec

from fluvial.identity import PeerId

ItemT = TypeVar("ItemT")
OwnerT = TypeVar("OwnerT", bound=Hashable)

BRANCH_BYTES: Final = 4
BRANCH_MAX: Final = 256**BRANCH_BYTES - 1
BRANCHES_KEY_BYTES: Final = 16
FEW: Final = 16
"""Of shared places: who has so many takes further ones only while the half is free."""
IDLE_MAX: Final = 1_024
"""Owners with nothing in line that are remembered, before those are forgotten to whom it makes no difference."""


class Upstream(msgspec.Struct, frozen=True):
    """Where something comes from: whose share of what is shared it uses.

    Attributes:
        sender: the peer that handed it over.
        branch: one of those whom that peer serves itself, as a number that means something to it alone. Whoever passes things on for others says with each
            whose it is, so that the share of the sender is shared among these as well. Nobody gains by lying: a sender's branches divide its own share.
    """

    sender: PeerId
    branch: int = 0


class Payer(msgspec.Struct, frozen=True):
    """Whose share of what is short something uses: of its way's share, that of its initiator.

    Names are free, connections are not. So everybody who came the same way has one share together; but an initiator for whom somebody vouches has one of its own.

    Attributes:
        upstream: the way.
        initiator: whose particle it is.
    """

    upstream: Upstream
    initiator: PeerId

    @classmethod
    def of(cls, initiator: PeerId, upstream: Upstream, *, vouched: bool) -> Payer:
        """Who pays for what an initiator's particles use, which came this way.

        Args:
            initiator: of the particles.
            upstream: the way.
            vouched: whether the initiator has a weight of its own.
        """
        return cls(Upstream(initiator) if vouched else upstream, initiator)

    @property
    def client(self) -> int | PeerId | None:
        """Which of those it is whom the peer serves that brought it, as far as is known; None if it serves nobody but itself."""
        if self.upstream.branch:
            return self.upstream.branch
        return self.initiator if self.initiator != self.upstream.sender else None


class Branches:
    """The numbers that a peer gives to those who bring it particles, for the peers to which it hands these on. They tell nothing else about them.

    One for each sender, whatever branches that one speaks of: those cost it nothing, and here each of them would be somebody with an equal share.

    Args:
        key: of this peer alone, 16 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key: Final = key

    def of(self, sender: PeerId) -> int:
        """The branch of what a peer has brought: always the same one."""
        return int.from_bytes(
            hashlib.blake2b(sender.public_key, key=self._key, digest_size=BRANCH_BYTES).digest(), "big"
        )


def equal(owner: object) -> int:
    """The weight of everybody where nobody is known better than others."""
    return 0


def share_of(weight: int) -> int:
    """How many parts somebody of a weight gets, where a stranger gets one."""
    return 1 + max(0, weight).bit_length()


class FairQueue(Generic[OwnerT, ItemT]):
    """See the module's docstring.

    Args:
        weight: how much an owner counts, from 0 on; see :func:`share_of`. Asked for when an owner comes into line, and true until nothing of it is left there.
        quick: whether every other turn goes to those who come into line with nothing else there, and were not served in this round of virtual time, first
            in, first out: who asks for little waits for the others of that kind, and not for one item of each of hundreds who always have some in line. Only
            where owners cost something: those who stand in line have half of the turns in any case.
    """

    __slots__ = (
        "_ends",
        "_ends_max",
        "_fresh",
        "_length",
        "_lines",
        "_next",
        "_now",
        "_odd",
        "_order",
        "_shares",
        "_starts",
        "_weight",
    )

    def __init__(self, weight: Callable[[OwnerT], int] = equal, *, quick: bool = False) -> None:
        self._weight: Final = weight
        # Entries of ``_starts``, some not true any more.
        self._fresh: deque[tuple[float, int, OwnerT]] | None = deque() if quick else None
        self._odd = False
        self._shares: dict[OwnerT, int] = {}  # of the owners in line
        self._lines: dict[OwnerT, deque[ItemT]] = {}
        self._ends: dict[OwnerT, float] = {}  # virtual times at which the owners' last items end
        self._ends_max = IDLE_MAX  # of which so many are kept before some are forgotten
        # Of the owners in line: when their next items start, and a number that orders equals; and a heap of these, and of some that are not true any more.
        self._starts: dict[OwnerT, tuple[float, int]] = {}
        self._next: list[tuple[float, int, OwnerT]] = []
        self._order = count()
        self._now = 0.0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def waiting(self, owner: OwnerT) -> int:
        """How many items of an owner are in line."""
        line = self._lines.get(owner)
        return 0 if line is None else len(line)

    def push(self, owner: OwnerT, item: ItemT, *, first: bool = False) -> None:
        """Put an item behind the owner's others, or ``first``, before them."""
        if (line := self._lines.get(owner)) is None:
            line = deque()
            self._come(owner, line)
        if first:
            line.appendleft(item)
        else:
            line.append(item)
        self._length += 1

    def pop(self) -> tuple[OwnerT, ItemT]:
        """Take the item whose turn it is, and its owner. Raises IndexError if there is none."""
        self._odd = not self._odd
        while self._odd and self._fresh:
            start, order, owner = self._fresh.popleft()
            if self._starts.get(owner) == (start, order):
                return owner, self._take(owner)
        while True:
            start, order, owner = heappop(self._next)
            if self._starts.get(owner) == (start, order):
                self._now = max(self._now, start)  # of whom has just had a turn before it was theirs it may lie behind
                return owner, self._take(owner)

    def pop_of(self, owner: OwnerT) -> ItemT:
        """Take the next item of an owner that is in line, out of turn: its turn after that comes later for it."""
        return self._take(owner)

    def take(self, owner: OwnerT, item: ItemT) -> None:
        """Take this item, which is in line, as :meth:`pop_of` does. Raises ValueError if it is not there."""
        line = self._lines[owner]
        if line[0] is not item:
            line.remove(item)
            line.appendleft(item)
        self._take(owner)

    def _take(self, owner: OwnerT) -> ItemT:
        start, _ = self._starts.pop(owner)
        line = self._lines[owner]
        item = line.popleft()
        self._length -= 1
        if not self._length:  # nobody waits: there is nothing to share, and what was is forgotten
            self._lines.clear()
            self._shares.clear()
            self._ends.clear()
            self._ends_max = IDLE_MAX
            self._next.clear()
            if self._fresh:
                self._fresh.clear()
            self._now = 0.0
            return item
        self._ends[owner] = start + 1 / self._shares[owner]
        self._leave(owner, line)
        return item

    def remove(self, owner: OwnerT, item: ItemT) -> bool:
        """Take an item out of line that is not wanted any more; False if it is not there."""
        line = self._lines.get(owner)
        if line is None or item not in line:
            return False
        line.remove(item)
        self._length -= 1
        if not line:
            del self._lines[owner], self._shares[owner], self._starts[owner]
        return True

    def withdraw(self, owner: OwnerT) -> deque[ItemT]:
        """Take all items of an owner out of line, however many these are: their line, for :meth:`come_back`."""
        line = self._lines.pop(owner, None)
        if line is None:
            return deque()
        self._length -= len(line)
        del self._shares[owner], self._starts[owner]
        return line

    def come_back(self, owner: OwnerT, line: deque[ItemT]) -> None:
        """Put the items of an owner that has nothing in line into it, all at once."""
        if line:
            self._come(owner, line)
            self._length += len(line)

    def _come(self, owner: OwnerT, line: deque[ItemT]) -> None:
        """Somebody has something in line who had nothing."""
        self._lines[owner] = line
        self._shares[owner] = share_of(self._weight(owner))
        self._enter(owner)
        if self._fresh is not None and self._starts[owner][0] <= self._now:
            self._fresh.append((*self._starts[owner], owner))

    def _enter(self, owner: OwnerT) -> None:
        self._starts[owner] = start, order = max(self._now, self._ends.get(owner, 0.0)), next(self._order)
        heappush(self._next, (start, order, owner))
        if len(self._next) > FEW + 2 * len(self._lines):
            self._next = [(start, order, owner) for owner, (start, order) in self._starts.items()]
            heapify(self._next)

    def _leave(self, owner: OwnerT, line: deque[ItemT]) -> None:
        if line:
            self._enter(owner)
            return
        del self._lines[owner], self._shares[owner]
        if len(self._ends) > self._ends_max + 2 * len(self._lines):
            self._ends = {one: end for one, end in self._ends.items() if end > self._now or one in self._lines}
            self._ends_max = max(
                IDLE_MAX, 2 * len(self._ends)
            )  # all may be of use: they are not looked through with each item


class GroupedFairQueue(Generic[ItemT]):
    """Fair by sender, for each sender by branch, and for each branch by owner: whoever comes under many names has them all in one place.

    Args:
        weight: how much a peer counts, as a sender or as an owner; see :func:`share_of`.
    """

    def __init__(self, weight: Callable[[PeerId], int] = equal) -> None:
        self._weight: Final = weight
        self._senders: FairQueue[PeerId, None] = FairQueue(weight, quick=True)
        self._branches: dict[PeerId, FairQueue[Upstream, None]] = {}
        self._owners: dict[Upstream, FairQueue[PeerId, ItemT]] = {}

    def __len__(self) -> int:
        return len(self._senders)

    def push(self, upstream: Upstream, owner: PeerId, item: ItemT) -> None:
        """Put an item behind those of its owner that came the same way."""
        sender = upstream.sender
        if (branches := self._branches.get(sender)) is None:
            branches = self._branches[sender] = FairQueue(equal, quick=True)
        if (owners := self._owners.get(upstream)) is None:
            owners = self._owners[upstream] = FairQueue(self._weight)
        self._senders.push(sender, None)
        branches.push(upstream, None)
        owners.push(owner, item)

    def remove(self, upstream: Upstream, owner: PeerId, item: ItemT) -> bool:
        """Take an item out of line that is not wanted any more; False if it is not there."""
        owners = self._owners.get(upstream)
        if owners is None or not owners.remove(owner, item):
            return False
        branches = self._branches[upstream.sender]
        branches.remove(upstream, None)
        self._senders.remove(upstream.sender, None)
        self._tidy(upstream)
        return True

    def pop(self) -> ItemT:
        """Take the item whose turn it is. Raises IndexError if there is none."""
        sender, _ = self._senders.pop()
        upstream, _ = self._branches[sender].pop()
        _, item = self._owners[upstream].pop()
        self._tidy(upstream)
        return item

    def _tidy(self, upstream: Upstream) -> None:
        if not self._owners[upstream]:
            del self._owners[upstream]
        if not self._branches[upstream.sender]:
            del self._branches[upstream.sender]


class _Held:
    """How much somebody holds, and those whom it holds it for; an initiator holds the items themselves, in the order in which they came."""

    __slots__ = ("_ranks", "items", "number", "parts")

    def __init__(self) -> None:
        self.number = 0
        self.parts: dict[Hashable, _Held] = {}
        self.items: dict[Any, None] = {}
        self._ranks: dict[
            int, dict[Hashable, None]
        ] = {}  # names of parts by how much they hold; who has held so much for longest is the first

    def count(self, name: Hashable, part: _Held, more: int) -> None:
        """A part of it holds one more, or one less."""
        ranks = self._ranks
        if before := part.number:
            equals = ranks[before]
            del equals[name]
            if not equals:
                del ranks[before]
        part.number = now = before + more
        if not now:
            del self.parts[name]
        elif now in ranks:
            ranks[now][name] = None
        else:
            ranks[now] = {name: None}

    @property
    def heaviest(self) -> _Held:
        """The part that holds most. There are few different numbers, however many they are."""
        return self.parts[next(iter(self._ranks[max(self._ranks)]))]


class PushOut(Generic[OwnerT]):
    """Things that are held for somebody, so many at most: beyond that the oldest of whoever has most gives way.

    Who has most is asked of senders, then of the branches of that one, then of the initiators of that one. So who has little always finds room,
    and keeps it as long as others have more.

    Source: B. Suter, T. V. Lakshman, D. Stiliadis, A. K. Choudhury, *Design Considerations for Supporting TCP with Per-flow Queueing*, INFOCOM 1998,
    section III (longest queue drop).

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._payers: dict[OwnerT, Payer] = {}
        self._all = _Held()

    def __len__(self) -> int:
        return len(self._payers)

    def put(self, item: OwnerT, payer: Payer) -> OwnerT | None:
        """Hold an item that is not held; returns the one that gives way to it and is not held any more, if one must."""
        self._payers[item] = payer
        self._count(payer, 1).items[item] = None
        if len(self._payers) <= self._most:
            return None
        oldest: OwnerT = next(iter(self._all.heaviest.heaviest.heaviest.items))
        self.remove(oldest)
        return oldest

    def remove(self, item: OwnerT) -> None:
        """Hold it no more, if it was held."""
        if (payer := self._payers.pop(item, None)) is not None:
            del self._count(payer, -1).items[item]

    def _count(self, payer: Payer, more: int) -> _Held:
        """Somebody holds one more, or one less; what its initiator holds."""
        held = self._all
        for name in (payer.upstream.sender, payer.upstream, payer.initiator):
            if (part := held.parts.get(name)) is None:
                part = held.parts[name] = _Held()
            held.count(name, part, more)
            held = part
        return held


class SharedPlaces(Generic[OwnerT]):
    """Places that are taken for a while and given back: the more of them an owner has, the more must be free for it to take another one.

    Whoever has ``n`` takes a further one as long as fewer than ``total / (1 + n / few)`` are taken by all: who has none takes any that is free, who has
    ``few`` takes from the first half, who has three times as many from the first quarter. So one owner alone has many, two dozen greedy ones leave the
    half of some hundreds free, and well over a hundred are needed to leave none to the next.

    Source: after A. K. Choudhury, E. L. Hahne, *Dynamic Queue Length Thresholds for Shared-Memory Packet Switches*, IEEE/ACM Transactions on Networking
    6 (2), 1998. Their threshold is in proportion to what is free, and its first users leave little to later ones where places are given back slowly.

    Args:
        total: how many there are.
        each: how many one owner may have at most.
        few: see above.
    """

    def __init__(self, total: int, each: int, few: int = FEW) -> None:
        self.taken = 0
        self._each = each
        self._few = few
        self._few_of_all = few * total
        self._of: dict[OwnerT, int] = {}

    def has(self, owner: OwnerT) -> int:
        """How many an owner has."""
        return self._of.get(owner, 0)

    def take(self, owner: OwnerT) -> bool:
        """Take a place; False if there is none for this owner now."""
        mine = self._of.get(owner, 0)
        if mine >= self._each or self.taken * (self._few + mine) >= self._few_of_all:
            return False
        self._of[owner] = mine + 1
        self.taken += 1
        return True

    def give(self, owner: OwnerT) -> None:
        """Give a place back."""
        self.taken -= 1
        mine = self._of[owner]
        if mine > 1:
            self._of[owner] = mine - 1
        else:
            del self._of[owner]
