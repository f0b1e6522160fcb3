"""Where calls are made: in the thread of the event loop or in others, that results and memory do not depend on it, and how long the loop is held."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import GuestStep, LinkedInstances
from fluvial_fce_wasm.lab.play import Laboratory
from fluvial_fce_wasm.levels import ServicePlan
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.parts import ServiceParts, prepared
from fluvial_fce_wasm.process.messages import HostAnswer
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.threads import SKIPS_MAX, GuestThreads, Pace, is_small
from fluvial_fce_wasm.turns import Turn
from fluvial_fce_wasm.wit.parsing import parse_interface
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import component

LONG = 60_000_000
"""Turns of a loop that take many slices of time."""
CORE = """(core module $m (global $n (mut i32) (i32.const 0))
    (func $spin (param i32) (loop $again
      (br_if $again (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0)))))
    (func (export "work") (param i32) (result i32) (call $spin (local.get 0))
      (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
    (func (export "fail") (param i32) (call $spin (local.get 0)) unreachable)
    (func (export "ever") (param i32) (result i32) (loop $ever (br_if $ever (local.get 0))) (i32.const 7)))
  (core instance $i (instantiate $m))"""
COUNTER = f"""(component {CORE}
  (func (export "work") (param "turns" s32) (result s32) (canon lift (core func $i "work")))
  (func (export "fail") (param "turns" s32) (canon lift (core func $i "fail")))
  (func (export "ever") (param "is" s32) (result s32) (canon lift (core func $i "ever"))))"""
"""Short or long, as the caller wants; counts its calls."""
FRONT = """(component
  (import "work" (func $work (param "turns" s32) (result s32)))
  (import "fail" (func $fail (param "turns" s32)))
  (import "ever" (func $ever (param "is" s32) (result s32)))
  (core func $w (canon lower (func $work))) (core func $f (canon lower (func $fail))) (core func $e (canon lower (func $ever)))
  (core module $m (import "h" "w" (func $w (param i32) (result i32))) (import "h" "f" (func $f (param i32)))
    (import "h" "e" (func $e (param i32) (result i32)))
    (func (export "twice") (param i32) (result i32)
      (i32.add (i32.mul (call $w (local.get 0)) (i32.const 1000)) (call $w (local.get 0))))
    (func (export "fails") (param i32) (result i32) (call $f (local.get 0)) (i32.const 5))
    (func (export "ever") (param i32) (result i32) (call $e (local.get 0))))
  (core instance $i (instantiate $m (with "h" (instance
    (export "w" (func $w)) (export "f" (func $f)) (export "e" (func $e))))))
  (func (export "twice") (param "turns" s32) (result s32) (canon lift (core func $i "twice")))
  (func (export "fails") (param "turns" s32) (result s32) (canon lift (core func $i "fails")))
  (func (export "ever") (param "is" s32) (result s32) (canon lift (core func $i "ever"))))"""
"""Calls the functions of the counter."""
ASKING = """(component
  (import "test:host/desk" (instance $h (export "ask" (func (param "n" s32) (result s32)))))
  (core func $ask (canon lower (func $h "ask")))
  (core module $m (import "h" "ask" (func $ask (param i32) (result i32))) (global $n (mut i32) (i32.const 0))
    (func $spin (param i32) (loop $again
      (br_if $again (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 1))) (i32.const 0)))))
    (func (export "work") (param i32) (result i32) (local i32)
      (call $spin (local.get 0)) (local.set 1 (call $ask (local.get 0))) (call $spin (local.get 0))
      (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (i32.add (i32.mul (global.get $n) (i32.const 1000)) (i32.add (local.get 1) (call $ask (i32.const 1))))))
  (core instance $i (instantiate $m (with "h" (instance (export "ask" (func $ask))))))
  (func (export "work") (param "turns" s32) (result s32) (canon lift (core func $i "work"))))"""
"""Asks the host between and after long stretches of work."""
DESK = "package test:host; interface desk { ask: func(n: s32) -> s32; fetch: func(n: s32) -> list<u8>; }"
FETCHING = """(component
  (import "test:host/desk" (instance $h (export "fetch" (func (param "n" s32) (result (list u8))))))
  (core module $libc (memory (export "m") 32)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096)))
  (core instance $l (instantiate $libc))
  (core func $fetch (canon lower (func $h "fetch") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))
  (core module $m (import "h" "fetch" (func $fetch (param i32 i32))) (import "l" "m" (memory 32))
    (func (export "size") (param i32) (result i32)
      (call $fetch (local.get 0) (i32.const 16)) (i32.add (i32.load (i32.const 20)) (i32.load8_u (i32.const 4096)))))
  (core instance $i (instantiate $m (with "l" (instance $l)) (with "h" (instance (export "fetch" (func $fetch))))))
  (func (export "size") (param "n" s32) (result s32) (canon lift (core func $i "size"))))"""
"""Has the host give it bytes; how many they are, and the first one."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> CodeCache:
    return CodeCache(tmp_path_factory.mktemp("code"))


