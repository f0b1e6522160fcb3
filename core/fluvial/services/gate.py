"""How many calls may be in progress: in total and per service, shared fairly by initiator; a bounded number waits, the rest is told that we are busy.

One initiator has at most three quarters of the places, and of the waiting ones: there is always one left for somebody else. Whoever waits
gets the next free place in turns with other initiators (``fairness``), not behind everything that one of them has begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import anyio
import msgspec

from fluvial.errors import ServiceError
from fluvial.fairness import FairQueue, equal
from fluvial.identity import PeerId
from fluvial.services.status import Status
from fluvial.waiting import now_s

LINES_KEPT: Final = 64
"""Services of which it is remembered that they were called, though no call is in progress; scripts could invent any number of them."""


def share_of(most: int) -> int:
    """How much of something one initiator can have at one time: three quarters, rounded up."""
    return most - most // 4


class _Wish:
    """One call's wish for a place."""

    __slots__ = ("_news", "given")

    def __init__(self) -> None:
        self.given = False
        self._news: anyio.Event | None = None

    def give(self) -> None:
        """It is granted."""
        self.given = True
        if self._news is not None:
            self._news.set()

    async def wait(self, deadline: float) -> None:
        """Returns when it is granted, or at the deadline."""
        self._news = anyio.Event()
        with anyio.CancelScope(deadline=deadline):
            await self._news.wait()


_GIVEN: Final = _Wish()
"""That of every call that got its place at once."""
_GIVEN.give()


class _Initiator(msgspec.Struct, eq=False):
    """What an initiator has of some places.

    Attributes:
        engaged: calls that have a place, or are in line for one.
        parked: calls that wait until a call of the same initiator has ended, because it has its share.
    """

    engaged: int = 0
    parked: deque[_Wish] | None = None


class _Places:
    """A number of places, and who waits for one."""

    def __init__(self, most: int, weight: Callable[[PeerId], int]) -> None:
        self.most = most
        self._free = most
        self._share = share_of(most)
        self._line: FairQueue[PeerId, _Wish] = FairQueue(weight)
        self._initiators: dict[PeerId, _Initiator] = {}

    async def take(self, initiator: PeerId, deadline: float) -> _Wish | None:
        """A place that is not free now (:meth:`take_free`), to be handed to :meth:`leave`; None if none became free before the deadline."""
        wish = self._ask(initiator)
        if wish.given:
            return wish
        try:
            await wish.wait(deadline)
        except BaseException:
            self.leave(initiator, wish)
            raise
        if not wish.given:
            self.leave(initiator, wish)
            return None
        return wish

    def take_free(self, initiator: PeerId) -> bool:
        """Take a place if one is free, nobody is in line for it, and the initiator has not its share."""
        if not self._free or self._line:
            return False
        if (one := self._initiators.get(initiator)) is None:
            self._initiators[initiator] = _Initiator(1)
        elif one.engaged < self._share:
            one.engaged += 1
        else:
            return False
        self._free -= 1
        return True

    def _ask(self, initiator: PeerId) -> _Wish:
        one = self._initiators.setdefault(initiator, _Initiator())
        wish = _Wish()
        if one.engaged < self._share:
            self._enter(initiator, one, wish)
        else:
            one.parked = one.parked or deque()
            one.parked.append(wish)
        return wish

    def _enter(self, initiator: PeerId, one: _Initiator, wish: _Wish) -> None:
        one.engaged += 1
        if self._free and not self._line:
            self._free -= 1
            wish.give()
        else:
            self._line.push(initiator, wish)
            self._give()

    def _give(self) -> None:
        while self._free and self._line:
            self._free -= 1
            self._line.pop()[1].give()

    def leave(self, initiator: PeerId, wish: _Wish) -> None:
        """Give a place back, or give up waiting for one."""
        one = self._initiators[initiator]
        if one.parked and wish in one.parked:
            one.parked.remove(wish)
        else:
            one.engaged -= 1
            if wish.given:
                self._free += 1
            else:
                self._line.remove(initiator, wish)
            if one.parked:
                self._enter(initiator, one, one.parked.popleft())
        if not one.engaged and not one.parked:
            del self._initiators[initiator]
        if self._line:
            self._give()


