"""Messages are handled at once where they wait for something, by few tasks where they do not, and not for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from fluvial_transport_tcp.accounts import WasteRates
from fluvial_transport_tcp.kind_line import KINDS_MAX, KindLine
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.workers import IDLE_MAX, JOBS_AT_ONCE, USEFUL, Handled, WorkerPool, Workers


class Jobs:
    """Notes which task does what."""

    def __init__(self, pool: WorkerPool) -> None:
        self.done: list[int] = []
        self.late: list[int] = []
        self.tasks: set[int] = set()
        self.inside = 0
        self.idle = 0
        self.gate = anyio.Event()
        self.workers: Workers[int] = Workers(
            pool,
            handle=self.handle,
            give_up=self.give_up,
            timeout_s=10,
            rounds=WorkRounds(),
            account=WasteRates().account(None, lambda: Rank.STRANGER, 0.0),
            on_idle=self.note_idle,
        )

    async def handle(self, job: int) -> Handled:
        """Odd ones wait at the gate."""
        self.tasks.add(anyio.get_current_task().id)
        if job % 2:
            self.inside += 1
            await self.gate.wait()
        self.done.append(job)
        return USEFUL

    async def give_up(self, job: int) -> None:
        self.late.append(job)

    def note_idle(self) -> None:
        self.idle += 1


@asynccontextmanager
async def working() -> AsyncIterator[WorkerPool]:
    """A pool whose tasks are all done at the end."""
    pool = WorkerPool()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            pool.start(group)
            yield pool
            pool.close()


async def turn() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_jobs_that_wait_for_nothing_need_few_tasks_and_keep_their_order() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        for number in range(0, 2000, 2):
            jobs.workers.add(number)
        while jobs.workers.busy:
            await turn()
        assert jobs.done == list(range(0, 2000, 2))
        assert len(jobs.tasks) <= 2
        assert not jobs.workers.busy
        jobs.workers.close()


async def test_a_flood_of_jobs_holds_up_others_by_few() -> None:
    """Whoever else has something to do gets a turn after a few jobs."""
    async with working() as pool:
        jobs = Jobs(pool)
        for number in range(0, 2000, 2):
            jobs.workers.add(number)
        before = 0
        while jobs.workers.busy:
            await anyio.lowlevel.checkpoint()
            assert len(jobs.done) - before <= JOBS_AT_ONCE
            before = len(jobs.done)
        assert before == 1000
        jobs.workers.close()


async def test_jobs_that_wait_hold_no_others() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        for number in range(100):
            jobs.workers.add(number)
        with anyio.fail_after(5):
            while len(jobs.done) < 50:
                await turn()
        assert jobs.done == list(range(0, 100, 2))
        assert jobs.inside == 50
        assert jobs.workers.busy
        jobs.gate.set()
        jobs.workers.close()
        assert jobs.idle == 0
    assert sorted(jobs.done) == list(range(100))
    assert jobs.idle == 1


async def test_jobs_that_take_too_long_are_given_up_and_the_next_are_done() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        jobs.workers.add(1)
        await turn()
        jobs.workers.tick(100.0)
        jobs.workers.tick(109.0)
        await turn()
        assert jobs.late == []
        jobs.workers.tick(111.0)
        await turn()
        assert jobs.late == [1]
        jobs.workers.add(2)
        await turn()
        assert jobs.done == [2]
        jobs.workers.close()


async def test_what_is_in_the_line_is_done_after_closing() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        for number in range(1, 200, 2):
            jobs.workers.add(number)
        jobs.workers.close()
        jobs.gate.set()
    assert sorted(jobs.done) == list(range(1, 200, 2))


async def test_a_line_that_is_closed_while_it_is_empty_says_so_at_once() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        jobs.workers.close()
        assert jobs.idle == 1


async def test_idle_workers_serve_whichever_connection_has_something() -> None:
    """A thousand connections with a message each, one after the other: a few tasks, and none waits for any of them in particular."""
    async with working() as pool:
        lines = [Jobs(pool) for _ in range(1000)]
        for jobs in lines:
            jobs.workers.add(0)
            await turn()
        assert all(jobs.done == [0] for jobs in lines)
        assert len(set[int]().union(*(jobs.tasks for jobs in lines))) == 1


async def test_after_a_crowd_few_workers_stay() -> None:
    async with working() as pool:
        lines = [Jobs(pool) for _ in range(10 * IDLE_MAX)]
        for jobs in lines:
            jobs.workers.add(1)
        await turn()
        assert sum(jobs.inside for jobs in lines) == len(lines)
        for jobs in lines:
            jobs.gate.set()
        await turn()
        before = {task.id for task in anyio.get_running_tasks()}
        again = [Jobs(pool) for _ in range(10 * IDLE_MAX)]
        for jobs in again:
            jobs.workers.add(0)
        await turn()
        used = set[int]().union(*(jobs.tasks for jobs in again))
        assert len(used & before) == IDLE_MAX


async def test_a_job_that_ends_just_when_it_is_given_up_takes_none_with_it() -> None:
    """The worker leaves its cancelled scope before it takes another one."""
    async with working() as pool:
        jobs = Jobs(pool)
        jobs.workers.add(1)
        await turn()
        jobs.workers.tick(100.0)
        jobs.gate.set()
        jobs.workers.add(2)
        jobs.workers.add(4)
        jobs.workers.tick(111.0)
        await turn()
        assert sorted([*jobs.done, *jobs.late]) == [1, 2, 4]
        assert set(jobs.late) <= {1}
        assert not jobs.workers.busy


async def test_jobs_that_nobody_waits_for_any_more_are_not_begun() -> None:
    async with working() as pool:
        jobs = Jobs(pool)
        for number in range(2_000):
            jobs.workers.add(number)
        while not jobs.done:
            await anyio.lowlevel.checkpoint()
        done, inside = len(jobs.done), jobs.inside
        dropped = list(jobs.workers.drop())
        jobs.workers.close()
        jobs.gate.set()
        await turn()
        assert done + inside + len(dropped) == 2_000
        assert len(jobs.done) == done + inside, "what has begun is done"
        assert not jobs.workers.busy


async def test_where_jobs_wait_the_next_ones_begin_together() -> None:
    """One for the first of them, which waits; then as many as wait already, in each turn of the loop."""
    async with working() as pool:
        jobs = Jobs(pool)
        begun = []
        for number in range(1, 2 * JOBS_AT_ONCE, 2):
            jobs.workers.add(number)
        while jobs.inside < JOBS_AT_ONCE:
            await anyio.lowlevel.checkpoint()
            begun.append(jobs.inside)
        assert len(begun) < JOBS_AT_ONCE
        before = jobs.inside
        for number in range(1, 2 * JOBS_AT_ONCE, 2):
            jobs.workers.add(number)
        turns = 0
        while jobs.inside < before + JOBS_AT_ONCE:
            await anyio.lowlevel.checkpoint()
            turns += 1
        assert turns <= 4
        jobs.gate.set()
        jobs.workers.close()


def test_kinds_of_messages_take_turns_and_each_keeps_its_order() -> None:
    line: KindLine[tuple[str, int]] = KindLine()
    for number in range(100):
        line.put("look-up", ("look-up", number))
    for number in range(3):
        line.put("flow", ("flow", number))
    assert (len(line), len(list(line))) == (103, 103)
    taken = [line.take() for _ in range(103)]
    assert [place for place, (kind, _) in enumerate(taken) if kind == "flow"] == [1, 3, 5]
    assert [number for kind, number in taken if kind == "look-up"] == list(range(100))
    assert not line


def test_kinds_beyond_a_number_share_a_line() -> None:
    """A sender may make up as many names as it likes."""
    line: KindLine[str] = KindLine()
    for _ in range(3):
        line.put("flow", "flow")
    for number in range(1000):
        line.put(f"made up {number}", "made up")
    taken = [line.take() for _ in range(1003)]
    assert [place for place, kind in enumerate(taken) if kind == "flow"] == [0, KINDS_MAX + 1, KINDS_MAX + 3]
    assert not line
