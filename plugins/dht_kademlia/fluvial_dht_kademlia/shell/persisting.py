"""Keeps the DHT's state in the database: what is promised is written before the promise is sent, the rest from time to time."""

from __future__ import annotations

from typing import Final

import anyio
import structlog
from fluvial.errors import StorageError
from fluvial.ports import Database
from fluvial.prepared import Prepared

from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.shell import tables
from fluvial_dht_kademlia.shell.address_book import AddressBook

EVERY_S: Final = 30.0
ROWS_MAX: Final = 1_000
"""Rows of one write: it has to be quick, since all parts share one writer."""


class StateKeeper:
    """See the module's docstring.

    Args:
        database: the port.
        book, store, publications: what is kept.
        log: the part's.
    """

    def __init__(
        self,
        database: Database,
        *,
        book: AddressBook,
        store: RecordStore,
        publications: Publications,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._database: Final = database
        self._book = book
        self._store = store
        self._publications = publications
        self._log = log
        self._failing = False
        self._writing_records = anyio.Lock()
        self._writing_own = anyio.Lock()

    async def load(self, now: int, contacts_max: int) -> None:
        """Take back what was kept before a restart.

        Raises:
            StorageError: the database cannot be read or written.
        """
        for contact, seen_at in await self._database.read(Prepared(tables.read_contacts, count_max=contacts_max)):
            self._book.restore(contact, seen_at)
        await self._database.write(Prepared(tables.drop_expired, now=now))
        self._store.watch()
        for challenge, kept in await self._database.read(Prepared(tables.read_records, now=now)):
            self._store.restore(challenge, kept)
        self._publications.restore(await self._database.read(Prepared(tables.read_publications)))

    @property
    def behind(self) -> bool:
        """Whether so much could not be written that no more should be taken."""
        return self._failing and self._store.changes >= ROWS_MAX

    async def write_records(self) -> None:
        """Write what has changed among the records that are kept for others; all that has when this is called is written then, also by another call.

        Raises:
            StorageError: it cannot be written; it is tried again with the next call.
        """
        async with self._writing_records:
            rows = tables.changed_records(self._store)
            for first in range(0, len(rows), ROWS_MAX):
                some = rows[first : first + ROWS_MAX]
                try:
                    await self._database.write(Prepared(tables.write_records, rows=some))
                except BaseException:
                    self._failing = True
                    self._store.changed(*((key, peer) for key, peer, _ in rows[first:]))
                    raise
                self._failing = False

    async def write_own(self) -> None:
        """Write what has changed among this peer's own records; as :meth:`write_records`."""
        async with self._writing_own:
            changed, gone = self._publications.take_changes()
            if not (changed or gone):
                return
            try:
                await self._database.write(Prepared(tables.write_publications, changed=changed, gone=gone))
            except BaseException:
                self._publications.changed(*(one.challenge.key for one in changed), *gone)
                raise

    async def _write_contacts(self) -> None:
        changes = self._book.take_changes()
        for first in range(0, len(changes), ROWS_MAX):
            some = changes[first : first + ROWS_MAX]
            try:
                await self._database.write(Prepared(tables.write_contacts, changes=some))
            except BaseException:
                self._book.changed(*(peer for peer, _ in changes[first:]))
                raise

    async def run(self) -> None:
        """Write the rest from time to time, and once more at the end."""
        try:
            while True:
                await anyio.sleep(EVERY_S)
                await self._write_all()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._write_all()

    async def _write_all(self) -> None:
        try:
            await self.write_records()
            await self.write_own()
            await self._write_contacts()
        except StorageError as error:
            self._log.error("dht_state_not_written", error=error.message)
