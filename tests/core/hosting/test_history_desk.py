"""Who asks for history: strangers share a budget, old blocks come from the database one question at a time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import structlog
from fluvial.consensus.block_chain import RecentBlocks
from fluvial.consensus.wire import HistoryAsk
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError, StorageError
from fluvial.hosting.history_desk import FOLLOWERS_MAX, OLD_AT_ONCE, STRANGERS_BYTES_PER_S, HistoryDesk
from fluvial.hosting.log import ConsensusLog
from fluvial.ledger.blocks import BlockHeader, LedgerBlock
from fluvial.ledger.statements import NOTHING
from fluvial.testing.nodes import keys_of
from fluvial.throttling import PERIOD_S
from fluvial.virtual.loop import BACKEND

BLOCK_BYTES = 100_000
EVE = keys_of("eve").peer_id


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class HangingDatabase:
    """Counts who reads, and never answers."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, work: Any) -> Any:
        self.reads += 1
        await anyio.sleep_forever()

    async def write(self, work: Any) -> Any:
        raise AssertionError("nothing is written for who asks")


def blocks(first: int, count: int) -> RecentBlocks:
    store = RecentBlocks(count)
    for height in range(1, first + count):
        header = BlockHeader(NOTHING, 0, height, height, NOTHING, NOTHING, NOTHING, NOTHING, 0, height)
        store.append(LedgerBlock(header, bytes(BLOCK_BYTES)))
    return store


def desk_of(height: int) -> tuple[HistoryDesk, HangingDatabase]:
    database = HangingDatabase()
    return HistoryDesk(
        database, ConsensusLog(), lambda to, data: None, lambda: height, structlog.get_logger()
    ), database


async def test_strangers_share_a_budget_and_validators_have_none() -> None:
    store = blocks(1, 20)
    desk, _ = desk_of(20)
    ask = encode(HistoryAsk(0))
    async with anyio.create_task_group() as tasks:
        await anyio.sleep(10)
        granted = sum(
            desk.admits(keys_of(f"stranger {number % 50}").peer_id, ask, store, tasks, known=False)
            for number in range(200)
        )
        # An answer is 20 blocks; the last one that is granted may overdraw.
        assert granted * 20 * BLOCK_BYTES <= STRANGERS_BYTES_PER_S + 20 * (BLOCK_BYTES + 300)
        assert granted >= 1
        assert all(desk.admits(EVE, ask, store, tasks, known=True) for _ in range(200))
        await anyio.sleep(5)
        assert desk.admits(EVE, ask, store, tasks, known=False), "time brings it back"


async def test_old_blocks_are_read_for_a_few_at_once_each_once() -> None:
    store = blocks(100, 10)
    desk, database = desk_of(109)
    async with anyio.create_task_group() as tasks:
        await anyio.sleep(10)
        for number in range(20):
            peer = keys_of(f"validator {number // 2}").peer_id
            assert not desk.admits(peer, encode(HistoryAsk(3)), store, tasks, known=True)
        await anyio.sleep(1)
        assert database.reads == OLD_AT_ONCE
        assert desk.admits(EVE, encode(HistoryAsk(105)), store, tasks, known=True), "new ones are in memory"
        tasks.cancel_scope.cancel()


async def test_only_so_many_followers_are_told_and_garbage_makes_none() -> None:
    store = blocks(1, 2)
    desk, _ = desk_of(2)
    async with anyio.create_task_group() as tasks:
        for number in range(FOLLOWERS_MAX + 50):
            desk.admits(keys_of(f"follower {number}").peer_id, encode(HistoryAsk(2)), store, tasks, known=False)
        assert len(list(desk.followers)) == FOLLOWERS_MAX
        with pytest.raises(RemoteProtocolError):
            desk.admits(EVE, b"garbage", store, tasks, known=False)
        assert EVE not in desk.followers


class DamagedDatabase(HangingDatabase):
    """A row of what everybody asks for is not what was written."""

    async def read(self, work: Any) -> Any:
        self.reads += 1
        await anyio.sleep(0.01)
        raise StorageError("the log of the consensus is damaged", hint="a hint")


async def test_old_blocks_that_cannot_be_read_end_nothing_and_are_told_of_now_and_then() -> None:
    store, database, sent = blocks(100, 10), DamagedDatabase(), list[bytes]()
    with structlog.testing.capture_logs() as lines:
        desk = HistoryDesk(
            database, ConsensusLog(), lambda to, data: sent.append(data), lambda: 109, structlog.get_logger()
        )
        async with anyio.create_task_group() as tasks:
            await anyio.sleep(10)
            for pause_s in (1, 1, PERIOD_S, 1):
                assert not desk.admits(EVE, encode(HistoryAsk(3)), store, tasks, known=False)
                await anyio.sleep(pause_s)
            assert desk.admits(EVE, encode(HistoryAsk(105)), store, tasks, known=False), "it goes on with what it has"
    assert (database.reads, sent) == (4, [])
    assert [(line["event"], line["log_level"], line["count"]) for line in lines] == [
        ("storage_failed", "error", 1),
        ("storage_failed", "error", 2),
    ]
