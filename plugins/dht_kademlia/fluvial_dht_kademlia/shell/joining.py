"""Joins the network, and joins again when nobody is left: from the settings' peers, the address book, and whoever has connected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

import anyio
import structlog
from fluvial.addresses import Contact
from fluvial.errors import FluvialError

PAUSE_S_FIRST: Final = 1.0
PAUSE_S_MAX: Final = 60.0
WATCH_S: Final = 30.0
"""How often it is looked whether anybody is left."""
SEEDS_MAX: Final = 24
"""Contacts with which one attempt begins."""


class Joiner:
    """See the module's docstring.

    Args:
        seeds: contacts to begin with, best first.
        contacts: how many are in the table now.
        join: looks up the own place, beginning with some contacts.
        log: the part's.

    Attributes:
        tried: set once the first attempt is over.
        joined: set once somebody has answered.
    """

    def __init__(
        self,
        *,
        seeds: Callable[[], Iterable[Contact]],
        contacts: Callable[[], int],
        join: Callable[[list[Contact]], Awaitable[None]],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._seeds: Final = seeds
        self._contacts = contacts
        self._join = join
        self._log = log
        self._hope = anyio.Event()
        self.tried: Final = anyio.Event()
        self.joined: Final = anyio.Event()

    def hope(self) -> None:
        """Somebody has come: a reason to try now if nobody is known."""
        if not self._contacts():
            self._hope.set()

    async def run(self) -> None:
        """Join, and watch, until cancelled."""
        pause_s = PAUSE_S_FIRST
        joined = False
        while True:
            self._hope = anyio.Event()
            if not joined or not self._contacts():
                joined = await self._try()
                self.tried.set()
            pause_s = PAUSE_S_FIRST if joined else min(2 * pause_s, PAUSE_S_MAX)
            with anyio.move_on_after(WATCH_S if joined else pause_s):
                await self._hope.wait()

    async def _try(self) -> bool:
        seeds = list(islice(self._seeds(), SEEDS_MAX))
        if not seeds:
            return False
        try:
            await self._join(seeds)
        except FluvialError as error:
            self._log.warning("dht_not_joined", error=error.message)
            return False
        contacts = self._contacts()
        self._log.info("dht_joined" if contacts else "dht_not_joined", contacts=contacts, seeds=len(seeds))
        if contacts:
            self.joined.set()
        return contacts > 0
