"""Timers of the wheel are called once, in order, not before their time and at most a slot later, unless they were cancelled."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio
from fluvial.timer_wheel import SLOT_S, TimerWheel
from fluvial.virtual.loop import run as run_virtually
from fluvial.waiting import now_s
from hypothesis import given
from hypothesis import strategies as st


@given(
    timers=st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.booleans()), max_size=30),
    begins_at=st.floats(0, 0.1),
)
def test_what_is_not_cancelled_is_called_once_in_time(timers: list[tuple[float, bool]], begins_at: float) -> None:
    called: list[tuple[int, float]] = []

    def note(number: int) -> None:
        called.append((number, now_s()))

    async def run() -> None:
        await anyio.sleep(begins_at)
        wheel = TimerWheel()
        made = []
        for number, (after_s, _) in enumerate(timers):
            made.append(wheel.at(now_s() + after_s, partial(note, number)))
        for timer, (_, wanted) in zip(made, timers, strict=True):
            if not wanted:
                timer.cancel()
        began = now_s()
        await anyio.sleep(2)
        for number, when in called:
            assert began + timers[number][0] <= when <= began + timers[number][0] + SLOT_S + 1e-6

    run_virtually(run)
    assert sorted(number for number, _ in called) == [number for number, (_, wanted) in enumerate(timers) if wanted]


def test_a_timer_may_cancel_another_of_its_slot_and_one_that_raises_stops_no_other() -> None:
    called: list[str] = []

    async def run() -> None:
        wheel, when = TimerWheel(), now_s() + 0.001
        asyncio.get_running_loop().set_exception_handler(lambda *_: called.append("reported"))

        def raises() -> None:
            cancelled.cancel()
            raise KeyError

        wheel.at(when, raises)
        cancelled = wheel.at(when, lambda: called.append("cancelled"))
        wheel.at(when, lambda: called.append("next"))
        await anyio.sleep(1)

    run_virtually(run)
    assert called == ["reported", "next"]


def test_an_empty_slot_keeps_nobody_awake() -> None:
    async def run() -> int:
        wheel = TimerWheel()
        for number in range(1000):
            wheel.at(now_s() + 15 + number / 1e6, lambda: None).cancel()
        return sum(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]

    assert run_virtually(run) == 1
