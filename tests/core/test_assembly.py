"""Whole nodes with parts of strangers: built, started in order, stopped in the opposite order, and what is left when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from fluvial.addresses import Contact
from fluvial.defaults.no_consensus import NoConsensus
from fluvial.defaults.signatures import SignatureAuthorization
from fluvial.defaults.static_routing import StaticOptions, StaticRouting
from fluvial.effectors import Effector, NoConfig, function
from fluvial.errors import ConfigError, FluvialError, PluginError, RemoteProtocolError, Unreachable
from fluvial.findings import Finding
from fluvial.hooks import hookimpl
from fluvial.identity import PeerId
from fluvial.node import Node
from fluvial.ports import Capability, Context
from fluvial.seats import Answer, Contributions, Part, PeerWatcher, Receive
from fluvial.services.native import NativeExecution, NativeOptions
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport

from tests.support.nodes import LISTEN, id_of, until
from tests.support.worlds import World, call, node_of


@pytest.fixture
def world() -> World:
    return World()


class Extra(Part):
    """A part that says hello and goodbye to a peer, and gives one of everything."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        self.context = context
        self.heard: list[str] = []
        self.fail: BaseException | None = None
        self.woken = anyio.Event()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await self.woken.wait()
        if self.fail is not None:
            raise self.fail
        await anyio.sleep_forever()

    def contributions(self) -> Contributions:
        return Contributions(
            answers=(Answer(protocol="/extra/1", by=self.answer),),
            services=(ExtraService(self),),
            watchers=(self,),
            capabilities=lambda: [Capability("topic", "tea")],
            health=self.health,
            extensions=(self,),
        )

    async def answer(self, sender: PeerId, payload: bytes) -> bytes:
        self.heard.append(payload.decode())
        return b"yes"

    def health(self) -> Iterable[Finding]:
        return [Finding(level="ok", text=f"heard {len(self.heard)}")]

    @hookimpl
    def fluvial_peer_connected(self, node: PeerId, peer: PeerId, contact: Contact) -> None:
        assert (node, contact.peer) == (self.context.keys.peer_id, peer)
        self.heard.append("connected")


class ExtraService(Effector[NoConfig]):
    """Of the extra."""

    service_id = "extra"

    def __init__(self, part: Extra) -> None:
        super().__init__()
        self.part = part

    @function
    async def heard(self) -> int:
        """How much."""
        return len(self.part.heard)


def of(node: Node, kind: type[Any]) -> Any:
    (found,) = node.assembly.extensions.all(kind)
    return found


# --- order ------------------------------------------------------------------------------------------------------------


async def test_parts_start_in_the_order_of_need_and_stop_in_the_opposite_one(world: World, tmp_path: Path) -> None:
    world.offer("consensus", "c", world.noting(NoConsensus))
    world.offer("authorization", "a", world.noting(SignatureAuthorization))
    world.offer("transport", "t", world.noting(TcpTransport), Options)
    world.offer("routing", "r", world.noting(StaticRouting), StaticOptions)
    world.offer("execution", "e", world.noting(NativeExecution), NativeOptions)
    world.offer("extra", "x", world.noting(Extra))
    seats = {"consensus": "c", "authorization": "a", "routing": "r", "execution": "e"}
    async with node_of(world, tmp_path, transport={"kind": "t", "listen": [LISTEN]}, extras={"x": {}}, **seats):
        pass
    order = ["NoConsensus", "SignatureAuthorization", "TcpTransport", "StaticRouting", "NativeExecution", "Extra"]
    assert world.notes == [f"{name} starts" for name in order] + [f"{name} stops" for name in reversed(order)]


async def test_a_part_can_say_goodbye_while_it_stops(world: World, tmp_path: Path) -> None:
    class Polite(Extra):
        async def run(self, *, task_status: TaskStatus[None]) -> None:
            task_status.started()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    world.notes.append(
                        (await self.context.peers.request(id_of("host"), "/extra/1", b"bye", timeout_s=5)).decode()
                    )

    world.offer("extra", "extra", Extra)
    world.offer("extra", "polite", Polite)
    async with node_of(world, tmp_path, name="host", extras={"extra": {}}) as host:
        relay = str(host.addresses[0])
        async with node_of(world, tmp_path, name="guest", relays=[relay], extras={"polite": {}}) as guest:
            await until(lambda: host.peer_id in guest.transport.connected())
        assert of(host, Extra).heard[-1] == "bye"
    assert world.notes == ["yes"]


