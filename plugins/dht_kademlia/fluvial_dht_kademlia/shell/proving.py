"""Proves where peers are that ask this one, so that they can be named to others.

A proof is a dial of its own, and two peers that meet would both owe one. So a peer that knows few others proves at once whoever asks it; one that knows
enough proves one every two seconds. Those who ask meanwhile wait for their turn, and need none if this peer dials them for another reason before that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup
from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.identity import PeerId
from fluvial.ports import Peers

PROVING_MAX: Final = 8
"""Peers that are dialled at the same time."""
WAITING_MAX: Final = 256
"""Peers that wait for their turn; others ask again."""
PAUSE_S: Final = 2.0
"""Between two proofs, once this peer knows enough others."""
PROVE_S: Final = 5.0
AGAIN_MS: Final = 60_000
REMEMBERED_MAX: Final = 4_096


class AddressProver:
    """See the module's docstring. What is proven comes back through the transport's reports, as everything else that it dials.

    Args:
        peers: the port.
        clock: the time.
        wanted: where to look for a peer; no addresses if it need not be proven now. Asked when its turn has come.
        enough: whether this peer knows enough others.
    """

    def __init__(
        self, peers: Peers, clock: Clock, *, wanted: Callable[[PeerId], Contact], enough: Callable[[], bool]
    ) -> None:
        self._peers: Final = peers
        self._clock = clock
        self._wanted = wanted
        self._enough = enough
        self._waiting: OrderedDict[PeerId, None] = OrderedDict()
        self._tried: OrderedDict[PeerId, int] = OrderedDict()
        self._news = anyio.Event()

    async def run(self, tasks: TaskGroup) -> None:
        """Prove whoever waits, until cancelled; the dials run in ``tasks``."""
        places = anyio.Semaphore(PROVING_MAX)
        while True:
            if not self._waiting:
                self._news = anyio.Event()
                await self._news.wait()
            await places.acquire()
            contact = self._next()
            if contact is None:
                places.release()
                continue
            tasks.start_soon(self._prove, contact, places)
            if self._enough():
                await anyio.sleep(PAUSE_S)

    def ask(self, peer: PeerId) -> None:
        """Prove where a peer is when its turn has come, unless that was tried lately."""
        tried_at = self._tried.get(peer)
        if tried_at is not None and self._clock.now_ms() - tried_at < AGAIN_MS:
            return
        if len(self._waiting) < WAITING_MAX:
            self._waiting[peer] = None
            self._news.set()

    def _next(self) -> Contact | None:
        """The first of those who wait that is still to be proven."""
        while self._waiting:
            peer, _ = self._waiting.popitem(last=False)
            direct = tuple(address for address in self._wanted(peer).addresses if address.relay is None)
            if direct:
                self._tried[peer] = self._clock.now_ms()
                self._tried.move_to_end(peer)
                if len(self._tried) > REMEMBERED_MAX:
                    self._tried.popitem(last=False)
                return Contact(peer, direct)
        return None

    async def _prove(self, contact: Contact, places: anyio.Semaphore) -> None:
        try:
            await self._peers.prove(contact, timeout_s=PROVE_S)
        finally:
            places.release()
