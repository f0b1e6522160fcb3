"""Long runs of machines: others have their turns meanwhile, and whoever gives up spoils nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from fluvial.air.machine.slices import NO_CLOCK, SLICE_STEPS, Clock
from fluvial.errors import Refused
from fluvial.fairness import Upstream, equal
from fluvial.identity import PeerId
from fluvial.particles.processor import LIGHT_S, ROUNDS_BETWEEN, SHORT_STEPS, TURN_S, Processor
from fluvial.virtual.loop import run
from prometheus_client import CollectorRegistry

from tests.support.nodes import Work, chain, id_of, peer, until

GREEDY, MODEST = id_of("greedy"), id_of("modest")


def steps(count: int, done: list[str], name: str) -> Callable[[int, Clock], str | None]:
    """Work of so many slices, which notes each of them."""

    def advance(_steps: int, _clock: Clock) -> str | None:
        done.append(name)
        return name if done.count(name) == count else None

    return advance


async def until_the_end(processor: Processor, work: Callable[[int, Clock], str | None]) -> None:
    """A run of the greedy one's that the end of the test interrupts."""
    with suppress(Refused):
        await processor.finish(GREEDY, work)


async def test_a_short_run_is_done_at_once() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())  # its tasks do not run
    done: list[str] = []
    assert await processor.finish(GREEDY, steps(1, done, "short")) == "short"


async def test_each_slice_has_a_clock_that_goes_on() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    clocks: list[Clock] = []

    def advance(_steps: int, clock: Clock) -> str | None:
        clocks.append(clock)
        return "done" if len(clocks) > 2 else None

    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        assert await processor.finish(GREEDY, advance) == "done"
        tasks.cancel_scope.cancel()
    assert len(clocks) == 3
    assert all(clock() > NO_CLOCK() for clock in clocks)


async def test_many_long_runs_of_one_initiator_leave_another_one_every_second_turn() -> None:
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        for number in range(20):
            tasks.start_soon(until_the_end, processor, steps(30, done, f"greedy {number}"))
        await checkpoint()
        assert await processor.finish(MODEST, steps(10, done, "modest")) == "modest"
        assert len(done) <= 2 + 2 * 10 + 20, "and not 20 times as many"
        tasks.cancel_scope.cancel()


async def test_who_comes_under_many_names_is_not_first_with_each_of_them() -> None:
    """While somebody is in line, a newcomer has only a short slice before them."""
    asked: list[int] = []

    def long(steps: int, _clock: Clock) -> str | None:
        asked.append(steps)
        return "done" if sum(asked) > 10 * SLICE_STEPS else None

    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        tasks.start_soon(until_the_end, processor, steps(1_000, [], "before"))
        await checkpoint()
        await checkpoint()
        assert await processor.finish(MODEST, long) == "done"
        assert asked[0] == SHORT_STEPS
        assert set(asked[1:]) == {SLICE_STEPS}
        tasks.cancel_scope.cancel()


def test_a_run_does_not_wait_for_hundreds_of_initiators_between_two_slices() -> None:
    async def main() -> None:
        done: list[str] = []
        processor = Processor(weight=equal, metrics=CollectorRegistry())

        async def of(initiator: PeerId, work: Callable[[int, Clock], str | None]) -> None:
            with suppress(Refused):
                await processor.finish(initiator, work)

        async with anyio.create_task_group() as tasks:
            processor.start(tasks)
            for number in range(200):
                tasks.start_soon(of, id_of(f"stranger {number}"), steps(1_000, done, f"stranger {number}"))
            while len(done) < 200 * 21:
                await checkpoint()
            before = len(done)
            assert await processor.finish(MODEST, steps(10, done, "modest")) == "modest"
            assert len(done) - before <= 40, "and not 10 times 200"
            tasks.cancel_scope.cancel()

    run(main)  # under virtual time: on a busy machine a turn may take any time


