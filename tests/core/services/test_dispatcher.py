"""Who answers a call, and what becomes of everything that can go wrong."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar

import anyio
import pytest
from fluvial.air.data.weight import EncodedJson
from fluvial.clock import ManualClock
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.errors import PluginError, ResourceLimit, ServiceError
from fluvial.identity import KeyPair, PeerId
from fluvial.seats import Execution, Json
from fluvial.services import ServiceLimits, Services, dispatcher
from fluvial.services.builtin.sig import Sig
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.support.services import KEYS, make_services


class Echo(Effector[NoConfig]):
    """Gives back, breaks, or takes its time."""

    service_id = "echo"
    timeout_s: ClassVar[float | None] = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.life: list[str] = []

    async def start(self) -> None:
        self.life.append("start")

    async def stop(self) -> None:
        self.life.append("stop")

    @function
    async def back(self, value: Any) -> Any:
        return value

    @function
    async def crash(self) -> None:
        raise KeyError("inside")

    @function
    async def own_timeout(self) -> None:
        raise TimeoutError("the station did not answer")

    @function
    async def refuse(self, status: int, text: str = "no") -> None:
        raise ServiceError(status, text)

    @function(timeout_s=0.02)
    async def hang(self) -> None:
        await anyio.sleep_forever()

    @function
    async def wait(self, seconds: float) -> str:
        await anyio.sleep(seconds)
        return "done"


class Broken(Effector[NoConfig]):
    """Cannot start."""

    service_id = "broken"

    async def start(self) -> None:
        raise OSError("no such device")

    @function
    async def one(self) -> None:
        return None


class Wasm(Execution):
    """An execution seat with one service."""

    async def call(self, call: Call) -> Json:
        match call.service, call.function:
            case "adder", "add":
                return sum(call.arguments)
            case "adder", "one":
                raise ServiceError(1, "the service's own error")
            case "adder", "nan":
                return float("nan")
            case "adder", "trap":
                raise ZeroDivisionError("trap")
            case "adder", "hang":
                await anyio.sleep_forever()
            case "adder", "many":
                return [1] * 100_000
        raise ServiceError(1, "no such module")

    def services(self) -> Mapping[str, Sequence[str]]:
        return {"adder": ["add", "one", "nan", "trap", "hang"]}


@pytest.fixture
async def wasm(keys: KeyPair, metrics: CollectorRegistry, clock: ManualClock) -> AsyncIterator[Services]:
    async with make_services(metrics, clock, ServiceLimits(execution_timeout_s=0.02), Wasm()) as services:
        yield services


async def status_of(services: Services, call: Call) -> tuple[int, str]:
    with pytest.raises(ServiceError) as failure:
        await services.call(call)
    return failure.value.status, failure.value.message


async def test_unknown_names_are_answered_with_those_that_are_there(
    services: Services, call: Any, counted: Any
) -> None:
    assert await status_of(services, call("a.b")) == (1, "no service 'a' on this peer; there are: nothing")
    await services.serve(Echo())
    assert await status_of(services, call("a.b")) == (1, "no service 'a' on this peer; there are: echo")
    status, text = await status_of(services, call("echo.b"))
    assert status == 2
    assert text == "service 'echo' has no function 'b'; it has: back, crash, hang, own_timeout, refuse, wait"

    assert counted("unknown", "unknown_service") == 2
    assert counted("native", "unknown_function") == 1


async def test_names_made_up_by_scripts_stay_short_in_errors(services: Services, call: Any) -> None:
    assert len((await status_of(services, call(f"{'s' * 100_000}.f")))[1]) < 200
    await services.serve(Echo())
    assert len((await status_of(services, call(f"echo.{'f' * 100_000}")))[1]) < 300


async def test_an_effector_is_started_before_it_is_called_and_stopped_when_withdrawn(
    services: Services, call: Any
) -> None:
    echo = Echo()
    await services.serve(echo, kind="effector")
    assert echo.life == ["start"]
    assert await services.call(call("echo.back", {"a": [1]})) == {"a": [1]}

    await services.withdraw("echo")
    assert echo.life == ["start", "stop"]
    assert (await status_of(services, call("echo.back", 1)))[0] == 1
    with pytest.raises(PluginError, match="no service 'echo' to withdraw"):
        await services.withdraw("echo")

    await services.serve(echo)
    assert await services.call(call("echo.back", 1)) == 1


async def test_closing_stops_all_even_if_one_cannot(services: Services) -> None:
    class Stuck(Echo):
        service_id = "stuck"

        async def stop(self) -> None:
            raise OSError("busy")

    echo = Echo()
    await services.serve(echo)
    await services.serve(Stuck())

    with capture_logs() as logs:
        await services.close()

    assert echo.life == ["start", "stop"]
    assert [entry["error"] for entry in logs if entry["event"] == "service_stop_failed"] == [
        "effector Stuck (service 'stuck'): stop() failed: OSError: busy (test_dispatcher.py:158)"
    ]


async def test_an_id_is_served_once(services: Services, call: Any) -> None:
    await services.serve(Echo())
    second = Echo()
    with pytest.raises(PluginError, match=r"Echo of \S+:Echo cannot serve 'echo': Echo of \S+:Echo does"):
        await services.serve(second)
    assert second.life == []


async def test_two_that_start_at_once_do_not_get_one_id(services: Services) -> None:
    began, go = anyio.Event(), anyio.Event()

    class Slow(Echo):
        async def start(self) -> None:
            began.set()
            await go.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(services.serve, Slow())
        await began.wait()
        with pytest.raises(PluginError, match="another one that is being started"):
            await services.serve(Echo())
        go.set()


async def test_an_effector_that_cannot_start_is_not_there(services: Services, call: Any) -> None:
    with pytest.raises(
        PluginError, match=r"effector Broken \(service 'broken'\): start\(\) failed: OSError: no such device"
    ):
        await services.serve(Broken())
    assert (await status_of(services, call("broken.one")))[0] == 1


async def test_an_exception_in_a_service_is_logged_with_its_traceback_and_becomes_status_5(
    services: Services, call: Any, counted: Any
) -> None:
    await services.serve(Echo())

    with capture_logs() as logs:
        assert await status_of(services, call("echo.crash")) == (5, "echo.crash failed (91b72265b1f5)")
        assert (await status_of(services, call("echo.own_timeout")))[0] == 5

    failed = [entry for entry in logs if entry["event"] == "plugin_call_failed"]
    assert failed[0]["exc_info"]
    assert (failed[0]["call"], failed[0]["id"]) == ("echo.crash", "91b72265b1f5")
    assert counted("native", "failed") == 2
    assert await services.call(call("echo.back", 1)) == 1


async def test_an_error_that_a_service_raises_on_purpose_is_passed_on(
    services: Services, call: Any, counted: Any
) -> None:
    await services.serve(Echo())

    assert await status_of(services, call("echo.refuse", 404, "no reading")) == (404, "no reading")
    assert await status_of(services, call("echo.refuse", -1)) == (-1, "no")
    assert await status_of(services, call("echo.refuse", 2**31)) == (
        5,
        "echo.refuse failed with the impossible status 2147483648",
    )
    status, text = await status_of(services, call("echo.refuse", 9, "x" * 100_000))
    assert (status, len(text)) == (9, 2_000)
    assert counted("native", "error") == 3


async def test_a_function_that_takes_too_long_is_cancelled(services: Services, call: Any, counted: Any) -> None:
    await services.serve(Echo())

    assert await status_of(services, call("echo.hang")) == (3, "echo.hang took longer than 0.02 s")
    assert counted("native", "timed_out") == 1


@pytest.mark.parametrize("limits", [ServiceLimits(timeout_s=0.02)])
async def test_the_effectors_own_limit_goes_before_the_nodes(services: Services, call: Any) -> None:
    class Impatient(Echo):
        service_id = "impatient"
        timeout_s = None

    await services.serve(Echo())
    await services.serve(Impatient())

    assert await services.call(call("echo.wait", 0.05)) == "done"
    assert await status_of(services, call("impatient.wait", 5)) == (3, "impatient.wait took longer than 0.02 s")


@pytest.mark.parametrize("limits", [ServiceLimits(result_bytes_max=100)])
async def test_a_result_may_not_be_too_large(services: Services, call: Any) -> None:
    await services.serve(Echo())

    assert await services.call(call("echo.back", "x" * 90)) == "x" * 90
    assert (await status_of(services, call("echo.back", "x" * 100)))[0] == 5


async def test_a_cancelled_call_is_counted_and_leaves_no_trace(services: Services, call: Any, counted: Any) -> None:
    await services.serve(Echo())
    with anyio.move_on_after(0.01):
        await services.call(call("echo.wait", 5))
    assert counted("native", "cancelled") == 1


async def test_metrics_have_no_names_made_up_by_scripts(
    services: Services, call: Any, metrics: CollectorRegistry
) -> None:
    await services.serve(Echo())
    for name in ("made-up.one", "echo.made-up", "echo.back"):
        with contextlib.suppress(ServiceError):
            await services.call(call(name, "value", particle="made-up particle"))
    labels = {
        value
        for family in metrics.collect()
        for sample in family.samples
        for key, value in sample.labels.items()
        if key != "le"
    }
    assert labels == {"unknown", "native", "unknown_service", "unknown_function", "ok"}
    assert metrics.get_sample_value("fluvial_service_call_seconds_count", {"service_kind": "native"}) == 2


# --- per particle -----------------------------------------------------------------------------------------------------


async def load(call: Call) -> Any:
    if call.function != "relay":
        raise ServiceError(2, f"nothing to load under {call.function!r}")
    return "12D3"


async def test_a_handler_answers_for_its_own_particle_only(
    services: Services, call: Any, stranger: PeerId, counted: Any
) -> None:
    services.bind("particle-1", "load", load)

    assert await services.call(call("load.relay")) == "12D3"
    assert await status_of(services, call("load.message")) == (2, "nothing to load under 'message'")
    assert (await status_of(services, call("load.relay", particle="particle-2")))[0] == 1
    assert (await status_of(services, call("load.relay", initiator=stranger)))[0] == 1
    assert counted("particle", "ok") == 1

    services.release("particle-1")
    services.release("particle-1")
    assert (await status_of(services, call("load.relay")))[0] == 1


async def test_services_of_the_peer_go_before_bound_handlers(services: Services, call: Any) -> None:
    services.bind("particle-1", "echo", load)
    await services.serve(Echo())

    assert await services.call(call("echo.back", 1)) == 1
    with pytest.raises(PluginError, match="service 'echo' is there already"):
        services.bind("particle-2", "echo", load)


async def test_a_handler_is_contained_like_any_service(services: Services, call: Any) -> None:
    async def crash(call: Call) -> Any:
        if call.function == "crash":
            raise RuntimeError("client")
        return {1: 2}

    services.bind("particle-1", "return", crash)

    assert await status_of(services, call("return.crash")) == (5, "return.crash failed (91b72265b1f5)")
    assert (await status_of(services, call("return.other")))[0] == 5


async def test_handlers_are_bounded_and_not_replaced(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "BOUND_MAX", 2)
    services.bind("p", "a", load)
    with pytest.raises(PluginError):
        services.bind("p", "a", load)
    services.bind("p", "b", load)
    with pytest.raises(ResourceLimit):
        services.bind("q", "a", load)
    services.release("p")
    services.bind("q", "a", load)


# --- the execution seat -----------------------------------------------------------------------------------------------


async def test_what_nobody_else_answers_goes_to_the_execution_seat(wasm: Services, call: Any, counted: Any) -> None:
    await wasm.serve(Echo())
    wasm.bind("particle-1", "load", load)

    assert await wasm.call(call("adder.add", 1, 2)) == 3
    assert await wasm.call(call("load.relay")) == "12D3"
    assert await wasm.call(call("echo.back", 1)) == 1
    assert (counted("execution", "ok"), counted("particle", "ok"), counted("native", "ok")) == (1, 1, 1)


async def test_errors_of_the_execution_seat(wasm: Services, call: Any) -> None:
    await wasm.serve(Echo())

    assert await status_of(wasm, call("adder.one")) == (1, "the service's own error")
    assert await status_of(wasm, call("none.one")) == (1, "no service 'none' on this peer; there are: adder, echo")
    assert (await status_of(wasm, call("adder.nan")))[0] == 5
    assert await status_of(wasm, call("adder.trap")) == (5, "adder.trap failed (91b72265b1f5)")
    assert (await status_of(wasm, call("adder.hang")))[0] == 3


async def test_everything_that_can_be_called_is_listed(wasm: Services) -> None:
    await wasm.serve(Echo())

    assert set(wasm.functions()) == {"adder", "echo"}
    assert wasm.functions()["echo"][0] == "back"
    assert str(wasm.interfaces()["echo"].functions["wait"]) == "wait(seconds: f64) -> string"


async def test_a_call_does_not_go_through_all_services_of_the_execution(
    metrics: CollectorRegistry, clock: ManualClock, call: Any
) -> None:
    class Many(Wasm):
        lists = 0

        def services(self) -> Mapping[str, Sequence[str]]:
            self.lists += 1
            return super().services()

        def functions_of(self, service: str) -> Sequence[str] | None:
            return Wasm().services().get(service)

    many = Many()
    async with make_services(metrics, clock, ServiceLimits(), many) as services:
        before = many.lists
        assert await services.call(call("adder.add", 1, 2)) == 3
        assert (await status_of(services, call("adder.one")))[0] == 1
        assert many.lists == before


class Turns:
    """Gives turns at once, and notes who has had one."""

    def __init__(self) -> None:
        self.had: list[tuple[bool, bool]] = []

    async def __call__(self, work: Callable[[], Any], /, *, light: bool = False, pure: bool = False) -> Any:
        self.had.append((light, pure))
        return work()


async def test_a_signature_over_heavy_data_is_verified_in_a_thread(services: Services, call: Any) -> None:
    turns = Turns()
    await services.serve(Sig(KEYS), kind="builtin")
    data = [1] * 100_000
    signature = list(KEYS.sign(bytes(data)))
    assert await services.result(call("sig.verify", signature, data), turns) is True
    assert turns.had == [(False, True)]


async def test_a_heavy_result_of_the_execution_is_converted_in_a_thread(wasm: Services, call: Any) -> None:
    turns = Turns()
    assert await wasm.result(call("adder.add", 1, 2), turns) == 3
    assert turns.had == []
    result = await wasm.result(call("adder.many"), turns)
    assert isinstance(result, EncodedJson)
    assert turns.had == [(False, True)]
