"""How a part starts, works and stops; and what becomes of one that does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
import structlog
from anyio.abc import TaskStatus
from fluvial.assembly.life import Life, started
from fluvial.errors import ConfigError, FluvialError, PluginError
from structlog.testing import capture_logs

from tests.support.nodes import until

LOG = structlog.get_logger()
QUICK_S = 0.2


class Toy:
    """A part that notes what happens to it."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes
        self.fail = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        self.notes.append(f"{self.name} starts")
        task_status.started()
        try:
            await self.fail.wait()
            raise ConfigError(f"{self.name} is broken")
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)  # says goodbye
                self.notes.append(f"{self.name} is gone")


async def test_parts_stop_in_the_opposite_order_each_while_those_before_it_still_work() -> None:
    notes: list[str] = []
    toys = [Toy(name, notes) for name in "abc"]
    async with AsyncExitStack() as lives:
        for toy in toys:

            async def close(name: str = toy.name) -> None:
                notes.append(f"{name} closes")

            await lives.enter_async_context(started(toy.name, toy.run, log=LOG, close=close))
        notes.append("block")
    assert notes == [
        *("a starts", "b starts", "c starts", "block"),
        *("c closes", "c is gone", "b closes", "b is gone", "a closes", "a is gone"),
    ]


async def test_a_cancellation_from_outside_stops_them_in_the_same_order() -> None:
    notes: list[str] = []
    toys = [Toy(name, notes) for name in "ab"]
    with anyio.move_on_after(0.05):
        async with started("a", toys[0].run, log=LOG), started("b", toys[1].run, log=LOG):
            await anyio.sleep_forever()
    assert notes == ["a starts", "b starts", "b is gone", "a is gone"]


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_a_part_that_raises_ends_the_block_with_its_error(broken: int) -> None:
    notes: list[str] = []
    toys = [Toy(name, notes) for name in "abc"]

    async def live() -> None:
        async with AsyncExitStack() as lives:
            for toy in toys:
                await lives.enter_async_context(started(toy.name, toy.run, log=LOG))
            toys[broken].fail.set()
            with anyio.fail_after(5):
                await anyio.sleep_forever()

    with pytest.raises(ConfigError, match=f"{'abc'[broken]} is broken"):
        await live()
    gone = [note for note in notes if note.endswith("is gone")]
    assert sorted(gone) == ["a is gone", "b is gone", "c is gone"]
    others = [note[0] for note in gone if note[0] != "abc"[broken]]
    assert others == sorted(others, reverse=True)


async def _returns(*, task_status: TaskStatus[None]) -> None:
    return


async def _starts_and_returns(*, task_status: TaskStatus[None]) -> None:
    task_status.started()


async def _refuses(*, task_status: TaskStatus[None]) -> None:
    raise ConfigError("the port is taken")


async def _exits(*, task_status: TaskStatus[None]) -> None:
    raise SystemExit(3)


async def _is_cancelled(*, task_status: TaskStatus[None]) -> None:
    raise anyio.get_cancelled_exc_class()


async def _groups(*, task_status: TaskStatus[None]) -> None:
    raise BaseExceptionGroup("several", [ConfigError("the first"), KeyboardInterrupt()])


async def _never_starts(*, task_status: TaskStatus[None]) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("run", "kind", "complaint"),
    [
        (_returns, PluginError, "toy ended before it had started"),
        (_starts_and_returns, PluginError, "toy has ended, which only an extra may"),
        (_refuses, ConfigError, "the port is taken"),
        (_exits, PluginError, "toy failed: SystemExit: 3"),
        (_is_cancelled, PluginError, "toy failed: CancelledError"),
        (_groups, ConfigError, "the first"),
        (_never_starts, PluginError, "toy has not started within 0.2 s"),
    ],
)
async def test_a_part_that_does_not_start_says_why(run: Any, kind: type[FluvialError], complaint: str) -> None:
    with pytest.raises(kind, match=complaint):
        async with started("toy", run, log=LOG, start_s=QUICK_S):
            pytest.fail("the block began")


def stubborn(shielded: bool) -> Callable[..., Awaitable[None]]:
    async def run(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        if shielded:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        while True:
            try:
                await anyio.sleep_forever()
            except BaseException:
                if anyio.current_time() > over_at:
                    raise
                continue

    over_at = anyio.current_time() + 3
    return run


@pytest.mark.parametrize("shielded", [True, False])
async def test_a_part_that_does_not_stop_is_left_behind_and_named(shielded: bool) -> None:
    notes: list[str] = []
    other = Toy("other", notes)
    with capture_logs() as logs:
        async with started("other", other.run, log=LOG):
            async with started("stubborn", stubborn(shielded), log=LOG, stop_s=QUICK_S):
                pass
            assert notes == ["other starts"]  # still there
    left = [entry for entry in logs if entry["event"] == "part_left_behind"]
    assert [(entry["part"], entry["log_level"]) for entry in left] == [("stubborn", "error")]
    assert notes[-1] == "other is gone"


async def test_a_part_that_is_stopped_before_it_has_started_is_waited_for() -> None:
    notes: list[str] = []

    async def slow(*, task_status: TaskStatus[None]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            notes.append("gone")

    with anyio.move_on_after(0.05):
        await Life("slow", slow, log=LOG).start()
    assert notes == ["gone"]


@pytest.mark.parametrize("stopped", [False, True])
async def test_an_error_after_the_start_is_told_once_and_not_after_a_stop(stopped: bool) -> None:
    told: list[FluvialError] = []
    toy = Toy("toy", [])
    life = Life("toy", toy.run, log=LOG, on_failed=told.append)
    await life.start()
    if stopped:
        await life.stop()
    toy.fail.set()
    if stopped:
        await anyio.sleep(0.05)
    else:
        await until(lambda: bool(told))
    await life.stop()
    assert [error.message for error in told] == ([] if stopped else ["toy is broken"])


@pytest.mark.parametrize("may_end", [False, True])
async def test_only_an_extra_may_return_before_it_is_stopped(may_end: bool) -> None:
    told: list[FluvialError] = []
    go = anyio.Event()

    async def run(*, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await go.wait()

    life = Life("toy", run, log=LOG, on_failed=told.append, may_end=may_end)
    await life.start()
    go.set()
    await anyio.sleep(0.05)
    assert [error.message for error in told] == ([] if may_end else ["toy has ended, which only an extra may"])
    await life.stop()