@pytest.mark.parametrize("modest", [Upstream(MODEST), Upstream(GREEDY, branch=1)])
async def test_short_runs_of_many_names_that_come_one_way_leave_others_every_second_turn(modest: Upstream) -> None:
    """Whether the other one comes by itself, or by the same peer, which says that it is somebody else's."""
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())

    def work(name: str) -> Callable[[int, Clock], str]:
        def advance(_steps: int, _clock: Clock) -> str:
            time.sleep(TURN_S / 4)
            done.append(name)
            return name

        return advance

    async def endless(number: int) -> None:
        """A flow that asks for a run as soon as it has had the one before."""
        with suppress(Refused):
            while True:
                await processor.in_line(id_of(f"name {number}"), work("greedy"), upstream=Upstream(GREEDY))

    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        for number in range(200):
            tasks.start_soon(endless, number)
        while len(done) < 220:
            await checkpoint()
        before = len(done)
        for _ in range(5):
            await processor.in_line(MODEST, work("modest"), upstream=modest)
        assert len(done) - before <= 5 * 20, "and not 5 times 200"
        tasks.cancel_scope.cancel()


async def test_what_is_done_at_once_takes_a_part_of_a_round() -> None:
    """However many ask for a short run in one round of the loop: the others are in line."""
    done: list[int] = []
    processor = Processor(
        weight=equal, metrics=CollectorRegistry()
    )  # its tasks do not run: nobody comes out of the line

    def work(_steps: int, _clock: Clock) -> bool:
        until = time.thread_time() + LIGHT_S / 4
        while time.thread_time() < until:
            pass
        done.append(1)
        return True

    async def ask(number: int) -> None:
        await processor.finish(id_of(f"name {number}"), work)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, number)
        await checkpoint()
        assert 1 <= len(done) <= 8
        processor.start(tasks)
        while len(done) < 50:
            await checkpoint()
        tasks.cancel_scope.cancel()


async def test_everything_else_goes_on_between_slices() -> None:
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        tasks.start_soon(until_the_end, processor, steps(1_000, done, "long"))
        await checkpoint()
        await checkpoint()
        before = len(done)
        for _ in range(10 * ROUNDS_BETWEEN):
            await checkpoint()
        assert len(done) - before <= 11
        tasks.cancel_scope.cancel()


async def test_short_runs_in_line_share_a_turn() -> None:
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(until_the_end, processor, steps(1 if number else 2, done, f"short {number}"))
        await checkpoint()
        await checkpoint()
        processor.start(tasks)
        turns, before = 0, len(done)
        while len(done) < 101:
            await checkpoint()
            turns += len(done) > before
            before = len(done)
        assert turns < 50, "and not one for each"
        tasks.cancel_scope.cancel()


async def test_what_is_given_up_has_no_further_turn_and_an_error_is_told_to_who_waits() -> None:
    done: list[str] = []

    def fail(_steps: int, _clock: Clock) -> None:
        done.append("failing")
        if len(done) > 3:
            raise ZeroDivisionError

    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        with anyio.move_on_after(0) as given_up:
            await processor.finish(GREEDY, steps(50, done, "long"))
        before = len(done)
        assert (before < 50, given_up.cancelled_caught) == (True, True)
        assert await processor.finish(GREEDY, steps(2, done, "short")) == "short"
        assert done.count("long") == before
        done.clear()
        with pytest.raises(ZeroDivisionError):
            await processor.finish(GREEDY, fail)
        tasks.cancel_scope.cancel()


async def test_what_waits_when_the_peer_stops_is_refused() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    refused: list[str] = []

    async def run() -> None:
        try:
            await processor.finish(GREEDY, lambda _steps, _clock: None)
        except Refused as error:
            refused.append(error.reason)

    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as tasks:
            processor.start(tasks)
            others.start_soon(run)
            await checkpoint()
            tasks.cancel_scope.cancel()
        others.start_soon(run)
    assert refused == ["busy", "busy"]


