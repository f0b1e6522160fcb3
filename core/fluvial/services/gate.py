"""How many calls may be in progress: in total and per service, shared fairly by who brought the flows; a bounded number waits, the rest is told that we are busy.

What one peer brings has at most three quarters of the places, and of the waiting ones: there is always one left for somebody else, under however many
names it comes. Who comes when no more may wait, and has less than others, takes the place of the last that waits of whoever has most. Those whom a
peer serves share its part in the same way. Whoever waits gets the next free place in turns with
others (``fairness``), not behind everything that one of them has begun.

Source of who gives way: B. Suter, T. V. Lakshman, D. Stiliadis, A. K. Choudhury, *Design Considerations for Supporting TCP with Per-flow Queueing*, INFOCOM 1998,
section III (longest queue drop).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

import anyio
import msgspec

from fluvial.errors import ServiceError
from fluvial.fairness import FairQueue, GroupedFairQueue, Payer, equal
from fluvial.identity import PeerId
from fluvial.services.status import Status
from fluvial.waiting import now_s

LINES_KEPT: Final = 64
"""Services of which it is remembered that they were called, though no call is in progress; scripts could invent any number of them."""


def share_of(most: int) -> int:
    """How much of something what one peer brings can have at one time: three quarters, rounded up."""
    return most - most // 4


class _Wish:
    """One call's wish for a place."""

    __slots__ = ("_news", "given", "refused")

    def __init__(self) -> None:
        self.given = self.refused = False
        self._news: anyio.Event | None = None

    def give(self) -> None:
        """It is granted."""
        self.given = True
        if self._news is not None:
            self._news.set()

    def refuse(self) -> None:
        """It will not be granted."""
        self.refused = True
        if self._news is not None:
            self._news.set()

    async def wait(self, deadline: float) -> None:
        """Returns when it is granted or refused, or at the deadline."""
        self._news = anyio.Event()
        with anyio.CancelScope(deadline=deadline):
            await self._news.wait()


_GIVEN: Final = _Wish()
"""That of every call that got its place at once."""
_GIVEN.give()


class _Sender(msgspec.Struct, eq=False):
    """What the flows that one peer brought have of some places.

    Attributes:
        engaged: calls that have a place, or are in line for one.
        parked: calls that wait until another of them has ended, because the peer has its share; by those whom it serves.
    """

    engaged: int = 0
    parked: FairQueue[Hashable, tuple[Payer, _Wish]] | None = None


class _Places:
    """A number of places, and who waits for one."""

    def __init__(self, most: int, weight: Callable[[PeerId], int]) -> None:
        self.most = most
        self._free = most
        self._share = share_of(most)
        self._line: GroupedFairQueue[_Wish] = GroupedFairQueue(weight)
        self._senders: dict[PeerId, _Sender] = {}

    def ask(self, payer: Payer) -> _Wish:
        """The wish for a place, which may be granted already; to be handed to :meth:`leave`, granted or not."""
        return _GIVEN if self._take_free(payer) else self._ask(payer)

    def _take_free(self, payer: Payer) -> bool:
        """Take a place if one is free, nobody is in line for it, and who brought it has not its share."""
        if not self._free or self._line:
            return False
        if (one := self._senders.get(payer.upstream.sender)) is None:
            self._senders[payer.upstream.sender] = _Sender(1)
        elif one.engaged < self._share:
            one.engaged += 1
        else:
            return False
        self._free -= 1
        return True

    def _ask(self, payer: Payer) -> _Wish:
        one = self._senders.setdefault(payer.upstream.sender, _Sender())
        wish = _Wish()
        if one.engaged < self._share:
            self._enter(payer, one, wish)
        else:
            if one.parked is None:
                one.parked = FairQueue()
            one.parked.push(payer.client, (payer, wish))
        return wish

    def _enter(self, payer: Payer, one: _Sender, wish: _Wish) -> None:
        one.engaged += 1
        if self._free and not self._line:
            self._free -= 1
            wish.give()
        else:
            self._line.push(payer.upstream, payer.initiator, wish)
            self._give()

    def _give(self) -> None:
        while self._free and self._line:
            self._free -= 1
            self._line.pop().give()

    def leave(self, payer: Payer, wish: _Wish) -> None:
        """Give a place back, or give up waiting for one."""
        sender = payer.upstream.sender
        one = self._senders[sender]
        if not one.parked or not one.parked.remove(payer.client, (payer, wish)):
            one.engaged -= 1
            if wish.given:
                self._free += 1
            else:
                self._line.remove(payer.upstream, payer.initiator, wish)
            if one.parked:
                next_payer, next_wish = one.parked.pop()[1]
                self._enter(next_payer, one, next_wish)
        if not one.engaged and not one.parked:
            del self._senders[sender]
        if self._line:
            self._give()