async def test_the_node_tells_everybody_what_a_part_gave(world: World, tmp_path: Path) -> None:
    world.offer("extra", "extra", Extra)
    async with (
        node_of(world, tmp_path, name="host", extras={"extra": {}}) as host,
        node_of(world, tmp_path, name="guest", relays=[str(host.addresses[0])]) as guest,
    ):
        await until(lambda: host.peer_id in guest.transport.connected())
        part = of(host, Extra)
        assert await guest.assembly.peers.request(host.peer_id, "/extra/1", b"hi", timeout_s=5) == b"yes"
        assert part.heard == ["connected", "hi"]
        assert await call(host, "extra", "heard") == ("well", 2)
        assert Capability("topic", "tea") in host.assembly.directory.own()
        assert [one.text for one in host.assembly.parts.findings()] == ["heard 2"]


# --- what fails -------------------------------------------------------------------------------------------------------


def failing(
    where: str, what: Callable[[], BaseException], base: type[Any], go: Callable[[], object] = lambda: True
) -> type[Any]:
    """A class that raises at one place of its life; while it works, as soon as ``go`` says so."""

    class Failing(base):  # type: ignore[misc]
        def __init__(self, *args: Any) -> None:
            if where == "built":
                raise what()
            super().__init__(*args)

        def contributions(self) -> Any:
            if where == "asked what it gives":
                raise what()
            return object() if where == "giving nonsense" else super().contributions()

        async def run(self, *args: Any, task_status: TaskStatus[None]) -> None:
            if where == "starting":
                raise what()
            if where == "working":
                task_status.started()
                await until(go)
                raise what()
            await super().run(*args, task_status=task_status)

    return Failing


PLACES = ("built", "asked what it gives", "giving nonsense", "starting", "working")


@pytest.mark.parametrize(
    "error", [lambda: ConfigError("no luck"), lambda: SystemExit("no luck"), lambda: KeyError("no luck")]
)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", ["authorization", "routing", "execution", "consensus", "transport"])
async def test_a_seat_that_fails_ends_the_node_in_order_with_its_error(
    kind: str, where: str, error: Callable[[], BaseException], world: World, tmp_path: Path
) -> None:
    base = {
        "authorization": SignatureAuthorization,
        "routing": StaticRouting,
        "execution": NativeExecution,
        "consensus": NoConsensus,
        "transport": TcpTransport,
    }[kind]
    options = {"routing": StaticOptions, "execution": NativeOptions, "transport": Options}.get(kind, NoConfig)
    go = lambda: "Extra starts" in world.notes  # noqa: E731
    world.offer(kind, "broken", failing(where, error, base, go), options)
    world.offer("extra", "extra", world.noting(Extra))

    async def live() -> None:
        async with node_of(world, tmp_path, extras={"extra": {}}, **{kind: "broken"}):
            await anyio.sleep_forever()

    with pytest.raises(FluvialError, match=r"no luck|contributions") as failure:
        await live()
    if not isinstance(failure.value, ConfigError):
        assert isinstance(failure.value, PluginError)
        assert f"{kind} broken" in failure.value.message
    if where == "working":
        assert world.notes == ["Extra starts", "Extra stops"]


@pytest.mark.parametrize("where", PLACES)
async def test_an_extra_that_fails_is_set_aside_alone(where: str, world: World, tmp_path: Path) -> None:
    class Quiet(Part):
        def __init__(self, context: Context, options: NoConfig) -> None:
            pass

    world.offer("extra", "broken", failing(where, lambda: KeyError("no luck"), Quiet))
    world.offer("extra", "extra", Extra)
    async with node_of(world, tmp_path, extras={"broken": {}, "extra": {}}) as node:
        await until(lambda: world.events("part_set_aside"))
        assert await call(node, "extra", "heard") == ("well", 0)
        findings = {one.subject: one.level for one in node.assembly.parts.findings()}
        assert findings == {"extra broken": "fail", "extra extra": "ok"}
    (event,) = world.events("part_set_aside")
    assert (event["part"], event["plugin"]) == ("extra broken", "broken-plugin")


