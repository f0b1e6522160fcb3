"""In one round of the event loop all connections together begin work for a few milliseconds; who has used little comes first, and all have their share."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Final, NamedTuple

import anyio
from anyio.lowlevel import checkpoint
from fluvial_transport_tcp.accounts import PAID_S_MAX, WasteRates, WorkAccount
from fluvial_transport_tcp.rounds import CREDIT_S, DEBT_S, IDLE_ROUNDS, ROUND_S, TURN_S, WorkRounds
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.work_clock import WorkClock
from fluvial_transport_tcp.workers import USEFUL, Handled, WorkerPool, Workers
from hypothesis import given, settings
from hypothesis import strategies as st

JOB_S: Final = 0.002
SMALL_S: Final = JOB_S / 20
CROWD: Final = 300
FEW: Final = 80
FEW_TURNS: Final = 8
"""As many jobs of others as a few rounds have time for."""


class Job(NamedTuple):
    """A message of somebody, and how much of this thread's time it takes in how many steps."""

    owner: str
    seconds: float = JOB_S
    steps: int = 1
    payer: WorkAccount | None = None


class Flood:
    """Connections whose jobs take a time that a clock of the test counts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0  # for the processor time, as in each round
        self.rounds = WorkRounds(WorkClock(lambda: self.now, self._used))
        self.done: list[str] = []
        self.used: Counter[str] = Counter()
        self.open: list[Workers[Job]] = []

    def _used(self) -> float:
        self.asked += 1
        return self.now

    async def handle(self, job: Job) -> Handled:
        for step in range(job.steps):
            if step:
                await checkpoint()
            self.now += job.seconds / job.steps
        self.done.append(job.owner)
        self.used[job.owner] += round(job.seconds * 1e6)
        return USEFUL if job.payer is None else Handled(payer=job.payer)

    async def give_up(self, job: Job) -> None:
        raise AssertionError(job)

    def connection(self, pool: WorkerPool, *jobs: Job) -> Workers[Job]:
        made = Workers(
            pool,
            handle=self.handle,
            give_up=self.give_up,
            timeout_s=10,
            rounds=self.rounds,
            account=account_of_a_stranger(),
        )
        self.open.append(made)
        for job in jobs:
            made.add(job)
        return made

    def crowd(self, pool: WorkerPool, number: int, jobs: int, *, steps: int = 1, seconds: float = JOB_S) -> None:
        """Connections that have so much to do, each a little more for a job than the one before."""
        for one in range(number):
            self.connection(pool, *[Job("flood", seconds * (1 + one / number), steps)] * jobs)

    async def until_done(self, jobs: int) -> None:
        while len(self.done) < jobs:
            await checkpoint()

    async def finish(self, one: Workers[Job]) -> int:
        """Wait until a connection has nothing to do; how many jobs were done meanwhile."""
        before = len(self.done)
        while one.busy:
            await checkpoint()
        return len(self.done) - before


async def rounds_pass(number: int) -> None:
    for _ in range(number):
        await checkpoint()


@asynccontextmanager
async def working(flood: Flood) -> AsyncIterator[WorkerPool]:
    """A pool; in the end nothing more is begun, and its tasks end."""
    pool = WorkerPool()
    async with anyio.create_task_group() as group:
        pool.start(group)
        yield pool
        for one in flood.open:
            one.drop()
        pool.close()


async def test_many_connections_together_begin_little_in_one_round() -> None:
    flood = Flood()
    async with working(flood) as pool:
        flood.crowd(pool, 50, 20)
        before, most = 0.0, 0.0
        while len(flood.done) < 1_000:
            await checkpoint()
            most, before = max(most, flood.now - before), flood.now
        assert most <= 2 * (ROUND_S + 2 * JOB_S)  # the checkpoint of this test may lie between two rounds


async def test_who_is_new_is_served_before_those_who_have_had_turns() -> None:
    flood = Flood()
    async with working(flood) as pool:
        flood.crowd(pool, CROWD, 5)
        await flood.until_done(700)
        assert await flood.finish(flood.connection(pool, Job("honest"))) < 4 * FEW_TURNS


async def test_who_sends_now_and_then_is_served_next_each_time() -> None:
    """Whether what the others ask for is done in one step or has to wait for something in between."""
    for steps in (1, 2):
        flood = Flood()
        async with working(flood) as pool:
            honest = flood.connection(pool, Job("honest", SMALL_S))
            await flood.finish(honest)
            flood.crowd(pool, CROWD, 20, steps=steps)
            await flood.until_done(CROWD)
            for _ in range(10):
                honest.add(Job("honest", SMALL_S))
                assert await flood.finish(honest) < 3 * FEW_TURNS
                await rounds_pass(IDLE_ROUNDS)


async def test_many_small_messages_of_one_connection_do_not_wait_for_a_round_each() -> None:
    """As of a peer that tells of blocks all the time: it has its share of the time, and gets it in turns of several messages."""
    flood = Flood()
    small = round(2 * CREDIT_S / SMALL_S)
    async with working(flood) as pool:
        flood.crowd(pool, CROWD, 40)
        await flood.until_done(CROWD)
        meanwhile = await flood.finish(flood.connection(pool, *[Job("busy", SMALL_S)] * small)) - small
    assert meanwhile * JOB_S < CROWD * (small * SMALL_S + 2 * JOB_S)
    turns = sum(owner == "busy" for owner, _ in groupby(flood.done))
    assert turns <= small * SMALL_S / TURN_S + 1


async def test_hundreds_with_little_to_do_need_few_rounds_and_hold_up_nobody_for_long() -> None:
    """As of receivers that all answer at one time, and have used nothing before: they go first, and are soon done."""
    flood = Flood()
    async with working(flood) as pool:
        busy = flood.connection(pool, *[Job("busy")] * FEW)
        await flood.until_done(FEW // 2)
        flood.crowd(pool, CROWD, 1, seconds=SMALL_S)
        before, rounds = len(flood.done), 0
        while len(flood.done) - before < CROWD:
            await checkpoint()
            rounds += 1
        assert rounds <= 4 * CROWD * SMALL_S / ROUND_S, "more than a few of them in each, for which it has time"
        assert busy.busy
        await flood.finish(busy)


async def test_what_was_used_before_a_pause_is_not_owed() -> None:
    flood = Flood()
    async with working(flood) as pool:
        flood.crowd(pool, CROWD, 20)
        greedy = flood.connection(pool, *[Job("greedy")] * 4)
        await flood.finish(greedy)
        greedy.add(Job("greedy"))
        at_once = await flood.finish(greedy)
        await rounds_pass(IDLE_ROUNDS + 1)
        greedy.add(Job("greedy"))
        after_pause = await flood.finish(greedy)
    assert at_once > CROWD / 4
    assert after_pause < 2 * FEW_TURNS


async def test_a_long_message_silences_its_sender_for_a_bounded_time() -> None:
    flood = Flood()
    async with working(flood) as pool:
        flood.crowd(pool, 50, 100)
        await flood.until_done(50)
        slow = flood.connection(pool, Job("slow", 100 * DEBT_S), Job("slow"))
        assert await flood.finish(slow) * JOB_S < 50 * (DEBT_S + 4 * JOB_S)


async def test_who_takes_turns_at_being_idle_starves_nobody() -> None:
    flood = Flood()
    async with working(flood) as pool, anyio.create_task_group() as group:
        steady = flood.connection(pool, *[Job("steady")] * 200)

        async def pausing() -> None:
            mine = flood.connection(pool)
            while True:
                mine.add(Job("pausing", SMALL_S))
                while mine.busy:
                    await checkpoint()
                await rounds_pass(IDLE_ROUNDS + 1)

        for _ in range(100):
            group.start_soon(pausing)
        with anyio.fail_after(10):
            assert await flood.finish(steady) < 200 * 100
        group.cancel_scope.cancel()


async def test_who_brings_back_what_others_have_begun_does_not_wait_for_all_of_them() -> None:
    """A peer behind this one has one connection for the flows of all, whose first peer this is."""
    meanwhile = {}
    for paid in (False, True):
        flood = Flood()
        async with working(flood) as pool:
            flood.crowd(pool, FEW, 60)
            await flood.until_done(FEW)
            payers = [account_of_a_stranger() for _ in range(60)]
            back = [Job("back", payer=payer if paid else None) for payer in payers]
            meanwhile[paid] = await flood.finish(flood.connection(pool, *back)) - len(back)
    assert 4 * meanwhile[True] < meanwhile[False]


async def test_whoever_cannot_pay_for_more_pays_for_nobody() -> None:
    """Nor does anybody pay for much more than they have begun."""
    flood = Flood()
    async with working(flood) as pool:
        flood.crowd(pool, FEW, 60)
        await flood.until_done(FEW)
        payer = account_of_a_stranger()
        back = [Job("back", payer=payer) for _ in range(60)]
        assert await flood.finish(flood.connection(pool, *back)) > 10 * FEW
    heavy = account_of_a_stranger()
    for _ in range(3):
        heavy.use_in_part(100 * PAID_S_MAX)
        heavy.pay(100 * PAID_S_MAX, account_of_a_stranger())
    assert heavy.tag > 100 * PAID_S_MAX


def account_of_a_stranger() -> WorkAccount:
    return WasteRates().account(None, lambda: Rank.STRANGER, 0.0)


@given(st.lists(st.integers(4, 40), min_size=2, max_size=8))
@settings(max_examples=30)
async def test_who_always_has_something_to_do_gets_as_much_as_any_other(tenths_ms: list[int]) -> None:
    flood = Flood()
    async with working(flood) as pool:
        for number, cost in enumerate(tenths_ms):
            flood.connection(pool, *[Job(str(number), cost / 10_000)] * 200)
        while await _still_busy(flood):
            used = [flood.used[str(number)] / 1e6 for number in range(len(tenths_ms))]
            # Of the first round, as long as it has time left, everybody gets as much as they ask for.
            assert max(used) - min(used) <= ROUND_S + 2 * (TURN_S + max(tenths_ms) / 10_000)


async def _still_busy(flood: Flood) -> bool:
    await checkpoint()
    return all(one.busy for one in flood.open)


async def test_workers_that_go_while_they_are_in_line_hold_up_nobody() -> None:
    flood = Flood()
    gone = WorkerPool()
    async with working(flood) as pool:
        async with anyio.create_task_group() as group:
            gone.start(group)
            for _ in range(30):
                flood.connection(gone, *[Job("gone")] * 5)
            await rounds_pass(3)
            group.cancel_scope.cancel()
        await rounds_pass(3)
        asked = flood.asked
        await rounds_pass(20)
        assert flood.asked == asked, "there are no rounds when nobody is in line"
        with anyio.fail_after(5):
            await flood.finish(flood.connection(pool, *[Job("honest")] * 5))
