"""Who asks for history: strangers take turns, old blocks come from the database one question at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
import structlog
from fluvial.consensus.block_chain import RecentBlocks
from fluvial.consensus.wire import HistoryAsk, SnapshotAsk
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError, StorageError
from fluvial.hosting.history_desk import (
    FOLLOWERS_MAX,
    OLD_AT_ONCE,
    OLD_FOR_STRANGERS,
    STRANGERS_BYTES_PER_S,
    HistoryDesk,
)
from fluvial.hosting.log import ConsensusLog
from fluvial.hosting.paced_answers import WAITING_MAX
from fluvial.identity import PeerId
from fluvial.ledger.blocks import BlockHeader, LedgerBlock
from fluvial.ledger.statements import NOTHING
from fluvial.testing.nodes import keys_of
from fluvial.throttling import PERIOD_S
from fluvial.virtual.loop import BACKEND
from fluvial.waiting import soon

BLOCK_BYTES = 100_000
BOB, EVE = keys_of("bob").peer_id, keys_of("eve").peer_id


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


STRANGERS = [keys_of(f"stranger {number}").peer_id for number in range(100)]


class Asking:
    """Asks a desk, and counts what the replica answers."""

    def __init__(self, desk: HistoryDesk, store: RecentBlocks, tasks: Any) -> None:
        self._desk, self._store, self._tasks = desk, store, tasks
        self.answers: list[PeerId] = []

    def ask(self, peer: PeerId, above: int, *, known: bool = False, then: Callable[[], object] = lambda: None) -> None:
        def answer() -> None:
            self.answers.append(peer)
            then()

        ask = encode(HistoryAsk(above))
        self._desk.ask_blocks(peer, ask, self._store, self._tasks, answer, known=known)

    def ask_part(self, peer: PeerId, *, known: bool = False, then: Callable[[], object] = lambda: None) -> None:
        def answer() -> None:
            self.answers.append(peer)
            then()

        self._desk.ask_part(peer, encode(SnapshotAsk(0, 0, bytes(32))), answer, known=known)

    def keep_asking(self, peer: PeerId, ask: Callable[..., None]) -> None:
        """A peer that asks again as soon as it has its answer."""
        ask(peer, then=lambda: soon(lambda: self.keep_asking(peer, ask)))

    async def answered(self, ask: Callable[..., None], within_s: float) -> bool:
        """Whether a peer that asks once has its answer in time."""
        done = anyio.Event()
        ask(then=done.set)
        with anyio.move_on_after(within_s):
            await done.wait()
        return done.is_set()


async def test_strangers_share_a_rate_and_validators_have_none() -> None:
    desk, _ = desk_of(20)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, blocks(1, 20), tasks)
        await anyio.sleep(10)
        for peer in STRANGERS[:50]:
            asking.keep_asking(peer, lambda peer, then: asking.ask(peer, 0, then=then))
        await anyio.sleep(5)
        # An answer has three blocks: no more are added above 256 KiB.
        assert 0.8 < len(asking.answers) * 3 * BLOCK_BYTES / (5 * STRANGERS_BYTES_PER_S) < 1.2
        had = Counter(asking.answers).values()
        assert max(had) <= min(had) + 1, "each has its turn"
        before = len(asking.answers)
        for _ in range(200):
            asking.ask(BOB, 0, known=True)
        assert len(asking.answers) == before + 200
        desk.close()


async def test_a_follower_that_lacks_a_block_does_not_wait_for_those_that_ask_for_all() -> None:
    desk, _ = desk_of(200)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, blocks(1, 200), tasks)
        for peer in STRANGERS:
            asking.keep_asking(peer, lambda peer, then: asking.ask(peer, 0, then=then))
        await anyio.sleep(10)
        for _ in range(20):
            assert await asking.answered(partial(asking.ask, BOB, 200), 0.2)
            await anyio.sleep(0.1)
        desk.close()


async def test_a_validator_has_parts_of_snapshots_whoever_else_asks_for_some_and_others_have_turns() -> None:
    desk, _ = desk_of(20)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, blocks(1, 20), tasks)
        for peer in STRANGERS[:64]:
            asking.keep_asking(peer, asking.ask_part)
        await anyio.sleep(5)
        for _ in range(20):
            assert await asking.answered(partial(asking.ask_part, BOB, known=True), 0.1)
        for _ in range(5):
            assert await asking.answered(partial(asking.ask_part, EVE), 1)
        desk.close()


async def test_of_more_that_wait_than_there_is_room_for_those_that_had_most_give_way() -> None:
    desk, _ = desk_of(200)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, blocks(1, 200), tasks)
        await anyio.sleep(10)
        for number in range(WAITING_MAX + 50):
            asking.ask(PeerId.from_public_key(number.to_bytes(32, "big")), 0)
        assert await asking.answered(partial(asking.ask, BOB, 199), 0.2)
        desk.close()
        await anyio.sleep(60)
    assert len(asking.answers) < 10, "it is closed"


async def test_old_blocks_are_read_for_a_few_at_once_each_once() -> None:
    desk, database = desk_of(109)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, blocks(100, 10), tasks)
        await anyio.sleep(10)
        for number in range(20):
            asking.ask(keys_of(f"stranger {number // 2}").peer_id, 3)
        await anyio.sleep(1)
        assert database.reads == OLD_FOR_STRANGERS
        for number in range(20):
            asking.ask(keys_of(f"validator {number // 2}").peer_id, 3, known=True)
        await anyio.sleep(1)
        assert database.reads == OLD_FOR_STRANGERS + OLD_AT_ONCE, "strangers have no places of validators"
        asking.ask(BOB, 105, known=True)
        assert asking.answers == [BOB], "new ones are in memory"
        tasks.cancel_scope.cancel()


async def test_only_so_many_followers_are_told_and_garbage_makes_none() -> None:
    store = blocks(1, 2)
    desk, _ = desk_of(2)
    async with anyio.create_task_group() as tasks:
        asking = Asking(desk, store, tasks)
        for number in range(FOLLOWERS_MAX + 50):
            asking.ask(keys_of(f"follower {number}").peer_id, 2)
        newest = [keys_of(f"follower {number}").peer_id for number in range(50, FOLLOWERS_MAX + 50)]
        assert desk.followers(set(newest)) == newest
        with pytest.raises(RemoteProtocolError):
            desk.ask_blocks(EVE, b"garbage", store, tasks, lambda: None, known=False)
        assert desk.followers({EVE, *newest[:3]}) == newest[:3]
        assert desk.followers(set(newest)) == newest[:3], "who was gone asks again"
        desk.close()


class DamagedDatabase(HangingDatabase):
    """A row of what everybody asks for is not what was written."""

    async def read(self, work: Any) -> Any:
        self.reads += 1
        await anyio.sleep(0.01)
        raise StorageError("the log of the consensus is damaged", hint="a hint")


async def test_old_blocks_that_cannot_be_read_end_nothing_and_are_told_of_now_and_then() -> None:
    database, sent = DamagedDatabase(), list[bytes]()
    with structlog.testing.capture_logs() as lines:
        desk = HistoryDesk(
            database, ConsensusLog(), lambda to, data: sent.append(data), lambda: 109, structlog.get_logger()
        )
        async with anyio.create_task_group() as tasks:
            asking = Asking(desk, blocks(100, 10), tasks)
            await anyio.sleep(10)
            for pause_s in (1, 1, PERIOD_S, 1):
                asking.ask(EVE, 3)
                await anyio.sleep(pause_s)
            assert asking.answers == []
            asking.ask(EVE, 105)
            assert asking.answers == [EVE], "it goes on with what it has"
    assert (database.reads, sent) == (4, [])
    assert [(line["event"], line["log_level"], line["count"]) for line in lines] == [
        ("storage_failed", "error", 1),
        ("storage_failed", "error", 2),
    ]
