"""Which lanes are served, and when.

Lanes take places. Peers that took something the last time, or have connected since they were tried, have most of them; the others (*knocks*: it is
not known whether they are there, or even exist) have few, which go round fairly by who brought the particles, and a small part of each round of the loop: after a
restart thousands of them are due at once. A peer that lets us wait for its answer, or on the way to which somebody does, gives its place to one that waits
(``places``): a script names any number of peers, and whoever stands on the way to them need not answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

import anyio

from fluvial.fairness import GroupedFairQueue
from fluvial.identity import PeerId
from fluvial.light_tasks import LightTasks
from fluvial.particles.delivery.lane import DeliveryLane
from fluvial.particles.delivery.places import LanePlaces, nobody
from fluvial.waiting import now_s, soon

LANES_MAX: Final = 256
"""Peers that are served at the same time, besides those that are slow; others wait for a place."""
KNOCKS_MAX: Final = 64
"""Peers among them that did not take anything the last time, or were never tried and are not connected."""
KNOCKS_IN_ROUND_MAX: Final = 2
"""Knocks that begin in one round of the loop: each takes half a millisecond, and everything else of the peer has its turn between two rounds."""
GOOD_MAX: Final = 4_096
"""Peers of which it is remembered that they took something the last time."""


class LaneSchedule:
    """See the module's docstring.

    Args:
        serve: tries a lane; whether its peer took everything, or what is left is put off; None if nothing was tried.
        is_connected: whether a connection with a peer stands.
        is_looking_for: whether a way to a peer is looked for. Then a knock keeps its place: a routing looks for no more at the same time.
        weight: how much an initiator counts; see :class:`FairQueue`.
    """

    def __init__(
        self,
        serve: Callable[[DeliveryLane], Coroutine[Any, Any, bool | None]],
        is_connected: Callable[[PeerId], bool],
        is_looking_for: Callable[[PeerId], bool],
        weight: Callable[[PeerId], int],
    ) -> None:
        self._serve = serve
        self._is_connected = is_connected
        self._is_looking_for = is_looking_for
        self._good: OrderedDict[PeerId, None] = OrderedDict()
        self._later: list[tuple[float, int, DeliveryLane]] = []  # a heap of lanes by the time when they are due
        self._order = count()
        self._ready: GroupedFairQueue[DeliveryLane] = GroupedFairQueue(weight)
        self._knocking: GroupedFairQueue[DeliveryLane] = GroupedFairQueue(weight)
        self._in_line: set[PeerId] = set()
        self._places = LanePlaces()  # of all but the knocks
        self._knocks = LanePlaces()
        self._room_at_s = float("inf")  # then somebody gives up a place for which others wait
        self._begun = 0  # knocks, in this round of the loop
        self._sooner = anyio.Event()
        self._tasks: LightTasks | None = None

    def start(self, tasks: LightTasks) -> None:
        """Lanes are served in these tasks."""
        self._tasks = tasks
        tasks.start(self._keep_time())

    def add(self, lane: DeliveryLane) -> None:
        """Serve a lane that has rows when it is due and has a place."""
        if lane.busy or lane.peer in self._in_line:
            return
        if lane.due_s > now_s():
            if lane.due_s < lane.look_s:
                lane.look_s = lane.due_s
                heappush(self._later, (lane.due_s, next(self._order), lane))
                self._sooner.set()
            return
        self._in_line.add(lane.peer)
        (self._knocking if self.is_knock(lane) else self._ready).push(lane.upstream, lane.owner, lane)
        self._give_places()

    def wake(self, lane: DeliveryLane) -> None:
        """Serve a lane now: its peer has connected."""
        lane.wake()
        lane.failures = 0  # it is no knock any more
        if lane.peer in self._in_line and self._knocking.remove(lane.upstream, lane.owner, lane):
            self._in_line.discard(lane.peer)
        self.add(lane)

    def is_knock(self, lane: DeliveryLane) -> bool:
        """Whether it is not known that the peer of a lane is there."""
        return lane.peer not in self._good and (lane.failures > 0 or not self._is_connected(lane.peer))

    def _give_places(self) -> None:
        assert self._tasks is not None, "it was not started"
        while True:
            is_knock = not self._ready
            if (is_knock and not self._may_knock()) or not self._has_room():
                return
            lane = (self._knocking if is_knock else self._ready).pop()
            self._in_line.discard(lane.peer)
            lane.busy = True
            if is_knock:
                if not self._begun:
                    soon(self._next_round)
                self._begun += 1
            places = self._knocks if is_knock else self._places
            places.take(lane.peer, now_s())
            self._tasks.start(self._work(lane, places))

    def _may_knock(self) -> bool:
        """Whether a knock waits that may begin in this round."""
        if not self._knocking or self._begun >= KNOCKS_IN_ROUND_MAX:
            return False
        return len(self._knocks) < KNOCKS_MAX or self._makes_room(self._knocks, self._is_looking_for)

    def _has_room(self) -> bool:
        """Whether a lane may be served now."""
        return len(self._places) + len(self._knocks) < LANES_MAX or self._makes_room(self._places)

    def _makes_room(self, places: LanePlaces, keeps: Callable[[PeerId], bool] = nobody) -> bool:
        """Whether a slow peer gives up its place; if not, it is looked again when one will, or when a place becomes free."""
        at_s = places.make_room(now_s(), keeps)
        if at_s and at_s < self._room_at_s:
            self._room_at_s = at_s
            self._sooner.set()
        return not at_s

    def _next_round(self) -> None:
        """In the next round of the loop further knocks may begin."""
        self._begun = 0
        self._give_places()

    async def _keep_time(self) -> None:
        """Until cancelled: have lanes served whose pause is over, or for which there is a place again."""
        while True:
            self._sooner = anyio.Event()
            due_s = min(self._later[0][0], self._room_at_s) if self._later else self._room_at_s
            with anyio.move_on_after(due_s - now_s()):
                await self._sooner.wait()
            if self._room_at_s <= now_s():
                self._room_at_s = float("inf")
                self._give_places()
            while self._later and self._later[0][0] <= now_s():
                at_s, _, lane = heappop(self._later)
                if lane.look_s == at_s:  # else it was found that it is due sooner
                    lane.look_s = float("inf")
                    if lane.rows:
                        self.add(lane)

    async def _work(self, lane: DeliveryLane, places: LanePlaces) -> None:
        """The root of a task: serves a lane, which has one of these places."""
        try:
            took = await self._serve(lane)
            if took:
                self._good[lane.peer] = None
                if len(self._good) > GOOD_MAX:
                    self._good.popitem(last=False)
            elif took is not None:
                self._good.pop(lane.peer, None)
        finally:
            lane.busy = False
            places.give(lane.peer)
        # Not when it was cancelled: then the peer stops.
        if lane.rows:
            self.add(lane)
        self._give_places()
