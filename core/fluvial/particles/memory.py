"""Who holds how much of the memory that particles may take; pure.

Everything that grows with what strangers send has an entry: machines, scripts, deliveries that are being taken in. Each entry has
somebody who pays for it (:class:`~fluvial.fairness.Payer`). As long as the sum is below the limit, everybody gets what they ask for. Above it everybody has a *part*:
the limit is divided by weight among the peers that brought something which is held, the part of each equally among its branches, and the part of these by weight among
initiators. Whoever holds more than their part is refused if the branch, and the peer, hold more than theirs as well, and such are the first to give something
back; all others are served as before. As the parts together are the limit, somebody above their part is always found; and hundreds of names
that come one way divide one part among themselves.

To what was accepted and holds nothing now, as after a restart, memory is *promised*. That bounds nothing but what is let in anew: there it counts as if it were held,
and whoever goes on finds all the room that there is, however much was promised.

Where hundreds of branches of hundreds of peers hold something, a part is less than one machine takes. So a branch that holds *little* is let in also if that is more than its part,
until a little more than the limit is held: then machines of those who hold most leave, and there is room for it again.

The figures are estimates in bytes (``fluvial.air.machine.memory``, ``fluvial.air.data.weight``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from fluvial.errors import Refused
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId

ItemT = TypeVar("ItemT", bound=Hashable)

MEMORY: Final = "memory"
"""Reason of a refusal for want of memory; trying again may help."""

COPIES: Final = 3
"""How often the bytes of a delivery are in memory while it is taken in, handed over or passed on: as they came or go, as its parts, as what is written."""

ADMITTING: Final = 0.75
"""So much of the limit may be in use for something new to be let in; what goes on has the rest."""

LITTLE_PART: Final = 2_048
"""A branch with no more than this part of the limit holds little,"""
BEYOND_PART: Final = 32
"""and there may be this part of the limit more for such branches."""

LOOKED_AT_MAX: Final = 64
"""Of those who share a part so many are looked at to find one with more than that; the next look is at others."""
LEVELS: Final = 64
"""Sizes are sorted by their number of bits."""


class BySize(Generic[ItemT]):
    """Items sorted roughly by size: those of one level differ by less than a factor of two, and the one put first comes first."""

    def __init__(self) -> None:
        self._levels: list[dict[ItemT, None]] = [{} for _ in range(LEVELS)]
        self._level_of: dict[ItemT, int] = {}

    def __len__(self) -> int:
        return len(self._level_of)

    def put(self, item: ItemT, size: float) -> None:
        """Put an item in, or give it another size."""
        level = min(max(int(size), 0).bit_length(), LEVELS - 1)
        before = self._level_of.get(item)
        if before == level:
            return
        if before is not None:
            del self._levels[before][item]
        self._level_of[item] = level
        self._levels[level][item] = None

    def remove(self, item: ItemT) -> None:
        """Take an item out, if it is there."""
        if (level := self._level_of.pop(item, None)) is not None:
            del self._levels[level][item]

    def largest(self) -> ItemT | None:
        """One of the largest items; None if there are none."""
        return next(self.descending(), None)

    def descending(self) -> Iterator[ItemT]:
        """The items, larger ones mostly before smaller ones; nothing may be changed meanwhile."""
        return chain.from_iterable(reversed(self._levels))


class _Share:
    """What somebody holds, who has a part of something: a peer, one of its branches, or an initiator in one of these.

    Attributes:
        weight: of the part.
        held: bytes.
        promised: bytes.
        entries: how many entries that is; without any the share is gone.
        below: those who share the part.
        weights: the sum of theirs.
    """

    __slots__ = ("below", "entries", "held", "promised", "weight", "weights")

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.held = self.promised = self.entries = self.weights = 0
        self.below: dict[Hashable, _Share] = {}

    def add(self, name: Hashable, weight: int) -> _Share:
        """One more among those below."""
        share = self.below[name] = _Share(weight)
        self.weights += weight
        return share

    def remove(self, name: Hashable) -> None:
        """One less."""
        self.weights -= self.below.pop(name).weight

    def some_below(self) -> list[tuple[Any, _Share]]:
        """Some of those below, with their names; the next time others."""
        some = list(islice(self.below.items(), LOOKED_AT_MAX))
        if len(self.below) > LOOKED_AT_MAX:
            for name, share in some:
                del self.below[name]
                self.below[name] = share  # to the end
        return some


class _Entry(msgspec.Struct):
    """Something that is held or promised, who pays for it, and in which shares it is counted: those of the peer, its branch and the initiator."""

    payer: Payer
    shares: tuple[_Share, _Share, _Share]
    size: int = 0
    promised: int = 0


class Reservation:
    """Memory that is taken while a delivery is being taken in, which is the block of a ``with``."""

    __slots__ = ("_budget", "_key", "_payer", "_size")

    def __init__(self, budget: MemoryBudget, key: Hashable, payer: Payer, size: int) -> None:
        self._budget, self._key, self._payer, self._size = budget, key, payer, size

    def __enter__(self) -> Self:
        self._budget.check(self._payer, self._size)
        self._budget.charge(self._key, self._payer, self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.release(self._key)

    def grow(self, more: int) -> None:
        """It takes so much more; raises Refused, ``memory``, as :meth:`MemoryBudget.check`."""
        self._budget.check(self._payer, more)
        self._size += more
        self._budget.charge(self._key, self._payer, self._size)


class MemoryBudget:
    """See the module's docstring.

    Args:
        bytes_max: the limit.
        weight: how much a peer counts, from 0 on; it gets ``1 + weight`` parts. Asked when it gets its first entry.
        me: this peer, which never has too much.
        relieve: called when there is too much, before anybody is refused; gives back what can be had again.
        give_back: called before somebody is refused; gives something back that they hold and can have again, and says whether there was anything.

    Attributes:
        bytes_max, weight, relieve, give_back: as above.
    """

    def __init__(
        self,
        bytes_max: int,
        *,
        weight: Callable[[PeerId], int],
        me: PeerId,
        relieve: Callable[[], None] = lambda: None,
        give_back: Callable[[Payer], bool] = lambda _: False,
    ) -> None:
        self.bytes_max: Final = bytes_max
        self.relieve = relieve
        self.give_back = give_back
        self.weight: Final = weight
        self._me: Final = me
        self._own: Final = Payer(Upstream(me), me)
        self._entries: dict[Hashable, _Entry] = {}
        self._all = _Share(1)
        self._heavy: BySize[PeerId] = BySize()
        self._gone: deque[Hashable] = deque()
        self._numbers = count()

    @property
    def total(self) -> int:
        """All that is held."""
        while self._gone:
            self.release(self._gone.popleft())
        return self._all.held

    @property
    def over(self) -> bool:
        """Whether that is more than the limit."""
        return self.total > self.bytes_max

    def payer(self, initiator: PeerId, upstream: Upstream) -> Payer:
        """Who pays for what an initiator's particles hold, which came this way."""
        if initiator == self._me:
            return self._own
        return Payer.of(initiator, upstream, vouched=self.weight(initiator) > 0)

    def held(self, payer: Payer) -> int:
        """What an initiator holds that came one way."""
        return self._levels(payer)[-1][0]

    def part(self, payer: Payer) -> int:
        """The part that it has, if it is one of those who hold something."""
        return self._levels(payer)[-1][1]

    def _levels(self, payer: Payer) -> list[tuple[int, int, int]]:
        """What the peer, its branch and the initiator hold, the part of each, and what is promised to each."""
        found, part, above = [], self.bytes_max, self._all
        for name in _names(payer):
            here = above.below.get(name)
            weight = here.weight if here is not None else self._weighs(name)
            part = part * weight // (above.weights if here is not None else above.weights + weight)
            above = here if here is not None else _Share(weight)
            found.append((above.held, part, above.promised))
        return found

    def _weighs(self, name: PeerId | int) -> int:
        """The weight of a share of this name: branches have equal ones."""
        return 1 if isinstance(name, int) else 1 + self.weight(name)

    # --- entries

    def charge(self, key: Hashable, payer: Payer, size: int) -> None:
        """An entry has this size now; the first time it is said who pays for it."""
        if (entry := self._entries.get(key)) is None:
            entry = self._entries[key] = self._enter(payer)
        elif entry.size == size:
            return
        more = size - entry.size
        entry.size = size
        self._all.held += more
        for share in entry.shares:
            share.held += more
        sender = entry.shares[0]
        self._heavy.put(entry.payer.upstream.sender, sender.held / sender.weight)

    def promise(self, key: Hashable, payer: Payer, size: int) -> None:
        """A new entry that holds nothing now is to find so much memory later."""
        entry = self._entries[key] = self._enter(payer)
        entry.promised = size
        for share in (self._all, *entry.shares):
            share.promised += size

    def _enter(self, payer: Payer) -> _Entry:
        above, shares = self._all, []
        for name in _names(payer):
            above = here if (here := above.below.get(name)) is not None else above.add(name, self._weighs(name))
            above.entries += 1
            shares.append(above)
        sender, branch, initiator = shares
        return _Entry(payer, (sender, branch, initiator))

    def release(self, key: Hashable) -> None:
        """An entry is gone."""
        if (entry := self._entries.pop(key, None)) is None:
            return
        self._all.held -= entry.size
        self._all.promised -= entry.promised
        above = self._all
        for share, name in zip(entry.shares, _names(entry.payer), strict=True):
            share.entries -= 1
            share.held -= entry.size
            share.promised -= entry.promised
            if not share.entries:
                above.remove(name)
            above = share
        peer, sender = entry.shares[0], entry.payer.upstream.sender
        if peer.entries:
            self._heavy.put(sender, peer.held / peer.weight)
        else:
            self._heavy.remove(sender)

    def release_later(self, key: Hashable) -> None:
        """As :meth:`release`, from any thread."""
        self._gone.append(key)

    def reserved(self, payer: Payer, size: int) -> Reservation:
        """For ``with``: take memory while the block runs; raises Refused, ``memory``, as :meth:`check`."""
        return Reservation(self, ("delivery", next(self._numbers)), payer, size)

    # --- too much

    def check(self, payer: Payer, more: int = 0) -> None:
        """Whether somebody may have so much more; what is under way already may go on with the memory that this leaves free.

        Raises:
            Refused: ``memory``; there is too much, and they would have more than their part.
        """
        self._check(payer, more, int(ADMITTING * self.bytes_max), is_new=True)

    def check_under_way(self, payer: Payer) -> None:
        """Whether what somebody has under way may go on; raises Refused, ``memory``, as :meth:`check`."""
        self._check(payer, 0, self.bytes_max, is_new=False)

    def _check(self, payer: Payer, more: int, most: int, *, is_new: bool) -> None:
        more_of_all = more + self._all.promised * is_new
        if self.total + more_of_all <= most or payer.upstream.sender == self._me:
            return
        self.relieve()
        if self._has_little(payer, more):  # what is promised to others does not count then
            most, more_of_all, is_new = self.bytes_max + self.bytes_max // BEYOND_PART, more, False
        while (
            self.total + more_of_all > most and (excess := self._excess(payer, more, most, is_new=is_new)) is not None
        ):
            if not self.give_back(payer):
                held, part = excess
                raise Refused(
                    f"this peer's memory for particles is in use, and with {held:,} bytes {payer.initiator} would have more than its part of "
                    f"{part:,} of what {payer.upstream.sender} brings; try again in some seconds",
                    reason=MEMORY,
                )

    def _has_little(self, payer: Payer, more: int) -> bool:
        """Whether the branch that brings something has little, with so much more and what is promised to it."""
        _, (held, _, promised), _ = self._levels(payer)
        return (held + promised + more) * LITTLE_PART <= self.bytes_max

    def _excess(self, payer: Payer, more: int, most: int, *, is_new: bool) -> tuple[int, int] | None:
        """What somebody would hold with so much more, and their part of so much, if they would have too much."""
        levels = [
            (held + promised * is_new + more, part * most // self.bytes_max)
            for held, part, promised in self._levels(payer)
        ]
        return levels[-1] if all(held > part for held, part in levels) else None

    def heaviest(self) -> Payer | None:
        """One of those who hold most for their weight, if the peer that brought it holds more than its part."""
        return next(iter(self.above(1.0)), None)

    def above(self, share: float) -> Sequence[Payer]:
        """Some of those who hold more than a share of their part as their branches and peers do, heavier ones mostly first."""
        found: list[tuple[float, Payer]] = []
        for sender in self._heavy.descending():
            peer = self._all.below[sender]
            enough = share * self.bytes_max / self._all.weights
            if peer.held / peer.weight <= enough / 2 or len(found) >= LOOKED_AT_MAX:
                break  # those that follow hold less than twice as much for their weight
            if peer.held / peer.weight > enough and sender != self._me:
                found += self._above(sender, peer, enough * peer.weight)
        return [payer for _, payer in sorted(found, key=lambda one: -one[0])]

    def _above(self, sender: PeerId, peer: _Share, part: float) -> Iterator[tuple[float, Payer]]:
        """Those who came by a peer and hold more than their part of its own, and by how much; some of them, and others the next time."""
        looked_at = 0
        for number, branch in peer.some_below():
            for initiator, one in branch.some_below():
                looked_at += 1
                more = one.held - part * branch.weight / peer.weights * one.weight / branch.weights
                if more > 0:
                    yield more / one.weight, Payer(Upstream(sender, number), initiator)
            if looked_at >= LOOKED_AT_MAX:
                return


def _names(payer: Payer) -> tuple[PeerId, int, PeerId]:
    """Of the shares on the way to an initiator's: of the peer that brought it, of the branch, and of its own."""
    return payer.upstream.sender, payer.upstream.branch, payer.initiator
