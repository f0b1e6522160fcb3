"""Messages are handled at once where they wait for something, by few tasks where they do not, and not for ever."""

from __future__ import annotations

import anyio
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.workers import JOBS_AT_ONCE, Workers


class Jobs:
    """Notes which task does what."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.late: list[int] = []
        self.tasks: set[int] = set()
        self.inside = 0
        self.gate = anyio.Event()
        self.workers: Workers[int] = Workers(
            handle=self.handle, give_up=self.give_up, timeout_s=10, rounds=WorkRounds()
        )

    async def handle(self, job: int) -> None:
        """Odd ones wait at the gate."""
        self.tasks.add(anyio.get_current_task().id)
        if job % 2:
            self.inside += 1
            await self.gate.wait()
        self.done.append(job)

    async def give_up(self, job: int) -> None:
        self.late.append(job)


async def turn() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_jobs_that_wait_for_nothing_need_few_tasks_and_keep_their_order() -> None:
    jobs = Jobs()
    async with anyio.create_task_group() as group:
        jobs.workers.start(group)
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
    jobs = Jobs()
    async with anyio.create_task_group() as group:
        jobs.workers.start(group)
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
    jobs = Jobs()
    async with anyio.create_task_group() as group:
        jobs.workers.start(group)
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
    assert sorted(jobs.done) == list(range(100))


async def test_jobs_that_take_too_long_are_given_up_and_the_next_are_done() -> None:
    jobs = Jobs()
    async with anyio.create_task_group() as group:
        jobs.workers.start(group)
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
    jobs = Jobs()
    async with anyio.create_task_group() as group:
        jobs.workers.start(group)
        for number in range(1, 200, 2):
            jobs.workers.add(number)
        jobs.workers.close()
        jobs.gate.set()
    assert sorted(jobs.done) == list(range(1, 200, 2))
