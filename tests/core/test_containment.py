"""Effectors and native services that do their worst in a running node: it costs their call, and the node answers others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from fluvial.addresses import Contact
from fluvial.effectors import Effector, EffectorError, NoConfig, function
from fluvial.node import Node
from fluvial.services.builtin import PING_PROTOCOL

from tests.support.nodes import WAIT_S, until
from tests.support.worlds import World, call, node_of

pytestmark = pytest.mark.usefixtures("plain_logs")

OUTBURSTS: dict[str, Callable[[], BaseException]] = {
    "raise": lambda: KeyError("secret"),
    "exit": lambda: SystemExit(3),
    "interrupt": KeyboardInterrupt,
    "cancel": asyncio.CancelledError,
    "close": GeneratorExit,
    "stop": StopIteration,
    "group": lambda: BaseExceptionGroup("many", [KeyError("secret"), SystemExit(3)]),
    "swapped": lambda: EffectorError("no such city", 404),  # type: ignore[arg-type]
    "no text": lambda: EffectorError(404, None),  # type: ignore[arg-type]
}


class Explodes(msgspec.Struct):
    """An argument whose check exits."""

    value: int = 0

    def __post_init__(self) -> None:
        raise SystemExit(4)


class BadMapping(Mapping[str, int]):
    """A result that exits when it is read."""

    def __getitem__(self, key: str) -> int:
        raise SystemExit(5)

    def __iter__(self) -> Iterator[str]:
        raise SystemExit(5)

    def __len__(self) -> int:
        return 1


class Nasty(Effector[NoConfig]):
    """Does what it is made for, in every way in which functions are called."""

    service_id = "nasty"
    make: Callable[[], BaseException] = KeyError

    @function
    async def later(self) -> int:
        """On the event loop."""
        await anyio.lowlevel.checkpoint()
        raise self.make()

    @function
    def thread(self) -> int:
        """In a thread."""
        raise self.make()

    @function(inline=True)
    def now(self) -> int:
        """At once."""
        raise self.make()

    @function
    async def mapping(self) -> Any:
        """Returns what cannot be read."""
        return BadMapping()

    @function
    async def argument(self, value: Explodes | None = None) -> int:
        """Takes what cannot be made."""
        return 0


class Endless(Effector[NoConfig]):
    """Does not answer in time."""

    service_id = "nasty"
    timeout_s = 0.3
    broken = 0

    @function
    async def hang(self) -> int:
        """Ends when it is cancelled."""
        await anyio.sleep_forever()
        return 0

    @function
    async def stubborn(self) -> int:
        """Ignores its cancellation, until it is broken off."""
        try:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        finally:
            type(self).broken += 1
        return 0


@asynccontextmanager
async def attentive(world: World, folder: Path, kind: str, nasty: type[Effector[NoConfig]]) -> AsyncIterator[Node]:
    """A node with the service; at the end another peer finds that the node still answers."""
    if kind == "effector":
        world.plugins.registry.offering("nasty-plugin", "fluvial-nasty 1.0")
        world.plugins.registry.effector("nasty", nasty)
    sections = {"effectors": {"nasty": {}}} if kind == "effector" else {}
    async with (
        node_of(world, folder, name="host", **sections) as host,
        node_of(World(), folder, name="guest", relays=[str(host.addresses[0])]) as guest,
    ):
        if kind == "native":
            await host.serve(nasty())
        yield host
        contact = Contact(host.peer_id, tuple(host.addresses))
        await guest.transport.request(contact, PING_PROTOCOL, b"", timeout_s=WAIT_S)


def plugin_of(kind: str, nasty: type[Effector[NoConfig]]) -> str:
    return "nasty-plugin" if kind == "effector" else f"{nasty.__module__}:{nasty.__qualname__}"


@pytest.mark.parametrize("kind", ["effector", "native"])
@pytest.mark.parametrize("outburst", OUTBURSTS)
async def test_what_comes_out_of_a_service_costs_its_call(outburst: str, kind: str, tmp_path: Path) -> None:
    nasty = type("Nasty", (Nasty,), {"make": staticmethod(OUTBURSTS[outburst]), "__module__": __name__})
    world = World()
    async with attentive(world, tmp_path, kind, nasty) as host:
        for name in ("later", "thread", "now"):
            how, message = await call(host, "nasty", name)
            assert how == "badly"
            assert f"nasty.{name} failed" in str(message)
            assert "secret" not in str(message)
        failures = {"plugin": plugin_of(kind, nasty), "cause": "error"}
        if outburst not in ("swapped", "no text"):  # which say at least whose fault they are
            assert host.metrics.get_sample_value("fluvial_plugin_failures_total", failures) == 3
            assert {event["plugin"] for event in world.events("plugin_call_failed")} == {failures["plugin"]}
        assert world.events("particle_broken") == []


@pytest.mark.parametrize("kind", ["effector", "native"])
async def test_a_service_that_hangs_costs_its_call(kind: str, tmp_path: Path) -> None:
    world = World()
    endless = type("Endless", (Endless,), {"__module__": __name__})
    async with attentive(world, tmp_path, kind, endless) as host:
        for name in ("hang", "stubborn"):
            how, message = await call(host, "nasty", name)
            assert how == "badly"
            assert f"nasty.{name} took longer than 0.3 s" in str(message)
        late = {"plugin": plugin_of(kind, endless), "cause": "timeout"}
        assert host.metrics.get_sample_value("fluvial_plugin_failures_total", late) == 2
        await until(lambda: endless.broken == 1)


@pytest.mark.parametrize("kind", ["effector", "native"])
async def test_code_that_runs_around_a_function_is_the_services_too(kind: str, tmp_path: Path) -> None:
    world = World()
    async with attentive(world, tmp_path, kind, Nasty) as host:
        assert (await call(host, "nasty", "mapping"))[0] == "badly"
        how, message = await call(host, "nasty", "argument", {"value": 1})
        assert how == "badly"
        assert "nasty.argument failed" in str(message)
        assert world.events("particle_broken") == []
