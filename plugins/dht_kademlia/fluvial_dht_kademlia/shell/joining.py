"""Joins the network: from the settings' peers, the address book, and whoever has connected; again when nobody is left.

Those who join at the same time do not know each other yet, and others name a newcomer only once they have proven where it is. So a peer looks again
after it has joined: soon and a few times while it knows few others, later if it knows half of what is enough, and once more when that has settled. The
first look is a narrow one: what it leaves out is found a few seconds later, when those who come at the same time are there as well.
"""

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
SETTLE_S: Final = (1.0, 3.0, 10.0, 30.0)
"""Pauses after which a peer that has joined looks once more; one that knows enough others takes the last alone."""
CALM_S: Final = 4.0
"""The shortest of these pauses for one that knows half of what is enough."""
WATCH_S: Final = 30.0
"""How often it is looked whether anybody is left."""
SEEDS_MAX: Final = 24
"""Contacts with which one attempt begins."""


class Joiner:
    """See the module's docstring.

    Args:
        seeds: contacts to begin with, best first.
        contacts: how many are in the table now.
        enough: how many are enough.
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
        enough: int,
        join: Callable[[list[Contact]], Awaitable[None]],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._seeds: Final = seeds
        self._contacts = contacts
        self._enough = enough
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
        left, backoff_s = 0, PAUSE_S_FIRST
        while True:
            self._hope = anyio.Event()
            if not self._contacts():
                left = len(SETTLE_S) + 1
            joined = await self._try() if left else True
            self.tried.set()
            if not joined:
                pause_s, backoff_s = backoff_s, min(2 * backoff_s, PAUSE_S_MAX)
            elif left > 1:
                left = 1 if self._contacts() >= self._enough else left - 1
                pause_s, backoff_s = SETTLE_S[-left], PAUSE_S_FIRST
                if 2 * self._contacts() >= self._enough:
                    pause_s = max(pause_s, CALM_S)
            else:
                left, pause_s = 0, WATCH_S
            with anyio.move_on_after(pause_s):
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
        if contacts and not self.joined.is_set():
            self._log.info("dht_joined", contacts=contacts, seeds=len(seeds))
        if contacts:
            self.joined.set()
        return contacts > 0
