"""Drives the machine: sends what it asks, reports answers and failures, wakes it when time has come, and lets callers wait for ends.

Everything that touches the machine happens on the event loop, without waiting in between.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeAlias, TypeVar

import anyio
import msgspec
from anyio.abc import TaskGroup
from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.errors import FluvialError, RemoteProtocolError, Unreachable
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect, LookupEnded, ProvideEnded
from fluvial_dht_kademlia.shell.lookup_pace import Lane, LookupPace

Ask: TypeAlias = Callable[[Contact, DhtRequest], Awaitable[DhtAnswer]]
"""Sends a request to a contact and returns the answer; raises FluvialError if there is none."""
Began: TypeAlias = tuple[int, list[DhtEffect]]
EndT = TypeVar("EndT", LookupEnded, ProvideEnded)

NAP_S: Final = 5.0
"""The clock is looked at so often at least: it may be set."""


class _Waiting(msgspec.Struct):
    """A caller that waits for the end of an operation."""

    ended: anyio.Event = msgspec.field(default_factory=anyio.Event)
    end: LookupEnded | ProvideEnded | None = None


class MachineDriver:
    """See the module's docstring.

    Args:
        machine: the machine.
        ask: sends one request.
        shown: a peer with the addresses that others may be told of it.
        clock: the time.
        before: called before each step of the machine.
    """

    def __init__(
        self,
        machine: Kademlia,
        ask: Ask,
        *,
        shown: Callable[[PeerId], Contact],
        clock: Clock,
        before: Callable[[], None],
    ) -> None:
        self._machine: Final = machine
        self._ask_contact = ask
        self._shown = shown
        self._clock = clock
        self._before = before
        self._tasks: TaskGroup | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._pace = LookupPace()
        self._sleeps_until = math.inf
        self._earlier = anyio.Event()

    async def run(self, tasks: TaskGroup) -> None:
        """Wake the machine when time has come, until cancelled; its requests run in ``tasks``."""
        self._tasks = tasks
        tasks.start_soon(self._pace.run)
        try:
            while True:
                self.carry_out(self._machine.tick(self._now()))
                self._sleeps_until = self._machine.wake_at
                with anyio.move_on_after(min(NAP_S, max(0.0, (self._sleeps_until - self._now()) / 1_000))):
                    await self._earlier.wait()
                self._earlier = anyio.Event()
        finally:
            self._tasks = None
            self._pace.stop()
            for waiting in self._waiting.values():
                waiting.ended.set()

    def carry_out(self, effects: Iterable[DhtEffect]) -> None:
        """Do what the machine asks for."""
        for effect in effects:
            if isinstance(effect, AskPeer):
                if self._tasks is not None:
                    self._pace.asked()
                    self._tasks.start_soon(self._ask, effect)
            elif (waiting := self._waiting.get(effect.operation)) is not None:
                waiting.end = effect
                waiting.ended.set()
        if self._machine.wake_at < self._sleeps_until:
            self._earlier.set()

    async def turn(self, lane: Lane) -> None:
        """Returns when something may begin that others have caused."""
        await self._pace.turn(lane)

    async def operate(self, begin: Callable[[int], Began], end: type[EndT], *, lane: Lane | None = None) -> EndT:
        """Begin an operation of the machine and wait for its end.

        Args:
            begin: called with the time.
            end: how it ends.
            lane: where it waits for its turn, if others have caused it.

        Raises:
            Unreachable: the peer is starting or stopping. What ``begin`` raises.
        """
        if lane is not None:
            await self.turn(lane)
        if self._tasks is None:
            raise Unreachable("the DHT is not running")
        operation, effects = begin(self._now())
        waiting = self._waiting[operation] = _Waiting()
        try:
            self.carry_out(effects)
            await waiting.ended.wait()
        finally:
            del self._waiting[operation]
        if not isinstance(waiting.end, end):
            raise Unreachable("the DHT stops")
        return waiting.end

    async def _ask(self, effect: AskPeer) -> None:
        try:
            answer = await self._ask_contact(effect.contact, effect.request)
        except FluvialError as error:
            noise = isinstance(error, RemoteProtocolError)
            self.carry_out(self._machine.failed(effect.ticket, self._now(), noise=noise))
        else:
            met = self._shown(effect.contact.peer)
            self.carry_out(self._machine.answered(effect.ticket, answer, self._now(), met=met))

    def _now(self) -> int:
        self._before()
        return self._clock.now_ms()
