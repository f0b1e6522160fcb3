"""Bounds: calls in progress, calls that wait, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.services import ServiceLimits, Services
from fluvial.services.gate import Gate
from fluvial.services.threads import Threads
from msgspec.structs import replace

from tests.support.nodes import id_of

GREEDY, MODEST = id_of("greedy"), id_of("modest")


def of(initiator: PeerId, by: Upstream | None = None) -> Payer:
    """Whoever brings its own flows, or those that come by another peer."""
    return Payer(by or Upstream(initiator), initiator)


class Turnstile(Effector[NoConfig]):
    """Holds calls until they are let go, and notes how many were in at once."""

    service_id = "turnstile"

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()
        self.inside = 0
        self.most = 0

    @function
    async def enter(self) -> str:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.go.wait()
        finally:
            self.inside -= 1
        return "through"

    @function(inline=True)
    def count(self) -> int:
        return self.inside


class Other(Turnstile):
    service_id = "other"
    calls_max = 1


class Crowd:
    """Many calls at once; collects results and statuses."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.results: list[Any] = []

    async def one(self, call: Call) -> None:
        try:
            self.results.append(await self._services.call(call))
        except ServiceError as error:
            self.results.append(error.status)


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("limits", [ServiceLimits(service_calls_max=3, waiting_max=2)])
async def test_a_service_lets_some_in_some_wait_and_the_rest_is_told_that_it_is_busy(
    services: Services, call: Any, counted: Any
) -> None:
    turnstile, crowd = Turnstile(), Crowd(services)
    await services.serve(turnstile)

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(crowd.one, call("turnstile.enter"))
        await settle()
        assert turnstile.inside == 3
        assert crowd.results == [6, 6, 6]
        assert await services.call(call("turnstile.count")) == 3  # an inline function needs no place
        turnstile.go.set()

    assert sorted(map(str, crowd.results)) == ["6"] * 3 + ["through"] * 5
    assert turnstile.most == 3
    assert counted("native", "busy") == 3


@pytest.mark.parametrize("limits", [ServiceLimits(calls_max=2, service_calls_max=8, waiting_max=1)])
async def test_all_services_together_have_a_bound_too(services: Services, call: Any) -> None:
    one, other, crowd = Turnstile(), Other(), Crowd(services)
    await services.serve(one)
    await services.serve(other)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, call("turnstile.enter"))
        tasks.start_soon(crowd.one, call("turnstile.enter"))
        tasks.start_soon(crowd.one, call("other.enter"))
        await settle()
        assert (one.inside, other.inside) == (2, 0)
        with pytest.raises(ServiceError, match="3 calls are in progress or wait on this peer") as failure:
            await services.call(call("other.enter"))
        assert failure.value.status == 6
        one.go.set()
        other.go.set()
    assert crowd.results == ["through"] * 3


@pytest.mark.parametrize("limits", [ServiceLimits(waiting_s_max=0.02)])
async def test_nobody_waits_longer_than_the_limit(services: Services, call: Any) -> None:
    other, crowd = Other(), Crowd(services)
    await services.serve(other)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crowd.one, call("other.enter"))
        await settle()
        with pytest.raises(ServiceError, match="service 'other': no place became free in time") as failure:
            await services.call(call("other.enter"))
        assert failure.value.status == 6
        other.go.set()
    assert crowd.results == ["through"]


async def test_places_are_given_back_whatever_happens() -> None:
    gate = Gate(calls_max=2, waiting_max=5, waiting_s_max=1)

    async def use(service: str, action: Callable[[], Any]) -> None:
        async with gate.place(service, 1, of(GREEDY)):
            await action()

    async def fail() -> None:
        raise RuntimeError("inside")

    for _ in range(5):
        with pytest.raises(RuntimeError):
            await use("a", fail)
        with anyio.move_on_after(0.001):
            await use("a", anyio.sleep_forever)
        async with gate.place("a", 1, of(GREEDY)):  # cancelled while it waits
            with anyio.move_on_after(0.001):
                await use("a", fail)
    async with gate.place("a", 1, of(GREEDY)), gate.place("b", 1, of(GREEDY)):
        pass


async def hold(
    gate: Gate, initiator: PeerId, inside: list[PeerId], go: anyio.Event, by: Upstream | None = None
) -> None:
    with suppress(ServiceError):
        async with gate.place("a", 8, of(initiator, by)):
            inside.append(initiator)
            await go.wait()


async def test_one_initiator_never_has_all_places_however_many_calls_it_begins() -> None:
    gate, go = Gate(calls_max=100, waiting_max=50, waiting_s_max=10), anyio.Event()
    inside: list[PeerId] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(1_000):
            tasks.start_soon(hold, gate, GREEDY, inside, go)
        await settle()
        assert inside == [GREEDY] * 6
        async with gate.place("a", 8, of(MODEST)):
            assert len(inside) == 6
        go.set()
    assert len(inside) == 6 + 38, "three quarters of the places and of the waiting ones; the rest was busy"


