"""In one round of the event loop all connections together begin work for a few milliseconds; who has a single message comes first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fluvial_transport_tcp.accounts import WasteRates
from fluvial_transport_tcp.rounds import ROUND_S, TURNS, WorkRounds
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.workers import WorkerPool, Workers

JOB_S = 0.002


class Flood:
    """Connections whose jobs take a time that a clock of the test counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = WorkRounds(lambda: self.now, lambda: self.now)
        self.done: list[str] = []

    async def handle(self, job: str) -> int:
        self.now += JOB_S / 20 if job == "small" else JOB_S
        self.done.append(job)
        return 0

    async def give_up(self, job: str) -> None:
        raise AssertionError(job)

    def connection(self, pool: WorkerPool, *jobs: str) -> Workers[str]:
        made = Workers(
            pool,
            handle=self.handle,
            give_up=self.give_up,
            timeout_s=10,
            rounds=self.rounds,
            account=WasteRates().account(None, lambda: Rank.STRANGER, 0.0),
        )
        for job in jobs:
            made.add(job)
        return made


@asynccontextmanager
async def working() -> AsyncIterator[WorkerPool]:
    """A pool whose tasks are all done at the end."""
    pool = WorkerPool()
    async with anyio.create_task_group() as group:
        pool.start(group)
        yield pool
        pool.close()


async def test_many_connections_together_begin_little_in_one_round() -> None:
    flood = Flood()
    async with working() as pool:
        floods = [flood.connection(pool, *["flood"] * 20) for _ in range(50)]
        before, most = 0.0, 0.0
        while any(one.busy for one in floods):
            await anyio.lowlevel.checkpoint()
            most, before = max(most, flood.now - before), flood.now
        assert len(flood.done) == 1_000
        assert most <= 2 * (ROUND_S + JOB_S)  # the checkpoint of this test may lie between two rounds
        for one in floods:
            one.close()


async def test_who_has_one_message_is_served_before_those_who_have_had_turns() -> None:
    flood = Flood()
    async with working() as pool:
        floods = [flood.connection(pool, *["flood"] * 50) for _ in range(100)]
        while len(flood.done) < 400:
            await anyio.lowlevel.checkpoint()
        honest = flood.connection(pool, "honest")
        while "honest" not in flood.done:
            await anyio.lowlevel.checkpoint()
        assert flood.done.index("honest") < 400 + 4 * TURNS
        for one in [*floods, honest]:
            one.close()
    assert len(flood.done) == 5_001


async def test_many_small_messages_of_one_connection_do_not_wait_for_a_round_each() -> None:
    """As of a peer that tells of blocks all the time, and hands over a particle behind them."""
    flood = Flood()
    async with working() as pool:
        floods = [flood.connection(pool, *["flood"] * 200) for _ in range(20)]
        while len(flood.done) < 400:
            await anyio.lowlevel.checkpoint()
        busy = flood.connection(pool, *["small"] * 30, "honest")
        while "honest" not in flood.done:
            await anyio.lowlevel.checkpoint()
        assert flood.done.index("honest") - 400 < 150
        for one in [*floods, busy]:
            one.close()


async def test_workers_that_go_while_they_are_in_line_hold_up_nobody() -> None:
    flood = Flood()
    gone = WorkerPool()
    async with working() as pool:
        async with anyio.create_task_group() as group:
            gone.start(group)
            for _ in range(30):
                flood.connection(gone, *["gone"] * 5)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        honest = flood.connection(pool, *["honest"] * 5)
        with anyio.fail_after(5):
            while flood.done.count("honest") < 5:
                await anyio.lowlevel.checkpoint()
        honest.close()
