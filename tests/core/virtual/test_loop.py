"""Virtual time passes when nothing else can, and whatever comes from outside is refused."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio import to_thread
from fluvial.virtual.clock import EPOCH_MS, LoopClock
from fluvial.virtual.loop import BACKEND, Deadlock, NotVirtual, is_virtual, run
from fluvial.virtual.threads import in_thread, work_clock


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


async def test_waiting_takes_no_time() -> None:
    before, real = anyio.current_time(), time.monotonic()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 30 * 86_400)
    assert anyio.current_time() == pytest.approx(before + 30 * 86_400)
    assert time.monotonic() - real < 60


async def test_timers_go_off_in_their_order_at_their_time() -> None:
    began = anyio.current_time()
    told: list[tuple[int, float]] = []

    async def tell(after_s: int) -> None:
        await anyio.sleep(after_s)
        told.append((after_s, anyio.current_time() - began))

    async with anyio.create_task_group() as group:
        for after_s in (5, 1, 4, 2, 3):
            group.start_soon(tell, after_s)
    assert [after_s for after_s, _ in told] == [1, 2, 3, 4, 5]
    assert [at_s for _, at_s in told] == pytest.approx([1, 2, 3, 4, 5])


async def test_deadlines_come_when_nothing_else_does() -> None:
    with anyio.move_on_after(3600) as scope:
        await anyio.Event().wait()
    assert scope.cancelled_caught


async def test_the_clock_goes_with_the_loop() -> None:
    clock, other = LoopClock(), LoopClock(5_000)
    before, behind = clock.now_ms(), other.now_ms()
    await anyio.sleep(0.57)
    assert (clock.now_ms() - before, other.now_ms() - behind) == (570, 570)
    assert clock.now_ms() - other.now_ms() == EPOCH_MS - 5_000


async def test_threads_are_done_without() -> None:
    def work() -> bool:
        return is_virtual()  # would raise in a thread, where no loop runs

    before = anyio.current_time()
    assert await in_thread(work)
    assert anyio.current_time() == before
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_real_time_a_thread_is_one() -> None:
    assert not is_virtual()
    with pytest.raises(RuntimeError, match="no running event loop"):
        await in_thread(is_virtual)


def test_what_can_never_go_on_is_an_error_that_names_who_waits() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1.5)
            group.start_soon(wait_for_godot)

    async def wait_for_godot() -> None:
        await anyio.Event().wait()

    with pytest.raises(Deadlock, match=r"at 1\.5 s(.|\n)*wait_for_godot: .*test_loop\.py:\d+"):
        run(main)


async def _serve() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        await listener.serve(lambda stream: stream.aclose())


@pytest.mark.parametrize(
    "way",
    [
        lambda: to_thread.run_sync(time.sleep, 0.01),
        lambda: anyio.Path("/").iterdir().__anext__(),
        lambda: anyio.connect_tcp("127.0.0.1", 9),
        lambda: anyio.getaddrinfo("localhost", 9),
        lambda: anyio.run_process([sys.executable, "-V"]),
        _serve,
    ],
    ids=["thread", "path", "dial", "name", "process", "listen"],
)
def test_ways_out_of_virtual_time_are_refused(way: Callable[[], Awaitable[object]]) -> None:
    async def main() -> None:
        await way()
        await anyio.sleep(1)

    with pytest.raises((NotVirtual, BaseExceptionGroup)) as caught:
        run(main)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error.__cause__ if isinstance(error, OSError) else error, NotVirtual)


CANCELLATIONS = """
import anyio
from fluvial.virtual.loop import run

async def main():
    async def wait(number):
        try:
            await anyio.sleep_forever()
        finally:
            print(number, end=" ")

    async with anyio.create_task_group() as group:
        ballast.extend(object() for _ in range(anyio.current_time() == 0 and size))
        for number in range(40):
            ballast.append(bytearray(number * size % 977))
            group.start_soon(wait, number)
        await anyio.sleep(1)
        group.cancel_scope.cancel()

ballast, size = [], SIZE
run(main)
"""


def test_tasks_are_cancelled_in_the_same_order_in_every_process() -> None:
    """Whatever their addresses in memory are."""
    orders = {
        subprocess.run(
            [sys.executable, "-c", CANCELLATIONS.replace("SIZE", str(size))],
            env={"PYTHONHASHSEED": str(size)},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for size in (1, 4_321, 77_777)
    }
    assert len(orders) == 1


def test_work_takes_no_virtual_time() -> None:
    async def main() -> float:
        worked_s = work_clock()
        began = worked_s()
        sum(range(100_000))
        return worked_s() - began

    assert run(main) == 0.0
    assert anyio.run(main) > 0
