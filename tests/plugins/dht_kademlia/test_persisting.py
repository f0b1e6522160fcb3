"""What is kept for others is there again after a restart, within its limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fluvial.errors import StorageError
from fluvial.ports import Database
from fluvial.testing.tables import part_database
from fluvial_dht_kademlia.machine.challenges import open_challenge
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_shares import record_bytes
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.plugin import TABLES
from fluvial_dht_kademlia.shell import persisting
from fluvial_dht_kademlia.shell.address_book import AddressBook
from fluvial_dht_kademlia.shell.persisting import StateKeeper

from tests.plugins.dht_kademlia.peers import NETWORK, NOW, keys_of, peer_of, put_or_reason, record_of, store_of

SIZE = record_bytes(open_challenge("k 000"), record_of("a", open_challenge("k 000")))


class Brittle:
    """A database on which nothing can be written now and then."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.full = False

    async def write(self, work: Any) -> Any:
        if self.full:
            raise StorageError("the disk is full")
        return await self.inner.write(work)

    async def read(self, work: Any) -> Any:
        return await self.inner.read(work)


@pytest.fixture
async def database() -> AsyncIterator[Brittle]:
    async with part_database(TABLES) as inner:
        yield Brittle(inner)


async def keeper_of(database: Brittle, store: RecordStore) -> StateKeeper:
    """A keeper of a peer that has just started."""
    keys = keys_of("replica")
    keeper = StateKeeper(
        database,
        book=AddressBook(keys.peer_id, 16, lambda _: 0),
        store=store,
        publications=Publications(keys.peer_id, sign=lambda _: pytest.fail(NETWORK), limits=KademliaLimits()),
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