async def test_nothing_is_left_of_what_an_extra_gave_when_it_fails(world: World, tmp_path: Path) -> None:
    world.offer("extra", "extra", Extra)
    async with (
        node_of(world, tmp_path, name="host", extras={"extra": {}}) as host,
        node_of(world, tmp_path, name="guest", relays=[str(host.addresses[0])]) as guest,
    ):
        part = of(host, Extra)
        part.fail = ConfigError("enough")
        part.woken.set()
        await until(lambda: "extra" not in host.services.functions())
        status, message = await call(host, "extra", "heard")
        assert status == "badly"
        assert "no service 'extra'" in str(message)
        with pytest.raises(RemoteProtocolError, match="does not speak"):
            await guest.assembly.peers.request(
                Contact(host.peer_id, tuple(host.addresses)), "/extra/1", b"", timeout_s=5
            )
        assert host.assembly.extensions.all(Extra) == []
        assert host.assembly.directory.own() == frozenset()


async def test_a_service_of_an_extra_that_does_not_start_costs_the_extra(world: World, tmp_path: Path) -> None:
    class BrokenService(ExtraService):
        async def start(self) -> None:
            raise OSError("no device")

    class Giver(Extra):
        def contributions(self) -> Contributions:
            return Contributions(
                services=(BrokenService(self),), answers=(Answer(protocol="/extra/1", by=self.answer),)
            )

    world.offer("extra", "giver", Giver)
    async with node_of(world, tmp_path, extras={"giver": {}}) as node:
        (event,) = world.events("part_set_aside")
        assert "no device" in event["error"]
        assert "/extra/1" not in node.switchboard.protocols()


NONSENSE: dict[str, Callable[[Any], Any]] = {
    "answers": lambda part: Contributions(answers=None),  # type: ignore[arg-type]
    "an answer": lambda part: Contributions(answers=[part.answer]),
    "a limit": lambda part: Contributions(answers=[Answer(protocol="/x/1", by=part.answer, bytes_max="8")]),  # type: ignore[arg-type]
    "a name": lambda part: Contributions(answers=[Answer(protocol="", by=part.answer)]),
    "twice": lambda part: Contributions(answers=[Answer(protocol="/x/1", by=part.answer)] * 2),
    "a class": lambda part: Contributions(services=[ExtraService]),  # type: ignore[list-item]
    "no service": lambda part: Contributions(services=[part]),
    "capabilities": lambda part: Contributions(capabilities=[Capability("a", "b")]),  # type: ignore[arg-type]
    "health": lambda part: Contributions(health=[]),  # type: ignore[arg-type]
    "a watcher": lambda part: Contributions(watchers=[object()]),
}


@pytest.mark.parametrize("what", NONSENSE)
async def test_an_extra_that_gives_nonsense_is_set_aside_alone(what: str, world: World, tmp_path: Path) -> None:
    class Giver(Extra):
        def contributions(self) -> Any:
            return NONSENSE[what](self)

    world.offer("extra", "giver", Giver)
    async with node_of(world, tmp_path, extras={"giver": {}}) as node:
        assert [one.subject for one in node.assembly.parts.findings()] == ["extra giver"]
    (event,) = world.events("part_set_aside")
    assert event["plugin"] == "giver-plugin"


