"""Whatever foreign code does costs one call: in the guard itself, and in every method of every seat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from fluvial.addresses import Contact
from fluvial.effectors import Call
from fluvial.errors import (
    FluvialError,
    LocalProtocolError,
    PluginError,
    Refused,
    RemoteProtocolError,
    ServiceError,
    StorageError,
    Unreachable,
)
from fluvial.guard.guard import PluginFailed
from fluvial.guard.guarded import (
    GuardedAuthorization,
    GuardedConsensus,
    GuardedExecution,
    GuardedRouting,
    GuardedTransport,
)
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from fluvial.ports import NO_BLOCKS, Capability, Provider
from fluvial.seats import Decision
from fluvial.testing.authorization import decided
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tests.support.services import make_guard

pytestmark = pytest.mark.usefixtures("plain_logs")

ME, OTHER = (KeyPair.from_secret(bytes([seed]) * 32) for seed in (1, 2))
PEER = OTHER.peer_id
CONTACT = Contact(PEER)
TEA = Capability("service", "tea")
CALL = Call(particle_id="p", initiator=PEER, service="tea", function="brew", arguments=[])
PARTICLE = Particle.create(ME, "(null)", particle_id="p", timestamp_ms=1, ttl_ms=1, max_hops=1, network="test")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


OUTBURSTS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: KeyError("secret of the plugin"),
    "exit": lambda: SystemExit(1),
    "interrupt": KeyboardInterrupt,
    "stray cancellation": asyncio.CancelledError,
    "generator exit": GeneratorExit,
    "group": lambda: BaseExceptionGroup("many", [KeyError("one"), SystemExit(2)]),
    "unprintable": Unprintable,
    "stop": StopIteration,
    "stop async": StopAsyncIteration,
}


def raising(make: Callable[[], BaseException]) -> Callable[[], Awaitable[Any]]:
    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        raise make()

    return work


@pytest.mark.parametrize("make", OUTBURSTS.values(), ids=OUTBURSTS)
async def test_what_comes_out_costs_the_call_and_names_the_plugin(make: Callable[[], BaseException]) -> None:
    metrics = CollectorRegistry()
    guard = make_guard(metrics)
    with capture_logs() as logs, pytest.raises(PluginFailed) as failure:
        await guard.call("teapot", "tea.brew", raising(make))
    assert failure.value.message == f"tea.brew failed ({failure.value.id})"
    assert "secret" not in str(failure.value)
    (entry,) = logs
    assert (entry["event"], entry["plugin"], entry["id"]) == ("plugin_call_failed", "teapot", failure.value.id)
    assert metrics.get_sample_value("fluvial_plugin_failures_total", {"plugin": "teapot", "cause": "error"}) == 1
    assert await guard.call("teapot", "tea.brew", lambda: _value("tea")) == "tea"


async def _value(value: Any) -> Any:
    return value


@pytest.mark.parametrize("make", OUTBURSTS.values(), ids=OUTBURSTS)
def test_a_quick_question_has_an_answer_for_it(make: Callable[[], BaseException]) -> None:
    def work() -> int:
        raise make()

    guard = make_guard()
    assert guard.ask("teapot", "tea.count", work, 7) == 7
    with pytest.raises(PluginFailed):
        guard.run("teapot", "tea.count", work)


async def test_errors_that_are_meant_pass() -> None:
    guard = make_guard()
    with pytest.raises(StorageError, match="full"):
        await guard.call("teapot", "tea.brew", raising(lambda: StorageError("full")), passes=(StorageError,))
    with pytest.raises(PluginFailed):
        await guard.call("teapot", "tea.brew", raising(lambda: StorageError("full")), passes=(ServiceError,))


async def test_what_hangs_is_cancelled_at_its_deadline() -> None:
    ended: list[str] = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("hang")

    with capture_logs() as logs, pytest.raises(PluginFailed) as failure:
        await make_guard().call("teapot", "tea.brew", hang, timeout_s=0.02)
    assert failure.value.timed_out
    assert ended == ["hang"]
    assert [entry["error"] for entry in logs] == ["took longer than 0.02 s"]


async def test_what_ignores_its_cancellation_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.guard.guard.ENDING_S", 0.05)
    over_at = anyio.current_time() + 2

    async def stubborn() -> None:
        while anyio.current_time() < over_at:
            with contextlib.suppress(BaseException):
                await anyio.sleep(0.01)

    with capture_logs() as logs, anyio.fail_after(1), pytest.raises(PluginFailed):
        await make_guard().call("teapot", "tea.brew", stubborn, timeout_s=0.02)
    assert [entry["event"] for entry in logs] == ["plugin_call_failed", "plugin_call_left_behind"]
    await anyio.sleep(0.1)  # the loop goes on


async def test_a_cancelled_caller_waits_until_the_code_has_cleaned_up() -> None:
    notes: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.02)
                notes.append("cleaned up")

    with anyio.move_on_after(0.02):
        await make_guard().call("teapot", "tea.brew", work)
    assert notes == ["cleaned up"]


async def test_a_task_that_foreign_code_starts_costs_the_call_too() -> None:
    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(raising(lambda: ValueError("inside")))

    with pytest.raises(PluginFailed):
        await make_guard().call("teapot", "tea.brew", work)


# --- every method of every seat ---------------------------------------------------------------------------------------


class Nasty:
    """Sits in any seat and does the same in every method."""

    def __init__(self, act: Callable[[], Any], act_later: Callable[[], Awaitable[Any]]) -> None:
        self._act = act
        self._act_later = act_later

    addresses = version = property(lambda self: self._act())

    def _now(self, *_: Any, **__: Any) -> Any:
        return self._act()

    async def _later(self, *_: Any, **__: Any) -> Any:
        return await self._act_later()

    keep = post = price = connected = learn = contacts = weight = prove = proves = services = policy = view = _now
    request = send = disconnect = find = providers = admit = permit = call = submit = _later


class Teller:
    """A transport that is asked at once, and tells what it is told to."""

    addresses = ()

    def __init__(self, *told: object) -> None:
        self.told = told
        self.taken_back = 0

    def ask(self, *_: object, **__: object) -> Callable[[], None]:
        tell = cast(Callable[[object], None], _[3])
        for one in self.told:
            asyncio.get_running_loop().call_soon(tell, one)
        return self.take_back

    def take_back(self) -> None:
        self.taken_back += 1


def told_by(teller: Teller, timeout_s: float = 5.0) -> Awaitable[bytes]:
    transport = GuardedTransport(make_guard(), "transport")
    cast(Any, transport).take(teller, "teller")
    return transport.request(CONTACT, "x", b"", timeout_s=timeout_s)


@pytest.mark.parametrize("told", [42, None, KeyError("secret of the plugin"), TimeoutError(), "text"], ids=repr)
async def test_a_transport_that_tells_nonsense_reaches_nobody(told: object) -> None:
    with capture_logs() as logs, pytest.raises(Unreachable) as failure:
        await told_by(Teller(told))
    assert "secret" not in failure.value.message
    assert [entry["plugin"] for entry in logs] == ["teller"]


async def test_a_transport_may_tell_an_answer_or_what_it_may_raise_and_only_the_first_counts() -> None:
    assert await told_by(Teller(b"first", b"second", KeyError())) == b"first"
    for error in (Unreachable("gone"), RemoteProtocolError("no"), LocalProtocolError("large")):
        with pytest.raises(type(error), match=error.message):
            await told_by(Teller(error, b"late"))


async def test_a_transport_that_tells_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.guard.guarded.TRANSPORT_GRACE_S", 0.01)
    teller = Teller()
    with pytest.raises(Unreachable):
        await told_by(teller, timeout_s=0.01)
    assert teller.taken_back == 1


async def test_whoever_is_cancelled_takes_the_question_back() -> None:
    teller = Teller()
    with anyio.move_on_after(0.01):
        await told_by(teller)
    assert teller.taken_back == 1


def seats(nasty: Nasty) -> dict[str, Callable[[], Any]]:
    """A call of every method, by name."""
    guard = make_guard()
    transport, routing = GuardedTransport(guard, "transport"), GuardedRouting(guard, "routing")
    authorization, execution = GuardedAuthorization(guard, "authorization"), GuardedExecution(guard, "execution")
    consensus = GuardedConsensus(guard, "consensus")
    for seat in (transport, routing, authorization, execution, consensus):
        cast(Any, seat).take(nasty, "nasty")
    return {
        "transport.addresses": lambda: transport.addresses,
        "transport.request": lambda: transport.request(CONTACT, "x", b"", timeout_s=0.01),
        "transport.send": lambda: transport.send(CONTACT, "x", b""),
        "transport.post": lambda: transport.post(PEER, "x", b""),
        "transport.keep": lambda: transport.keep(CONTACT),
        "transport.connected": transport.connected,
        "transport.disconnect": lambda: transport.disconnect(PEER),
        "routing.find": lambda: routing.find(PEER),
        "routing.learn": lambda: routing.learn(CONTACT),
        "routing.contacts": routing.contacts,
        "routing.providers": lambda: routing.providers(TEA, limit=3),
        "authorization.admit": lambda: decided(authorization.admit(PARTICLE, PEER)),
        "authorization.permit": lambda: authorization.permit(CALL, None),
        "authorization.version": lambda: authorization.version,
        "authorization.weight": lambda: authorization.weight(PEER),
        "authorization.prove": lambda: authorization.prove(PEER, PEER, length_max=2),
        "authorization.proves": lambda: authorization.proves(b"", PEER, PEER, length_max=2),
        "execution.call": lambda: execution.call(CALL, timeout_s=0.02),
        "execution.services": execution.services,
        "execution.policy": lambda: execution.policy("tea"),
        "execution.price": lambda: execution.price("tea"),
        "consensus.view": consensus.view,
        "consensus.submit": lambda: consensus.submit(b""),
    }


METHODS = sorted(seats(Nasty(lambda: None, lambda: _value(None))))
FAILS: dict[str, Any] = {
    "transport.addresses": (),
    "transport.request": Unreachable,
    "transport.send": Unreachable,
    "transport.post": False,
    "transport.keep": None,
    "transport.connected": frozenset(),
    "transport.disconnect": PluginFailed,
    "routing.find": Unreachable,
    "routing.learn": None,
    "routing.contacts": (),
    "routing.providers": (),
    "authorization.admit": Refused,
    "authorization.permit": Decision,
    "authorization.version": 0,
    "authorization.weight": 0,
    "authorization.prove": None,
    "authorization.proves": False,
    "execution.call": PluginFailed,
    "execution.services": {},
    "execution.policy": PluginFailed,
    "execution.price": PluginFailed,
    "consensus.view": NO_BLOCKS,
    "consensus.submit": Refused,
}
"""What the rest of the node gets: an error of ours, or a value."""


async def outcome(ask: Callable[[], Any]) -> Any:
    """What a call gives: its value, or the class of its error."""
    try:
        value = ask()
        return await value if hasattr(value, "__await__") else value
    except FluvialError as error:
        return type(error) if "secret" not in str(error) else "the secret is out"


def check(method: str, got: Any) -> None:
    if FAILS[method] is Decision:
        assert isinstance(got, Decision)
        assert not got.allowed
    else:
        assert got == FAILS[method]


@pytest.mark.parametrize("make", OUTBURSTS.values(), ids=OUTBURSTS)
@pytest.mark.parametrize("method", METHODS)
async def test_every_method_may_raise_anything(method: str, make: Callable[[], BaseException]) -> None:
    def act() -> Any:
        raise make()

    check(method, await outcome(seats(Nasty(act, raising(make)))[method]))


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_that_waits_may_hang(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for how in ("call", "answer"):
        monkeypatch.setattr(
            f"fluvial.guard.guard.Guard.{how}.__kwdefaults__", {"timeout_s": 0.02, "passes": (), "at_once": False}
        )
    for name in ("SEND_S", "CALL_S", "TRANSPORT_GRACE_S"):
        monkeypatch.setattr(f"fluvial.guard.guarded.{name}", 0.02)
    ask = seats(Nasty(lambda: None, anyio.sleep_forever))[method]
    with anyio.fail_after(5):
        got = await outcome(ask)
    if hasattr(Nasty, method.partition(".")[2]) and getattr(Nasty, method.partition(".")[2]) is Nasty._later:
        check(method, got)


@pytest.mark.parametrize("method", METHODS)
async def test_every_method_may_return_nonsense(method: str) -> None:
    nonsense = object()
    got = await outcome(seats(Nasty(lambda: nonsense, lambda: _value(nonsense)))[method])
    passed_on = {"execution.call", "execution.policy"}  # values of others, which are checked where they are used
    returns_nothing = {"transport.send", "transport.keep", "transport.disconnect", "routing.learn", "consensus.submit"}
    if method in returns_nothing:
        assert got is None or got is nonsense
    elif method not in passed_on:
        check(method, got)


DOCUMENTED: dict[str, FluvialError] = {
    "transport.request": RemoteProtocolError("as I say"),
    "transport.send": LocalProtocolError("as I say"),
    "routing.find": Unreachable("as I say"),
    "authorization.admit": Refused("as I say", reason="stranger"),
    "execution.call": ServiceError(404, "as I say"),
    "consensus.submit": Refused("as I say", reason="full"),
}


@pytest.mark.parametrize("method", DOCUMENTED)
async def test_a_documented_error_of_a_seat_comes_out_as_it_is(method: str) -> None:
    def act() -> FluvialError:
        return DOCUMENTED[method]

    with pytest.raises(type(DOCUMENTED[method]), match="as I say"):
        await seats(Nasty(lambda: None, raising(act)))[method]()


@pytest.mark.parametrize("method", METHODS)
async def test_an_error_that_a_method_does_not_document_is_a_failure_whose_text_stays_here(method: str) -> None:
    def act() -> Any:
        raise PluginError("secret of the plugin")

    later = raising(lambda: PluginError("secret of the plugin"))
    check(method, await outcome(seats(Nasty(act, later))[method]))


class AtOnce(Nasty):
    """Decides without being awaited."""

    admit = permit = Nasty._now


@pytest.mark.parametrize("method", ["authorization.admit", "authorization.permit"])
async def test_an_authorization_may_decide_at_once_and_fail_in_all_ways(method: str) -> None:
    async def asked(act: Callable[[], Any]) -> Any:
        return await outcome(seats(AtOnce(act, lambda: _value(None)))[method])

    def fail(error: BaseException) -> Any:
        raise error

    assert await asked(lambda: Decision(False, "stranger", "not here")) == Decision(False, "stranger", "not here")
    for make in OUTBURSTS.values():
        check(method, await asked(lambda make=make: fail(make())))  # type: ignore[misc]
    check(method, await asked(object))
    check(method, await asked(lambda: fail(PluginError("secret of the plugin"))))
    check(method, await asked(lambda: fail(Refused("as I say", reason="stranger"))))


WRONG: list[tuple[str, Any]] = [
    ("transport.addresses", ["/ip4/127.0.0.1/tcp/1"]),
    ("routing.find", Contact(ME.peer_id)),
    ("routing.contacts", [PEER]),
    ("routing.providers", [Provider(contact=cast(Any, None))]),
    ("routing.providers", [Provider(contact=CONTACT, weight=cast(Any, "heavy"))]),
    ("routing.providers", (one for one in [CONTACT])),
    ("authorization.admit", Decision(cast(Any, 1))),
    ("authorization.admit", Decision(False, cast(Any, None))),
    ("authorization.permit", Decision(False, "no", cast(Any, 7))),
    ("execution.services", {"tea": None}),
    ("execution.services", {1: ["brew"]}),
    ("execution.services", {"tea": ["brew", 2]}),
]


@pytest.mark.parametrize(("method", "value"), WRONG)
async def test_what_is_wrong_inside_of_a_result_is_a_failure(method: str, value: Any) -> None:
    check(method, await outcome(seats(Nasty(lambda: value, lambda: _value(value)))[method]))


async def test_a_good_generator_of_providers_is_read_once() -> None:
    found = (Provider(contact=CONTACT) for _ in range(9))
    assert len(await outcome(seats(Nasty(lambda: None, lambda: _value(found)))["routing.providers"])) == 3


async def test_a_reason_that_is_no_short_word_is_other() -> None:
    decision = Decision(False, f"because {PEER}", "x" * 10_000)
    got = await outcome(seats(Nasty(lambda: None, lambda: _value(decision)))["authorization.admit"])
    assert (got.allowed, got.reason, len(got.explanation)) == (False, "other", 500)


async def test_a_plugin_whose_calls_pile_up_is_not_called_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial.guard.guard.ENDING_S", 0.001)
    monkeypatch.setattr("fluvial.guard.guard.LEFT_BEHIND_MAX", 3)
    guard, begun, over = make_guard(), 0, False

    async def stubborn() -> None:
        nonlocal begun
        begun += 1
        while not over:
            with contextlib.suppress(BaseException):
                await anyio.sleep(0.01)

    for _ in range(6):
        with pytest.raises(PluginFailed):
            await guard.call("teapot", "tea.brew", stubborn, timeout_s=0.001)
    assert begun == 3
    assert await guard.call("kettle", "tea.boil", lambda: _value("hot")) == "hot"
    over = True
    await anyio.sleep(0.1)
    assert await guard.call("teapot", "tea.pour", lambda: _value("tea")) == "tea"