Make = Callable[..., Awaitable[RunningService]]


@pytest.fixture
async def make(cache: CodeCache, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes a service of texts."""
    made: list[RunningService] = []

    async def service(*texts: str, call_s: float = 20, fuel: int = 0, host: bool = False) -> RunningService:
        files = []
        for number, text in enumerate(texts):
            files.append((f"m{number}", tmp_path / f"m{number}.wat"))
            files[-1][1].write_text(text)
        limits = GuestLimits(call_s=call_s, fuel=fuel)
        given_to_each = [dict([parse_interface(DESK)])] * len(texts) if host else []
        parts = ServiceParts(modules=files, limits=limits, host=given_to_each, is_text=True)
        modules, plan = await prepared(parts, cache)
        made.append(
            RunningService(
                ServicePlan(modules=modules, link=plan, limits=limits, isolation="thread"),
                lambda counts_fuel: GuestEngine(counts_fuel=counts_fuel),
                threads=GuestThreads(),
            )
        )
        await made[-1].start()
        return made[-1]

    yield service
    for one in made:
        await one.close()


class Turns:
    """Counts the turns that the event loop has."""

    def __init__(self) -> None:
        self.count = 0

    async def __aenter__(self) -> Turns:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._turn)
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(*error)

    async def _turn(self) -> None:
        while True:
            self.count += 1
            await anyio.sleep(0.001)


@pytest.mark.parametrize("fuel", [0, 10**9])
async def test_a_long_call_goes_on_in_a_thread_and_nothing_is_lost(make: Make, fuel: int) -> None:
    service = await make(COUNTER, fuel=fuel)
    assert await service.call("work", [0], seconds=5) == 1
    short = service.fuel_used
    async with Turns() as turns:
        assert await service.call("work", [LONG], seconds=20) == 2
    assert turns.count > 3
    assert await service.call("work", [0], seconds=5) == 3
    assert service.restarts == 0
    assert service.fuel_used == short, "the same call has the same price, wherever it is made"
    assert bool(fuel) == (short > 0)


@pytest.mark.parametrize("fuel", [0, 10**9])
async def test_a_module_that_takes_long_for_another_goes_on_in_a_thread(make: Make, fuel: int) -> None:
    service = await make(COUNTER, FRONT, fuel=fuel)
    assert await service.call("twice", [0], seconds=5) == 1002
    async with Turns() as turns:
        assert await service.call("twice", [LONG], seconds=20) == 3004
    assert turns.count > 3
    assert await service.call("twice", [0], seconds=5) == 5006
    assert service.restarts == 0


@pytest.mark.parametrize("turns", [0, LONG])
async def test_a_module_that_traps_for_another_ends_the_call_however_late(make: Make, turns: int) -> None:
    service = await make(COUNTER, FRONT)
    with pytest.raises(GuestError, match="unreachable") as error:
        await service.call("fails", [turns], seconds=20)
    assert error.value.kind is FailureKind.TRAP
    assert service.restarts == 1
    assert await service.call("twice", [0], seconds=5) == 1002, "made anew"


@pytest.mark.parametrize("texts", [[COUNTER], [COUNTER, FRONT]], ids=["alone", "for another"])
async def test_a_call_that_never_ends_holds_the_loop_for_a_moment_only(make: Make, texts: list[str]) -> None:
    service = await make(*texts, call_s=0.2)
    for _ in range(2):
        async with Turns() as turns:
            with pytest.raises(GuestError) as error:
                await service.call("ever", [1], seconds=5)
        assert error.value.kind is FailureKind.TIMEOUT
        assert turns.count > 3
        assert await service.call("ever", [0], seconds=5) == 7


async def test_a_python_that_cannot_be_called_back_refuses_imports_and_nothing_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluvial_fce_wasm.guest.instance.CALLS_BACK", False)
    service = await make(COUNTER)
    assert await service.call("work", [0], seconds=5) == 1
    with pytest.raises(GuestError, match=r"3\.11 to 3\.13"):
        await make(COUNTER, FRONT)


@pytest.mark.parametrize("turns", [0, LONG // 4])
async def test_the_host_answers_wherever_the_guest_runs(make: Make, turns: int) -> None:
    service = await make(ASKING, host=True)
    threads = set()

    async def host(interface: str, function: str, arguments: list[Any]) -> HostAnswer:
        threads.add(threading.get_ident())
        await anyio.sleep(0.01 if turns else 0)
        return HostAnswer(1 if arguments == [turns] else 100)

    for number in range(1, 4):
        expected = number * 1000 + (101 if turns != 1 else 2)
        assert await service.call("work", [turns], seconds=20, host=host) == expected
    assert threads == {threading.get_ident()}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The steps of guests, and whether each was made in the thread of the event loop."""
    made, loop = [], threading.get_ident()

    def watch(name: str) -> None:
        work = getattr(LinkedInstances, name)

        def watched(*arguments: Any) -> GuestStep:
            made.append((name, threading.get_ident() == loop))
            step: GuestStep = work(*arguments)
            return step

        monkeypatch.setattr(LinkedInstances, name, watched)

    watch("begin")
    watch("go_on")
    return made


@pytest.mark.parametrize("size", [100, 200_000])
@pytest.mark.parametrize("kind", [bytes, list])
async def test_a_large_answer_of_the_host_is_laid_out_in_a_thread(
    make: Make, steps: list[tuple[str, bool]], kind: Callable[[bytes], Any], size: int
) -> None:
    service = await make(FETCHING, host=True)

    async def host(interface: str, function: str, arguments: list[Any]) -> HostAnswer:
        steps.clear()
        return HostAnswer(kind(bytes([7]) * arguments[0]))

    assert await service.call("size", [size], seconds=5, host=host) == size + 7
    assert steps
    assert not any(in_loop for _, in_loop in steps) or size == 100


async def test_who_holds_the_loop_and_fails_begins_elsewhere_the_next_times(
    make: Make, steps: list[tuple[str, bool]]
) -> None:
    service = await make(COUNTER)
    for _ in range(10):
        with pytest.raises(GuestError, match="unreachable"):
            await service.call("fail", [LONG // 20], seconds=5)
    begun = [in_loop for name, in_loop in steps if name == "begin"]
    assert begun.count(True) <= 6, (
        "all of them, if it were forgotten with the instances; a tick that comes early hides some"
    )
    assert service.restarts == 10


async def test_a_host_that_takes_longer_than_the_call_may_is_not_waited_for(make: Make) -> None:
    service = await make(ASKING, call_s=0.1, host=True)

    async def never(interface: str, function: str, arguments: list[Any]) -> HostAnswer:
        await anyio.sleep_forever()
        raise AssertionError

    with pytest.raises(GuestError) as error:
        await service.call("work", [0], seconds=5, host=never)
    assert error.value.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("turns", [0, LONG // 4])
async def test_an_answer_that_does_not_fit_ends_the_call(make: Make, turns: int) -> None:
    service = await make(ASKING, host=True)
    for answer, why in [(HostAnswer("text"), "no s32"), (HostAnswer(trap="out of order"), "out of order")]:

        async def host(interface: str, function: str, arguments: list[Any], answer: HostAnswer = answer) -> HostAnswer:
            return answer

        with pytest.raises(GuestError, match=why) as error:
            await service.call("work", [turns], seconds=20, host=host)
        assert error.value.kind is FailureKind.TRAP


async def test_who_is_cancelled_waits_for_the_guest_which_keeps_its_memory(make: Make) -> None:
    service = await make(COUNTER)
    with anyio.move_on_after(0.01) as scope:
        assert await service.call("work", [LONG], seconds=20) == 1
    assert scope.cancel_called
    assert service.restarts == 0
    assert await service.call("work", [0], seconds=5) == 2


async def test_who_is_cancelled_while_the_host_is_asked_leaves_a_service_that_is_made_anew(make: Make) -> None:
    service, asked = await make(ASKING, host=True), anyio.Event()

    async def host(interface: str, function: str, arguments: list[Any]) -> HostAnswer:
        if not asked.is_set():
            asked.set()
            await anyio.sleep_forever()
        return HostAnswer(1)

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: service.call("work", [0], seconds=20, host=host))
        await asked.wait()
        group.cancel_scope.cancel()
    assert await service.call("work", [0], seconds=5, host=host) == 1002


async def test_a_large_result_is_read_in_a_thread_and_is_the_same(cache: CodeCache, tmp_path: Path) -> None:
    from tests.plugins.fce_wasm.deploying import WAT

    service = await Laboratory(cache, tmp_path).service([WAT / "kit_env.wat", WAT / "kit.wat"], GuestLimits())
    for text in ("x", "y" * 15_000, "z" * 300_000, ""):
        assert await service.call("echo", [text], seconds=5) == text
    await service.close()


def test_only_few_values_and_short_texts_are_small() -> None:
    for small in (1, 2.5, True, None, "x" * 1_000, [1, 2], {"a": ["b"]}, b"x" * 1_000, object()):
        assert is_small([1, small])
    for large in (
        "x" * 100_000,
        b"x" * 100_000,
        ["x" * 1_000] * 20,
        list(range(1_000)),
        [[]] * 1_000,
        {"a": [{"b": [1] * 300}]},
    ):
        assert not is_small([1, large])


@given(st.lists(st.booleans(), max_size=300))
def test_what_is_late_again_and_again_begins_in_the_loop_ever_less(outcomes: list[bool]) -> None:
    pace, elsewhere, late = Pace(), 0, 0
    for is_short in outcomes:
        if not pace.is_quick("f"):
            elsewhere += 1
        elif is_short:
            pace.was_short("f")
        else:
            pace.was_late("f")
            late += 1
    assert late <= 3 + elsewhere / 4 + outcomes.count(True) / 64
    assert pace.is_quick("g")


def test_what_is_always_late_begins_elsewhere_but_for_a_handful() -> None:
    pace, held = Pace(), 0
    for _ in range(20_000):
        if pace.is_quick("f"):
            held += 1
            pace.was_late("f")
    assert held <= 12 + 20_000 / SKIPS_MAX


def test_what_was_late_once_and_is_short_ever_after_is_forgiven() -> None:
    pace = Pace()
    for _ in range(3):
        pace.was_late("f")
    assert not pace.is_quick("f")
    for _ in range(20_000):
        if pace.is_quick("f"):
            pace.was_short("f")
    assert pace.clock("f") is time.perf_counter


@given(st.lists(st.sampled_from(["take", "cancel", "give"]), max_size=30))
def test_a_turn_is_had_by_one_at_a_time_in_the_order_of_asking(steps: list[str]) -> None:
    async def play() -> None:
        turn, had, scopes = Turn(), [], {}
        asked: list[int] = []

        async def take(number: int) -> None:
            with anyio.CancelScope() as scope:
                scopes[number] = scope
                await turn.take()
                had.append(number)
            if scope.cancelled_caught:
                asked.remove(number)

        async with anyio.create_task_group() as group:
            for number, step in enumerate(steps):
                if step == "take":
                    asked.append(number)
                    group.start_soon(take, number)
                elif step == "cancel" and (waiting := [one for one in asked if one not in had]):
                    scopes[waiting[-1]].cancel()
                elif step == "give" and turn.is_taken:
                    turn.give()
                await anyio.wait_all_tasks_blocked()
            while turn.is_taken:
                turn.give()
                await anyio.wait_all_tasks_blocked()
        assert had == asked

    anyio.run(play)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads have very short turns."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
def test_code_that_others_let_go_of_meanwhile_is_whole(tmp_path: Path) -> None:
    """Threads share code while it is there; each of them may be the last to let go of it, and the next to want it."""
    engine, path = GuestEngine(), tmp_path / "compiled"
    path.write_bytes(component.Component(engine.native, COUNTER).serialize())
    closed: list[str] = []

    def use() -> None:
        for _ in range(500):
            try:
                engine.load(path).component.ptr()
            except ValueError as error:
                closed.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert closed == []