@pytest.mark.parametrize("when", ["starting", "a service starts", "a service stops"])
async def test_no_service_of_an_extra_that_was_set_aside_answers(when: str, world: World, tmp_path: Path) -> None:
    stopped: list[str] = []

    class Named(ExtraService):
        async def start(self) -> None:
            if when == "a service starts":
                raise OSError("no device")

        async def stop(self) -> None:
            stopped.append(self.service_id)
            if when == "a service stops":
                raise OSError("still no device")

    class First(Named):
        service_id = "first"

    class Second(Named):
        service_id = "second"

    class Giver(Extra):
        def contributions(self) -> Contributions:
            return Contributions(services=(First(self), Second(self)), extensions=(self,))

        async def run(self, *, task_status: TaskStatus[None]) -> None:
            if when == "starting":
                raise ConfigError("no luck")
            await super().run(task_status=task_status)

    world.offer("extra", "giver", Giver)
    async with node_of(world, tmp_path, extras={"giver": {}}) as node:
        if when == "a service stops":
            part = of(node, Giver)
            part.fail = ConfigError("enough")
            part.woken.set()
            await until(lambda: len(stopped) == 2)
        await until(lambda: not {"first", "second"} & node.services.functions().keys())
        assert len(world.events("part_set_aside")) == 1


async def test_an_extra_that_is_set_aside_while_the_node_stops_leaves_before_it_is_gone(
    world: World, tmp_path: Path
) -> None:
    class Slow(ExtraService):
        async def stop(self) -> None:
            await anyio.sleep(0.2)
            world.notes.append("stopped")

    class Giver(Extra):
        def contributions(self) -> Contributions:
            return Contributions(services=(Slow(self),), extensions=(self,))

    world.offer("extra", "giver", Giver)
    async with node_of(world, tmp_path, extras={"giver": {}}) as node:
        part = of(node, Giver)
        part.fail = ConfigError("enough")
        part.woken.set()
        await until(lambda: world.events("part_set_aside"))
    assert world.notes == ["stopped"]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            lambda part: Contributions(answers=(Answer(protocol="/extra/1", by=part.answer),)),
            "'/extra/1' is answered by extra one and by extra two",
        ),
        (
            lambda part: Contributions(services=(ExtraService(part),)),
            "the service 'extra' is given by extra one and by extra two",
        ),
    ],
)
async def test_two_parts_that_give_the_same_are_refused_by_name(
    given: Callable[[Any], Contributions], complaint: str, world: World, tmp_path: Path
) -> None:
    class Giver(Extra):
        def contributions(self) -> Contributions:
            return given(self)

    world.offer("extra", "one", Giver)
    world.offer("extra", "two", Giver)

    async def live() -> None:
        async with node_of(world, tmp_path, extras={"one": {}, "two": {}}):
            pass

    with pytest.raises(PluginError, match=complaint):
        await live()


# --- consensus, and who is asked ---------------------------------------------------------------------------------------


async def test_an_engine_in_the_seat_of_consensus_needs_a_ledger(world: World, tmp_path: Path) -> None:
    def make(membership: Any, options: Any) -> Any:
        raise AssertionError("nobody builds an engine")

    world.offer("engine", "raft", make)

    async def live() -> None:
        async with node_of(world, tmp_path, consensus="raft"):
            pass

    with pytest.raises(ConfigError, match=r"consensus .raft. needs a ledger: `genesis`"):
        await live()


async def test_the_routing_cannot_ask_itself(world: World, tmp_path: Path) -> None:
    class Curious(StaticRouting):
        def __init__(self, context: Context, options: StaticOptions) -> None:
            super().__init__(context, options)
            self.peers = context.peers

        async def find(self, peer: PeerId) -> Contact | None:
            await self.peers.request(peer, "/who/1", b"", timeout_s=1)
            return None

        def contributions(self) -> Contributions:
            return Contributions(extensions=(self,))

    world.offer("routing", "curious", Curious, StaticOptions)
    async with node_of(world, tmp_path, routing="curious") as node:
        with pytest.raises(Unreachable, match=r"routing\.find failed"):
            await node.routing.find(id_of("nobody"))
    (event,) = world.events("plugin_call_failed")
    assert event["plugin"] == "curious-plugin"
    assert "the routing asks contacts" in event["exception"]


def types_fit(transport: TcpTransport, watcher: PeerWatcher, receive: Receive) -> Sequence[object]:
    """For the type checker."""
    return transport, watcher, receive
