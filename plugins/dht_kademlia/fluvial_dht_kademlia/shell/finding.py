"""Finds a peer: from the address book, else by lookups, which all who look for the same peer share.

::

    find ──▶ address book has a way, which did not fail the last time ──▶ found
      │
      └────▶ lookup of the peer itself ─┬─▶ found
             lookup of its relays ──────┘   (circuit addresses)

A peer that was looked up in vain is not looked up again for a while: a script can name any number of peers that do not exist.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from fluvial.addresses import Contact
from fluvial.clock import Clock
from fluvial.errors import FluvialError
from fluvial.identity import PeerId
from prometheus_client import Counter

from fluvial_dht_kademlia.shell.address_book import AddressBook

FIND_S: Final = 4.0
"""What one lookup may take: the node gives a routing five seconds."""
MISSED_MS: Final = 10_000
MISSED_MAX: Final = 4_096
SEARCHES_MAX: Final = 256
"""Peers that are looked up at the same time, or wait for that: more than deliveries, relays and calls of scripts together have places for, which are shared fairly there."""


class PeerSearch(msgspec.Struct):
    """A lookup that somebody waits for."""

    ended: anyio.Event = msgspec.field(default_factory=anyio.Event)


class PeerFinder:
    """See the module's docstring.

    Args:
        own: this peer.
        book: the address book; gets what is found.
        lookups: each looks a peer up in some way, and returns what it found.
        turn: waited for before these begin.
        clock: the time.
        ways: counts ``book``, ``lookup`` and ``none``.
    """

    def __init__(
        self,
        own: PeerId,
        book: AddressBook,
        *,
        lookups: tuple[Callable[[PeerId], Awaitable[Contact | None]], ...],
        turn: Callable[[], Awaitable[None]],
        clock: Clock,
        ways: Counter,
    ) -> None:
        self._own: Final = own
        self._book = book
        self._lookups = lookups
        self._turn = turn
        self._clock = clock
        self._ways = ways
        self._tasks: TaskGroup | None = None
        self._searches: dict[PeerId, PeerSearch] = {}
        self._missed: OrderedDict[PeerId, int] = OrderedDict()

    def start(self, tasks: TaskGroup) -> None:
        """Lookups run in ``tasks`` from now on."""
        self._tasks = tasks

    def stop(self) -> None:
        """No further lookups."""
        self._tasks = None
        for search in self._searches.values():
            search.ended.set()

    async def find(self, peer: PeerId) -> Contact | None:
        """The best contact of a peer; None if there is none."""
        if peer == self._own:
            return None
        if self._has_good_way(peer):
            self._ways.labels(way="book").inc()
            return self._book.contact(peer)
        if self._tasks is not None and not self._missed_lately(peer):
            await self._search(peer, self._tasks)
        found = self._book.contact(peer)
        self._ways.labels(way="lookup" if self._book.has_way(peer, self._clock.now_ms()) else "none").inc()
        return found if found.addresses else None

    async def _search(self, peer: PeerId, tasks: TaskGroup) -> None:
        search = self._searches.get(peer)
        if search is None:
            if len(self._searches) >= SEARCHES_MAX:
                return
            search = self._searches[peer] = PeerSearch()
            tasks.start_soon(self._run, peer, search)
        await search.ended.wait()

    async def _run(self, peer: PeerId, search: PeerSearch) -> None:
        try:
            with anyio.move_on_after(FIND_S):
                await self._turn()
                async with anyio.create_task_group() as tasks:
                    for lookup in self._lookups:
                        tasks.start_soon(self._look, lookup, peer, tasks)
        finally:
            del self._searches[peer]
            search.ended.set()
        if not self._has_good_way(peer):
            self._missed[peer] = self._clock.now_ms()
            while len(self._missed) > MISSED_MAX:
                self._missed.popitem(last=False)

    async def _look(
        self, lookup: Callable[[PeerId], Awaitable[Contact | None]], peer: PeerId, tasks: TaskGroup
    ) -> None:
        try:
            found = await lookup(peer)
        except FluvialError:  # too much to do: as if it had not been found
            return
        if found is not None and found.addresses:
            self._book.learn(found, self._clock.now_ms())
            self._book.reached(peer)
            tasks.cancel_scope.cancel()

    def _has_good_way(self, peer: PeerId) -> bool:
        return self._book.has_way(peer, self._clock.now_ms()) and not self._book.in_doubt(peer)

    def _missed_lately(self, peer: PeerId) -> bool:
        missed_at = self._missed.get(peer)
        return missed_at is not None and self._clock.now_ms() - missed_at < MISSED_MS
