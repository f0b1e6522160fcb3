"""The particles that are to go on when there is room: after a restart, after the store has failed, and when memory is short.

They go on a few at a time, fairly by initiator, as long as memory is left for others; initiators that are connected have every second turn. Where
there is no room for a large one, the others of its initiator wait a little, and nobody else: whoever fills the memory again and again would hold up
all. So a peer answers at once after a restart, however many particles it has; one that is needed before its turn is restored then. As they were
accepted, memory is promised to each of them: nothing new is let in for which they would have to wait. They hold none before, so whose turn it is
finds room however many are in line.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from itertools import chain
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from fluvial.air.machine.memory import MACHINE_BYTES
from fluvial.errors import FluvialError, Refused, StorageError
from fluvial.fairness import FairQueue, Payer, Upstream
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.particles.memory import MEMORY, MemoryBudget
from fluvial.particles.turns import LoopTurn
from fluvial.waiting import later, now_s

AT_ONCE: Final = 4
"""Particles with whose restoring is begun at the same time."""
LONG_S: Final = 0.5
"""Whoever is at it for longer, in seconds, holds up no others any more: of a long run all that others wait for are turns."""
LONG_MAX: Final = 256
"""Particles that are being restored at the same time, the long ones included."""
PAUSE_S: Final = 0.5
"""Before it is looked again whether there is room, and before the store is tried again."""
PAUSE_NO_ROOM_S: Final = 0.005
"""After there was no room for a large one: the next in line may be small."""
PAUSE_FULL_S: Final = 0.05
"""After there was no room even for a small one."""
PAUSE_STOPPED_S: Final = 1.0
"""After the store has failed, or a run was stopped for want of memory."""


class Suspended:
    """See the module's docstring.

    Args:
        go_on: takes a particle up again.
        has_room: whether there is room for one that held so many bytes.
        is_connected: whether a connection with a peer stands.
        budget: where memory is promised to them.
        log: a logger bound to the peer.
    """

    def __init__(
        self,
        go_on: Callable[[ParticleKey], Awaitable[None]],
        has_room: Callable[[int], bool],
        is_connected: Callable[[PeerId], bool],
        *,
        budget: MemoryBudget,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._go_on = go_on
        self._has_room = has_room
        self._is_connected = is_connected
        self._log = log
        self._budget = budget
        self._line: FairQueue[PeerId, ParticleKey] = FairQueue(budget.weight)
        self._lined: dict[ParticleKey, tuple[Payer, int]] = {}
        self._news = anyio.Event()
        self._not_before_s = 0.0
        self._paused: dict[PeerId, deque[ParticleKey]] = {}  # their lines
        self._preferred: dict[PeerId, None] = {}
        self._odd = False

    def __len__(self) -> int:
        """How many are in line."""
        return len(self._lined)

    def put(self, key: ParticleKey, payer: Payer, held: int = MACHINE_BYTES, *, first: bool = False) -> None:
        """A particle is to go on, which held so many bytes of memory; behind the others of its initiator, or ``first``."""
        if key not in self._lined:
            self._lined[key] = payer, held
            self._budget.promise(_promise(key), payer, MACHINE_BYTES)
            self._enter(key, payer.initiator, first=first)

    def _enter(self, key: ParticleKey, initiator: PeerId, *, first: bool = False) -> None:
        if (paused := self._paused.get(initiator)) is None:
            self._line.push(initiator, key, first=first)
            self._comes(initiator)
        elif first:
            paused.appendleft(key)
        else:
            paused.append(key)

    def _comes(self, initiator: PeerId) -> None:
        """Something of an initiator is in line that may go on."""
        if self._is_connected(initiator):
            self.prefer(initiator)
        self._news.set()

    async def put_all(self, live: dict[ParticleKey, tuple[PeerId, PeerId]]) -> None:
        """As :meth:`put`, for all particles that a peer has after a restart, oldest first, each with its initiator and sender.

        Initiators who began first, and those who began something last, have the first turns: who came before a crowd of names, and whose flow had only
        just begun, waits for none of those between. Of one initiator the newest are first: flows that have taken long already are most likely over
        elsewhere, and wait here for nothing but their ttl.
        """
        turn, lines = LoopTurn(), dict[PeerId, list[ParticleKey]]()
        for key, (initiator, _) in live.items():
            lines.setdefault(initiator, []).append(key)
        last = dict.fromkeys(initiator for initiator, _ in reversed(live.values()))
        for initiator in dict.fromkeys(chain.from_iterable(zip(lines, last, strict=True))):
            for key in reversed(lines[initiator]):
                self.put(key, self._budget.payer(initiator, Upstream(live[key][1])))
                await turn.over()

    def put_back(self, key: ParticleKey, payer: Payer, held: int) -> None:
        """As :meth:`put`, for one that has just been stopped for want of memory: its initiator's go on after a pause.

        What stopped it may still be there, and the calls that it makes would be made again and again.
        """
        self._pause(payer.initiator, PAUSE_STOPPED_S)
        self.put(key, payer, held)

    def put_back_all(self, key: ParticleKey, payer: Payer, held: int) -> None:
        """As :meth:`put_back`, for one that was stopped by a failing store: nobody goes on before a pause."""
        self._not_before_s = now_s() + PAUSE_STOPPED_S
        self.put(key, payer, held)

    def _pause(self, initiator: PeerId, seconds: float) -> None:
        """Those of an initiator have no turns for a while."""
        if initiator not in self._paused:
            self._paused[initiator] = self._line.withdraw(initiator)
            later(seconds, partial(self._end_pause, initiator))

    def _end_pause(self, initiator: PeerId) -> None:
        if line := self._paused.pop(initiator):
            self._line.come_back(initiator, line)
            self._comes(initiator)

    def prefer(self, initiator: PeerId) -> None:
        """Give every second turn to this initiator, which has just connected, and others who are connected, as long as they have something in line.

        Names cost nothing, so of an initiator's turn among all there may be little left.
        """
        if self._line.waiting(initiator):
            self._preferred[initiator] = None

    async def run(self) -> None:
        """Until cancelled: have them go on."""
        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(self._work, tasks)

    async def _work(self, tasks: TaskGroup) -> None:
        under_way = anyio.Semaphore(LONG_MAX // AT_ONCE)
        while True:
            await under_way.acquire()
            key, payer, held = await self._next()
            if not self._has_room(held):
                under_way.release()
                is_large = held > MACHINE_BYTES
                if is_large:
                    self._pause(payer.initiator, PAUSE_S)
                # There is no room for anybody's small ones now, and whoever waited for a pause would lose what comes free to hundreds of names.
                self.put(key, payer, held, first=True)
                await anyio.sleep(PAUSE_NO_ROOM_S if is_large else PAUSE_FULL_S)
                continue
            ended = anyio.Event()
            tasks.start_soon(self._try, key, payer, held, under_way, ended)
            with anyio.move_on_after(LONG_S):
                await ended.wait()

    async def _next(self) -> tuple[ParticleKey, Payer, int]:
        """Whose turn it is, when somebody is in line and nothing was stopped just now."""
        while True:
            if not self._line:
                self._news = self._news if not self._news.is_set() else anyio.Event()
                await self._news.wait()
            elif (left_s := self._not_before_s - now_s()) > 0:
                await anyio.sleep(left_s)
            else:
                key = self._pop()
                self._budget.release(_promise(key))
                return key, *self._lined.pop(key)

    def _pop(self) -> ParticleKey:
        self._odd = not self._odd
        while self._odd and self._preferred:
            initiator = next(iter(self._preferred))
            del self._preferred[initiator]
            if self._line.waiting(initiator):
                key = self._line.pop_of(initiator)
                self.prefer(initiator)
                return key
        return self._line.pop()[1]

    async def _try(
        self, key: ParticleKey, payer: Payer, held: int, under_way: anyio.Semaphore, ended: anyio.Event
    ) -> None:
        """The root of a task."""
        try:
            if not await self._tried(key):
                self._pause(payer.initiator, PAUSE_S)
                self.put(key, payer, held)
        finally:
            under_way.release()
            ended.set()

    async def _tried(self, key: ParticleKey) -> bool:
        """Whether it need not be tried again."""
        try:
            await self._go_on(key)
        except StorageError as error:
            self._log.debug("storage_failed", error=error.message)  # each second; that it fails is told already
            self._not_before_s = now_s() + PAUSE_STOPPED_S
            return False
        except FluvialError as error:
            again = isinstance(error, Refused) and error.reason in (MEMORY, "busy")
            if not again:
                self._log.warning("particle_not_resumed", key=key.hex(), error=error.message)
            return not again
        return True


def _promise(key: ParticleKey) -> Hashable:
    return "suspended", key
