"""What is kept for others is there again after a restart, within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
import structlog
from fluvial.errors import ResourceLimit, StorageError
from fluvial.ports import Database
from fluvial.testing.tables import part_database
from fluvial_dht_kademlia.machine.challenges import open_challenge
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_shares import record_bytes
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.machine.records import sign_record
from fluvial_dht_kademlia.plugin import TABLES
from fluvial_dht_kademlia.shell import persisting, provisions
from fluvial_dht_kademlia.shell.address_book import AddressBook
from fluvial_dht_kademlia.shell.persisting import StateKeeper
from fluvial_dht_kademlia.shell.provisions import Provisions
from fluvial_dht_kademlia.shell.tables import Provided

from tests.plugins.dht_kademlia.peers import (
    NETWORK,
    NOW,
    contact_of,
    keys_of,
    peer_of,
    put_or_reason,
    record_of,
    store_of,
)

SIZE = record_bytes(open_challenge("k 000"), record_of("a", open_challenge("k 000")))


class Brittle:
    """A database on which nothing can be written now and then, and that can be slow."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.full = False
        self.free = anyio.Event()
        self.free.set()

    async def write(self, work: Any) -> Any:
        await self.free.wait()
        if self.full:
            raise StorageError("the disk is full")
        return await self.inner.write(work)

    async def read(self, work: Any) -> Any:
        return await self.inner.read(work)


@pytest.fixture
async def database() -> AsyncIterator[Brittle]:
    async with part_database(TABLES) as inner:
        yield Brittle(inner)


def book_of() -> AddressBook:
    return AddressBook(peer_of("replica"), 16, lambda _: 0)


def publications_of() -> Publications:
    keys = keys_of("replica")
    return Publications(keys.peer_id, sign=lambda fields: sign_record(keys, NETWORK, fields), limits=KademliaLimits())


async def keeper_of(
    database: Brittle,
    store: RecordStore,
    *,
    book: AddressBook | None = None,
    publications: Publications | None = None,
) -> StateKeeper:
    """A keeper of a peer that has just started."""
    keeper = StateKeeper(
        database,
        book=book_of() if book is None else book,
        store=store,
        publications=publications or publications_of(),
        log=structlog.stdlib.get_logger(),
    )
    await keeper.load(NOW, 16)
    return keeper


def bring(store: RecordStore, sender: str, numbers: range) -> int:
    taken = 0
    for number in numbers:
        challenge = open_challenge(f"k {number:03}")
        record = record_of(f"{sender} {number}", challenge)
        taken += put_or_reason(store, challenge, record, NOW, peer_of(sender)) == ""
    return taken


async def test_who_brought_most_gives_way_after_a_restart_as_before(database: Brittle) -> None:
    before = store_of()
    keeper = await keeper_of(database, before)
    bring(before, "modest", range(5))
    bring(before, "greedy", range(10, 40))
    await keeper.write_records()
    after = store_of(KademliaLimits(records_bytes_max=20 * SIZE + SIZE // 2))
    keeper = await keeper_of(database, after)
    assert after.bytes <= 20 * SIZE + SIZE // 2
    assert bring(after, "new", range(50, 55)) == 5
    modest = [open_challenge(f"k {number:03}").key for number in range(5)]
    assert all(after.read(key, NOW, limit=9) for key in modest)
    await keeper.write_records()
    again = store_of()
    await keeper_of(database, again)
    assert set(again.keys()) == set(after.keys()), "what had no room is gone from the disk as well"


async def test_while_nothing_can_be_written_a_bounded_number_of_records_waits(
    database: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persisting, "ROWS_MAX", 4)
    store = store_of()
    keeper = await keeper_of(database, store)
    database.full = True
    for number in range(4):
        assert not keeper.behind
        bring(store, "one", range(number, number + 1))
        with pytest.raises(StorageError):
            await keeper.write_records()
    assert keeper.behind
    database.full = False
    await keeper.write_records()
    assert not keeper.behind
    again = store_of()
    await keeper_of(database, again)
    assert len(again) == 4


async def written(keeper: StateKeeper) -> None:
    """A peer stops, and writes what it has."""
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.run)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


async def test_what_a_peer_publishes_and_whom_it_knows_is_written_later_if_it_cannot_be_now(database: Brittle) -> None:
    book, publications = book_of(), publications_of()
    keeper = await keeper_of(database, store_of(), book=book, publications=publications)
    stays, goes = open_challenge("stays"), open_challenge("goes")
    publications.publish(goes, NOW)
    await keeper.write_own()
    database.full = True
    publications.withdraw(goes, NOW)
    publications.publish(stays, NOW)
    with pytest.raises(StorageError):
        await keeper.write_own()
    database.full = False
    await keeper.write_own()
    book.learn(contact_of("friend"), NOW)
    database.full = True
    await written(keeper)
    database.full = False
    await written(keeper)
    book, publications = book_of(), publications_of()
    await keeper_of(database, store_of(), book=book, publications=publications)
    assert [one.challenge for one in publications] == [stays]
    assert book.contact(peer_of("friend")).addresses


@pytest.mark.parametrize("full", [False, True])
async def test_who_brings_a_record_once_more_waits_until_it_is_written(database: Brittle, full: bool) -> None:
    store, publications = store_of(), publications_of()
    keeper = await keeper_of(database, store, publications=publications)
    told: list[bool] = []

    async def bring_again(write: Callable[[], Awaitable[None]]) -> None:
        bring(store, "one", range(1))
        try:
            await write()
            told.append(True)
        except StorageError:
            told.append(False)

    publications.publish(open_challenge("own"), NOW)
    database.free = anyio.Event()
    async with anyio.create_task_group() as group:
        for write in (keeper.write_records, keeper.write_own) * 2:
            group.start_soon(bring_again, write)
        await anyio.wait_all_tasks_blocked()
        assert told == []
        database.full = full
        database.free.set()
    assert told == [not full] * 4


async def test_what_is_provided_at_once_keeps_to_the_limit(database: Brittle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provisions, "PROVIDED_MAX", 1)
    provided = Provisions(database)
    ended: list[object] = []

    async def note(use: Awaitable[object]) -> None:
        try:
            ended.append(await use)
        except ResourceLimit as error:
            ended.append(type(error))

    async with anyio.create_task_group() as group:
        for name in ("a", "b"):
            group.start_soon(note, provided.add(Provided(open_challenge(name), b"", "")))
    assert ended == [None, ResourceLimit]
    (one,) = provided
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(note, provided.remove(one.challenge.key))
    assert sorted(map(str, ended[2:])) == ["False", "True"]
    await provided.load()
    assert list(provided) == []