class _Waiting:
    """Counts calls that have a place or wait for one, of everybody and of each initiator."""

    def __init__(self) -> None:
        self.calls = 0
        self.of: dict[PeerId, int] = {}

    def full(self, initiator: PeerId, *, places: int, waiting: int) -> bool:
        """Whether one call more of an initiator would be too many."""
        if self.calls >= places + waiting:
            return True
        own = self.of.get(initiator, 0)
        return own > 0 and own >= share_of(places) + share_of(waiting)

    def enter(self, initiator: PeerId) -> None:
        self.calls += 1
        self.of[initiator] = self.of.get(initiator, 0) + 1

    def leave(self, initiator: PeerId) -> None:
        self.calls -= 1
        self.of[initiator] -= 1
        if not self.of[initiator]:
            del self.of[initiator]


class _Line(msgspec.Struct):
    """One service's places, and the calls that have one or wait for one."""

    places: _Places
    calls: _Waiting = msgspec.field(default_factory=_Waiting)


class Gate:
    """Lets calls through.

    Args:
        calls_max: calls in progress, all services together.
        waiting_max: calls that wait, for each service.
        waiting_s_max: how long one waits, in seconds.
        weight: how much an initiator counts; see :class:`FairQueue`.
    """

    def __init__(
        self,
        *,
        calls_max: int,
        waiting_max: int,
        waiting_s_max: float,
        weight: Callable[[PeerId], int] = equal,
    ) -> None:
        self._waiting_max = waiting_max
        self._waiting_s_max = waiting_s_max
        self._weight = weight
        self._lines: dict[str, _Line] = {}
        self._all = _Line(_Places(calls_max, weight))

    def place(self, service: str, most: int, initiator: PeerId) -> _Place:
        """For ``async with``: a place for one call of a service, of which at most ``most`` are in progress at once.

        Args:
            service: which.
            most: its places.
            initiator: whose particle calls.

        Raises:
            ServiceError: status 6; too many wait already, or this one has waited too long.
        """
        return _Place(self, service, most, initiator)

    def enter(self, service: str, most: int, initiator: PeerId) -> Sequence[_Places]:
        """Count a call; the places that it needs, in the order in which it asks for them. Args and errors as for :meth:`place`."""
        line = self._lines.get(service)
        if line is None or (line.places.most != most and not line.calls.calls):
            line = _Line(_Places(most, self._weight))
        places, everything = line.places, self._all
        if line.calls.full(initiator, places=places.most, waiting=self._waiting_max):
            raise _busy(f"service {service!r}: {line.calls.calls} calls are in progress or wait")
        if everything.calls.full(initiator, places=everything.places.most, waiting=self._waiting_max):
            raise _busy(f"{everything.calls.calls} calls are in progress or wait on this peer")
        self._lines[service] = line
        line.calls.enter(initiator)
        everything.calls.enter(initiator)
        # First the service's own place: who waits for a slow service must not keep others from a general place.
        return places, everything.places

    def leave(self, service: str, initiator: PeerId) -> None:
        """A call that was counted is over."""
        line = self._lines[service]
        self._all.calls.leave(initiator)
        line.calls.leave(initiator)
        if not line.calls.calls and len(self._lines) > LINES_KEPT:
            del self._lines[service]

    def deadline(self) -> float:
        """Until when a call that comes now may wait, on the loop's clock."""
        return now_s() + self._waiting_s_max


class _Place:
    """See :meth:`Gate.place`."""

    __slots__ = ("_gate", "_held", "_initiator", "_most", "_service")

    def __init__(self, gate: Gate, service: str, most: int, initiator: PeerId) -> None:
        self._gate = gate
        self._service = service
        self._most = most
        self._initiator = initiator
        self._held: list[tuple[_Places, _Wish]] = []

    async def __aenter__(self) -> None:
        places = self._gate.enter(self._service, self._most, self._initiator)
        deadline: float | None = None
        try:
            for of in places:
                if of.take_free(self._initiator):
                    self._held.append((of, _GIVEN))
                    continue
                deadline = deadline or self._gate.deadline()
                if (wish := await of.take(self._initiator, deadline)) is None:
                    raise _busy(f"service {self._service!r}: no place became free in time")
                self._held.append((of, wish))
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for of, wish in reversed(self._held):
            of.leave(self._initiator, wish)
        self._gate.leave(self._service, self._initiator)


def _busy(what: str) -> ServiceError:
    return ServiceError(Status.BUSY, f"{what}; try again later")