async def test_work_off_the_loop_ends_with_its_result_or_its_error() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        assert await processor.off_loop(GREEDY, lambda: "done") == "done"
        with pytest.raises(ZeroDivisionError):
            await processor.off_loop(GREEDY, lambda: str(1 // 0))
        tasks.cancel_scope.cancel()


def folds(on: str, elements: int) -> str:
    """Three nested folds: ``elements`` to the third power of steps."""
    inner = "(null)"
    for depth in range(3):
        inner = f"(fold xs i{depth} (par {inner} (next i{depth})))"
    return f'(seq (call "{on}" ("op" "array") [{" ".join(["1"] * elements)}] xs) {inner})'


async def test_a_flow_ends_while_a_strangers_folds_have_hardly_begun(tmp_path: Path) -> None:
    work = Work()
    async with (
        peer("b", tmp_path, serves=[work]) as b,
        peer("a", tmp_path, knows=[b]) as a,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(b.node.submit, b.node.particle(folds(b.peer_id, 60), ttl_ms=60_000, particle_id="greedy"))
        await until(lambda: b.metric("fluvial_machine_runs_waiting") == 1)
        await a.node.submit(a.node.particle(chain([b.peer_id]), ttl_ms=60_000, particle_id="honest"))
        await until(lambda: len(work.done) == 1)
        assert b.metric("fluvial_machine_runs_waiting") == 1
        tasks.cancel_scope.cancel()


async def test_light_work_that_takes_long_together_leaves_others_their_turns() -> None:
    """Hundreds of calls are asked for in one go, each of which takes a millisecond or more."""
    processor = Processor(weight=equal, metrics=CollectorRegistry())
    done: list[int] = []
    most = before = 0

    def work() -> None:
        until_s = time.thread_time() + LIGHT_S / 4
        while time.thread_time() < until_s:
            pass
        done.append(1)

    async def ask() -> None:
        await processor.in_turn(GREEDY, work, light=True)

    async with anyio.create_task_group() as tasks:
        processor.start(tasks)
        for _ in range(60):
            tasks.start_soon(ask)
        while len(done) < 60:
            await checkpoint()
            most, before = max(most, len(done) - before), len(done)
        tasks.cancel_scope.cancel()
    assert most <= 6, "four in the time of a round, one that began before its end, one in turn"


async def test_a_little_light_work_is_done_at_once() -> None:
    processor = Processor(weight=equal, metrics=CollectorRegistry())  # its tasks do not run
    assert await processor.in_turn(GREEDY, lambda: "done", light=True) == "done"


async def test_a_short_run_that_follows_from_another_stands_in_no_line_and_a_long_one_does() -> None:
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())  # its tasks do not run
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(until_the_end, processor, steps(2, done, "in line"))
        await checkpoint()
        tasks.start_soon(until_the_end, processor, steps(1, done, "behind it"))
        await checkpoint()
        assert processor.first_slice(GREEDY, steps(1, done, "short"), goes_on=True) == "short"
        assert done == ["in line", "short"]
        processor.start(tasks)
        long = steps(2, done, "long")
        assert processor.first_slice(GREEDY, long, goes_on=True) is None
        await processor.in_line(GREEDY, long)
        assert done == ["in line", "short", "long", "in line", "behind it", "long"]
        tasks.cancel_scope.cancel()


async def test_runs_that_follow_take_no_more_than_a_part_of_a_round_either() -> None:
    done: list[str] = []
    processor = Processor(weight=equal, metrics=CollectorRegistry())  # its tasks do not run

    async def follow() -> None:
        with suppress(Refused):
            while True:
                if processor.first_slice(GREEDY, work, goes_on=True) is None:
                    await processor.in_line(GREEDY, work)

    def work(_steps: int, _clock: Clock) -> str:
        until = time.thread_time() + LIGHT_S / 4
        while time.thread_time() < until:
            pass
        done.append("")
        return "done"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await checkpoint()
        assert 1 <= len(done) <= 8, "then it stands in line"
        processor.start(tasks)
        await checkpoint()
        tasks.cancel_scope.cancel()
