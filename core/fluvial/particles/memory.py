"""Who holds how much of the memory that particles may take; pure.

Everything that grows with what strangers send has an entry: machines, scripts, deliveries that are being taken in. Each entry has an
owner, the initiator. As long as the sum is below the limit, everybody gets what they ask for. Above it everybody has a *part*: the limit
divided by weight among all who hold something. Whoever holds more than their part gets nothing more, and is the first to give something
back; whoever holds less is served as before. As the parts together are the limit, somebody above their part is always found.

The figures are estimates in bytes (``fluvial.air.machine.memory``, ``fluvial.air.data.weight``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain, count, islice
from typing import Final, Generic, Self, TypeVar

import msgspec

from fluvial.errors import Refused
from fluvial.identity import PeerId

ItemT = TypeVar("ItemT", bound=Hashable)

MEMORY: Final = "memory"
"""Reason of a refusal for want of memory; trying again may help."""

COPIES: Final = 3
"""How often the bytes of a delivery are in memory while it is taken in, handed over or passed on: as they came or go, as its parts, as what is written."""

ADMITTING: Final = 0.75
"""So much of the limit may be in use for something new to be let in; what goes on has the rest."""

OWNERS_LOOKED_AT: Final = 256
"""Initiators among which one with more than their part is looked for."""
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


class _Owner(msgspec.Struct):
    """What one initiator holds."""

    weight: int
    held: int = 0
    entries: int = 0


class Reservation:
    """Memory that is taken while a delivery is being taken in, which is the block of a ``with``."""

    __slots__ = ("_budget", "_key", "_owner", "_size")

    def __init__(self, budget: MemoryBudget, key: Hashable, owner: PeerId, size: int) -> None:
        self._budget, self._key, self._owner, self._size = budget, key, owner, size

    def __enter__(self) -> Self:
        self._budget.check(self._owner, self._size)
        self._budget.charge(self._key, self._owner, self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.release(self._key)

    def grow(self, more: int) -> None:
        """It takes so much more; raises Refused, ``memory``, as :meth:`MemoryBudget.check`."""
        self._budget.check(self._owner, more)
        self._size += more
        self._budget.charge(self._key, self._owner, self._size)


class MemoryBudget:
    """See the module's docstring.

    Args:
        bytes_max: the limit.
        weight: how much an initiator counts, from 0 on; it gets ``1 + weight`` parts. Asked when it gets its first entry.
        me: this peer, which never has too much.
        relieve: called when there is too much, before anybody is refused; gives back what can be had again.

    Attributes:
        bytes_max, weight, relieve: as above.
    """

    def __init__(
        self, bytes_max: int, *, weight: Callable[[PeerId], int], me: PeerId, relieve: Callable[[], None] = lambda: None
    ) -> None:
        self.bytes_max: Final = bytes_max
        self.relieve = relieve
        self.weight: Final = weight
        self._me: Final = me
        self._entries: dict[Hashable, tuple[PeerId, int]] = {}
        self._owners: dict[PeerId, _Owner] = {}
        self._heavy: BySize[PeerId] = BySize()
        self._weights = 0
        self._total = 0
        self._gone: deque[Hashable] = deque()
        self._numbers = count()

    @property
    def total(self) -> int:
        """All that is held."""
        while self._gone:
            self.release(self._gone.popleft())
        return self._total

    @property
    def over(self) -> bool:
        """Whether that is more than the limit."""
        return self.total > self.bytes_max

    def held(self, owner: PeerId) -> int:
        """What one initiator holds."""
        found = self._owners.get(owner)
        return 0 if found is None else found.held

    def part(self, owner: PeerId) -> int:
        """The part of one initiator, if it is one of those who hold something."""
        found = self._owners.get(owner)
        if found is not None:
            return self.bytes_max * found.weight // self._weights
        weight = 1 + self.weight(owner)
        return self.bytes_max * weight // (self._weights + weight)

    # --- entries

    def charge(self, key: Hashable, owner: PeerId, size: int) -> None:
        """An entry has this size now."""
        known = self._entries.get(key)
        before = 0 if known is None else known[1]
        self._entries[key] = owner, size
        if (found := self._owners.get(owner)) is None:
            found = self._owners[owner] = _Owner(1 + self.weight(owner))
            self._weights += found.weight
        if known is None:
            found.entries += 1
        found.held += size - before
        self._total += size - before
        self._heavy.put(owner, found.held / found.weight)

    def release(self, key: Hashable) -> None:
        """An entry is gone."""
        owner, size = self._entries.pop(key, (None, 0))
        if owner is None:
            return
        found = self._owners[owner]
        found.entries -= 1
        found.held -= size
        self._total -= size
        if found.entries:
            self._heavy.put(owner, found.held / found.weight)
            return
        del self._owners[owner]
        self._weights -= found.weight
        self._heavy.remove(owner)

    def release_later(self, key: Hashable) -> None:
        """As :meth:`release`, from any thread."""
        self._gone.append(key)

    def reserved(self, owner: PeerId, size: int) -> Reservation:
        """For ``with``: take memory while the block runs; raises Refused, ``memory``, as :meth:`check`."""
        return Reservation(self, ("delivery", next(self._numbers)), owner, size)

    # --- too much

    def check(self, owner: PeerId, more: int = 0) -> None:
        """Whether an initiator may have so much more; what is under way already may go on with the memory that this leaves free.

        Raises:
            Refused: ``memory``; there is too much, and it would have more than its part.
        """
        self._check(owner, more, int(ADMITTING * self.bytes_max))

    def check_under_way(self, owner: PeerId) -> None:
        """Whether what an initiator has under way may go on; raises Refused, ``memory``, as :meth:`check`."""
        self._check(owner, 0, self.bytes_max)

    def _check(self, owner: PeerId, more: int, most: int) -> None:
        if self.total + more <= most or owner == self._me:
            return
        self.relieve()
        if self.total + more <= most:
            return
        held, part = self.held(owner), self.part(owner) * most // self.bytes_max
        if held + more > part:
            raise Refused(
                f"this peer's memory for particles is in use, and with {held + more:,} bytes {owner} would have more than its part of "
                f"{part:,}; try again in some seconds",
                reason=MEMORY,
            )

    def heaviest(self) -> PeerId | None:
        """One of those who hold most for their weight, if it is more than their part."""
        return next(iter(self.above(1.0)), None)

    def above(self, share: float) -> Sequence[PeerId]:
        """Those who hold more than a share of their part, heavier ones mostly first; some of them, if there are very many."""
        found = []
        for owner in islice(self._heavy.descending(), OWNERS_LOOKED_AT):
            held, enough = self.held(owner), share * self.part(owner)
            if held <= enough / 2:
                break  # those that follow hold less than twice as much for their weight
            if held > enough and owner != self._me:
                found.append(owner)
        return found
