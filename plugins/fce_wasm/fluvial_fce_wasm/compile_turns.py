"""Who may compile next: turns shared fairly by those for whom modules are compiled.

There are :data:`PLACES` processes at the same time, and nobody has more than one of them. So whoever hands in any number of slow modules leaves a place to the
others, who take turns for it. A process compiles for one owner only: what is wrong with a component could stay in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from fluvial.fairness import FairQueue
from fluvial.identity import PeerId

from fluvial_fce_wasm.failures import FailureKind
from fluvial_fce_wasm.process.messages import CompileOrder, ComposeOrder, Reply
from fluvial_fce_wasm.process.parent import ChildProcess

PLACES: Final = 2


class CompilerPlace:
    """A place for a compiling process, which is started when it is needed."""

    def __init__(self) -> None:
        self._child: ChildProcess | None = None
        self._owner: PeerId | None = None

    async def hand_to(self, owner: PeerId) -> None:
        """Let an owner have it; without a process that has compiled for another."""
        if owner != self._owner:
            await self.clear()
            self._owner = owner

    async def ask(self, order: CompileOrder | ComposeOrder, *, timeout_s: float) -> Reply:
        """The reply to an order; raises GuestError if it is late."""
        if self._child is None or not self._child.is_alive:
            self._child = await ChildProcess.spawn("compile")
        return await self._child.ask(order, timeout_s=timeout_s, late=FailureKind.COMPONENT)

    async def clear(self) -> None:
        """End the process, if there is one."""
        child, self._child = self._child, None
        if child is not None:
            await child.kill()


class _CompileWish:
    __slots__ = ("granted", "place")

    def __init__(self) -> None:
        self.granted = anyio.Event()
        self.place: CompilerPlace | None = None


class CompileTurns:
    """The places, and who waits for one.

    Args:
        places: how many there are.
    """

    def __init__(self, places: int = PLACES) -> None:
        self._free = [CompilerPlace() for _ in range(places)]
        self._line: FairQueue[PeerId, _CompileWish] = FairQueue()
        self._behind: dict[PeerId, deque[_CompileWish]] = {}
        """Of each owner that has a place or is in line for one: what else it wants."""

    @asynccontextmanager
    async def turn(self, owner: PeerId) -> AsyncIterator[CompilerPlace]:
        """A place, while the block runs; waits for it."""
        wish = _CompileWish()
        if (behind := self._behind.get(owner)) is not None:
            behind.append(wish)
        else:
            self._behind[owner] = deque()
            self._line.push(owner, wish)
        self._grant()
        try:
            await wish.granted.wait()
            assert wish.place is not None
            await wish.place.hand_to(owner)
            yield wish.place
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(owner, wish)

    async def _leave(self, owner: PeerId, wish: _CompileWish) -> None:
        behind, place = self._behind[owner], wish.place
        if place is None and wish in behind:
            behind.remove(wish)
            return
        if place is None:
            self._line.remove(owner, wish)
        if behind:
            self._line.push(owner, behind.popleft())
        else:
            del self._behind[owner]
        if place is not None:
            if not self._line:
                await place.clear()
            self._free.append(place)
        self._grant()

    def _grant(self) -> None:
        while self._free and self._line:
            _, wish = self._line.pop()
            wish.place = self._free.pop()
            wish.granted.set()