class _Calls:
    """The calls that have a place or wait for one, by who brought them and whom of those that serves.

    Args:
        most: how many there may be.
        share: how many one peer may have brought.
    """

    def __init__(self, most: int, share: int) -> None:
        self.number = 0
        self._most, self._share = most, share
        self._senders: dict[PeerId, dict[Hashable, dict[CallPlace, None]]] = {}
        self._of: dict[PeerId, int] = {}

    def enter(self, place: CallPlace) -> bool:
        """One call more, for which another one may have to give way; False if there would be too many."""
        sender, client = place.payer.upstream.sender, place.payer.client
        own = self._of.get(sender, 0)
        if self.number >= self._most or own >= self._share:
            most = max(self._of, key=self._of.__getitem__) if self.number >= self._most else sender
            if not self._gives_way(most if self._of.get(most, 0) > own + 1 else sender, place.payer):
                return False
        self.number += 1
        self._of[sender] = self._of.get(sender, 0) + 1
        self._senders.setdefault(sender, {}).setdefault(client, {})[place] = None
        return True

    def _gives_way(self, sender: PeerId, to: Payer) -> bool:
        """Whether the last that waits for somebody has given way: for whom this peer brought most; among its own, not to one who has as much."""
        clients = self._senders.get(sender, {})
        client = max(clients, key=lambda one: len(clients[one]), default=None)
        calls = clients.get(client, {})
        if sender == to.upstream.sender and len(calls) <= len(clients.get(to.client, ())) + 1:
            return False
        waiting = next((one for one in reversed(calls) if one.is_waiting), None)
        if waiting is None:
            return False
        waiting.refuse()
        return True

    def leave(self, place: CallPlace) -> None:
        """A call is over, or has given way."""
        sender, client = place.payer.upstream.sender, place.payer.client
        clients = self._senders[sender]
        del clients[client][place]
        if not clients[client]:
            del clients[client]
        self.number -= 1
        self._of[sender] -= 1
        if not clients:
            del self._senders[sender], self._of[sender]


class _Line:
    """One service's places, and the calls that have one or wait for one."""

    def __init__(self, most: int, waiting: int, weight: Callable[[PeerId], int]) -> None:
        self.places = _Places(most, weight)
        self.calls = _Calls(most + waiting, share_of(most) + share_of(waiting))


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
        self._all = _Line(calls_max, waiting_max, weight)

    def place(self, service: str, most: int, payer: Payer) -> CallPlace:
        """For ``async with``: a place for one call of a service, of which at most ``most`` are in progress at once.

        Args:
            service: which.
            most: its places.
            payer: whose share it uses.

        Raises:
            ServiceError: status 6; too many wait already, or this one has waited too long.
        """
        return CallPlace(self, service, most, payer)

    def enter(self, place: CallPlace) -> Sequence[_Places]:
        """Count a call; the places that it needs, in the order in which it asks for them. Raises ServiceError as :meth:`place`."""
        line = self._lines.get(place.service)
        if line is None or (line.places.most != place.most and not line.calls.number):
            line = _Line(place.most, self._waiting_max, self._weight)
        if not line.calls.enter(place):
            raise _busy(f"service {place.service!r}: {line.calls.number} calls are in progress or wait")
        if not self._all.calls.enter(place):
            line.calls.leave(place)
            raise _busy(f"{self._all.calls.number} calls are in progress or wait on this peer")
        self._lines[place.service] = line
        # First the service's own place: who waits for a slow service must not keep others from a general place.
        return line.places, self._all.places

    def leave(self, place: CallPlace) -> None:
        """A call that was counted is over."""
        line = self._lines[place.service]
        self._all.calls.leave(place)
        line.calls.leave(place)
        if not line.calls.number and len(self._lines) > LINES_KEPT:
            del self._lines[place.service]

    def deadline(self) -> float:
        """Until when a call that comes now may wait, on the loop's clock."""
        return now_s() + self._waiting_s_max


class CallPlace:
    """See :meth:`Gate.place`.

    Attributes:
        service, most: as there.
        payer: whose share it uses.
    """

    __slots__ = ("_counted", "_gate", "_held", "most", "payer", "service")

    def __init__(self, gate: Gate, service: str, most: int, payer: Payer) -> None:
        self._gate = gate
        self.service = service
        self.most = most
        self.payer = payer
        self._held: list[tuple[_Places, _Wish]] = []
        self._counted = False

    async def __aenter__(self) -> None:
        places = self._gate.enter(self)
        self._counted = True
        deadline: float | None = None
        try:
            for of in places:
                wish = of.ask(self.payer)
                self._held.append((of, wish))
                if not wish.given:
                    deadline = deadline or self._gate.deadline()
                    await wish.wait(deadline)
                    if wish.refused:
                        raise _busy(f"service {self.service!r}: too many calls wait, of which yours were most")
                    if not wish.given:
                        raise _busy(f"service {self.service!r}: no place became free in time")
        except BaseException:
            self._leave()
            raise

    @property
    def is_waiting(self) -> bool:
        """Whether it can still give way to another one."""
        return bool(self._held) and not self._held[-1][1].given

    def refuse(self) -> None:
        """It gives way: it is not counted any more, and whoever waits for it is told so."""
        self._held[-1][1].refuse()
        self._uncount()

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        for of, wish in reversed(self._held):
            of.leave(self.payer, wish)
        self._uncount()

    def _uncount(self) -> None:
        if self._counted:
            self._counted = False
            self._gate.leave(self)


def _busy(what: str) -> ServiceError:
    return ServiceError(Status.BUSY, f"{what}; try again later")
