"""Proves where peers are that ask this one, so that they can be named to others: a few at a time, each seldom."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from anyio.abc import TaskGroup
from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.identity import PeerId
from fluvial.ports import Peers

PROVING_MAX: Final = 8
"""Peers that are dialled at the same time; others ask again."""
PROVE_S: Final = 5.0
AGAIN_MS: Final = 60_000
REMEMBERED_MAX: Final = 4_096


class AddressProver:
    """See the module's docstring. What is proven comes back through the transport's reports, as everything else that it dials.

    Args:
        peers: the port.
        clock: the time.
    """

    def __init__(self, peers: Peers, clock: Clock) -> None:
        self._peers: Final = peers
        self._clock = clock
        self._tasks: TaskGroup | None = None
        self._tried: OrderedDict[PeerId, int] = OrderedDict()
        self._proving = 0

    def start(self, tasks: TaskGroup) -> None:
        """Dials run in ``tasks`` from now on."""
        self._tasks = tasks

    def stop(self) -> None:
        """No further dials."""
        self._tasks = None

    def begin(self, contact: Contact) -> None:
        """Prove where a peer is, unless that was tried lately."""
        direct = tuple(address for address in contact.addresses if address.relay is None)
        now = self._clock.now_ms()
        tried_at = self._tried.get(contact.peer)
        if self._tasks is None or not direct or self._proving >= PROVING_MAX:
            return
        if tried_at is not None and now - tried_at < AGAIN_MS:
            return
        self._tried[contact.peer] = now
        self._tried.move_to_end(contact.peer)
        if len(self._tried) > REMEMBERED_MAX:
            self._tried.popitem(last=False)
        self._proving += 1
        self._tasks.start_soon(self._prove, Contact(contact.peer, direct))

    async def _prove(self, contact: Contact) -> None:
        try:
            await self._peers.prove(contact, timeout_s=PROVE_S)
        finally:
            self._proving -= 1