async def test_hundreds_of_names_that_one_peer_brings_leave_others_their_places() -> None:
    gate, go = Gate(calls_max=100, waiting_max=50, waiting_s_max=10), anyio.Event()
    inside: list[PeerId] = []
    names = [id_of(f"name {number}") for number in range(200)]
    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(hold, gate, name, inside, go, Upstream(GREEDY))
        await settle()
        assert len(inside) == 6
        for _ in range(4):
            tasks.start_soon(hold, gate, MODEST, inside, go)
        await settle()
        assert inside[6:] == [MODEST] * 2
        go.set()
        await settle()
    assert inside.count(MODEST) == 4
    assert len(inside) <= 4 + 6 + 38, "three quarters of the places and of the waiting ones; the rest was busy"


async def test_who_has_less_than_others_finds_a_place_however_many_greedy_peers_there_are() -> None:
    gate, go = Gate(calls_max=500, waiting_max=200, waiting_s_max=10), anyio.Event()
    inside: list[PeerId] = []
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            for _ in range(200):
                by = Upstream(id_of(f"greedy {number}"), 1)
                tasks.start_soon(hold, gate, id_of(f"of greedy {number}"), inside, go, by)
            await settle()
        for one in (Upstream(id_of("greedy 0"), 2), Upstream(MODEST)):
            tasks.start_soon(hold, gate, MODEST, inside, go, one)
        await settle()
        go.set()
        await settle()
    assert inside.count(MODEST) == 2, "neither was told that it is busy"
    parts = [inside.count(id_of(f"of greedy {number}")) for number in range(12)]
    assert max(parts) - min(parts) <= 8, "and the greedy ones have equal parts"


async def test_a_free_place_goes_round_the_initiators() -> None:
    gate, go = Gate(calls_max=100, waiting_max=50, waiting_s_max=10), anyio.Event()
    inside: list[PeerId] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(hold, gate, GREEDY, inside, go)
        await settle()
        for _ in range(4):
            tasks.start_soon(hold, gate, MODEST, inside, go)
        await settle()
        assert inside == [GREEDY] * 6 + [MODEST] * 2
        go.set()
        await settle()
    assert inside[8:12].count(MODEST) == 2


class Blocking(Effector[NoConfig]):
    """Plain functions, which run in threads."""

    service_id = "blocking"

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    @function
    def where(self) -> bool:
        """Whether this is the main thread."""
        return threading.current_thread() is threading.main_thread()

    @function(inline=True)
    def where_inline(self) -> bool:
        """Whether this is the main thread."""
        return threading.current_thread() is threading.main_thread()

    @function(timeout_s=0.05)
    def hang(self) -> str:
        self.go.wait(10)
        return "late"

    @function
    def crash(self) -> None:
        raise ValueError("in a thread")


async def test_plain_functions_run_in_threads_and_inline_ones_do_not(services: Services, ask: Any) -> None:
    await services.serve(Blocking())

    assert await ask("blocking.where") is False
    assert await ask("blocking.where_inline") is True
    with pytest.raises(ServiceError, match=r"blocking.crash failed \(") as failure:
        await ask("blocking.crash")
    assert failure.value.status == 5


@pytest.mark.parametrize("limits", [ServiceLimits(threads_max=2)])
async def test_a_thread_that_hangs_keeps_its_place_but_not_its_caller(services: Services, ask: Any) -> None:
    blocking = Blocking()
    await services.serve(blocking)
    try:
        for _ in range(2):
            with pytest.raises(ServiceError, match=r"blocking.hang took longer than 0.05 s"):
                await ask("blocking.hang")
        with pytest.raises(ServiceError, match="all 2 worker threads are taken") as failure:
            await ask("blocking.where")
        assert failure.value.status == 6
    finally:
        blocking.go.set()

    with anyio.fail_after(5):
        while True:
            try:
                assert await ask("blocking.where") is False
                break
            except ServiceError:
                await anyio.sleep(0.005)


async def test_a_job_that_is_given_up_before_it_began_gives_its_place_back() -> None:
    threads = Threads(1)
    ran = []
    for _ in range(3):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await threads.run(lambda: ran.append(1), GREEDY)
    assert await threads.run(lambda: "ran", GREEDY) == "ran"
    assert ran == []


@pytest.mark.parametrize("limits", [ServiceLimits(threads_max=8)])
async def test_calls_that_one_peer_brought_leave_threads_to_others(
    services: Services, call: Callable[..., Call]
) -> None:
    """However many names they come under."""
    blocking, statuses = Blocking(), []
    await services.serve(blocking)

    async def hang(initiator: PeerId) -> None:
        try:
            await services.call(replace(call("blocking.hang"), paid_by=of(initiator, Upstream(GREEDY))))
        except ServiceError as error:
            statuses.append(error.status)

    try:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(hang, id_of(f"name{number}"))
        assert set(statuses) == {3, 6}
        assert 4 <= statuses.count(3) < 8
        assert await services.call(replace(call("blocking.where"), paid_by=of(MODEST))) is False
    finally:
        blocking.go.set()


async def test_the_event_loop_goes_on_while_a_function_blocks() -> None:
    go, answers = threading.Event(), []

    async def block() -> None:
        answers.append(await Threads(1).run(lambda: go.wait(10), GREEDY))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(block)
        await settle()
        assert answers == []
        go.set()
    assert answers == [True]
