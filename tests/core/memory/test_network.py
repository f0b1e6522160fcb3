"""The network in memory does what a test says: delays, losses, partitions, cuts, limits; all of it from one seed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
from fluvial.addresses import Address, Contact
from fluvial.errors import ConfigError, LocalProtocolError, RemoteProtocolError, Unreachable
from fluvial.identity import PeerId
from fluvial.memory.network import LinkQuality, Memory, Transfer
from fluvial.memory.options import MemoryOptions
from fluvial.memory.transport import MemoryTransport
from fluvial.seats import Receive
from fluvial.testing.nodes import keys_of
from fluvial.testing.solo import Surrounding
from fluvial.virtual.loop import BACKEND, run

FAST = LinkQuality(latency_s=0.1)


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


@dataclass
class Ear:
    """What would be the node."""

    transport: MemoryTransport
    answer: Receive | None = None
    heard: list[bytes] = field(default_factory=list)
    gone: list[PeerId] = field(default_factory=list)
    proven: list[tuple[PeerId, Address]] = field(default_factory=list)

    @property
    def contact(self) -> Contact:
        return Contact(self.transport.peer, tuple(self.transport.addresses))

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        self.heard.append(payload)
        return payload if self.answer is None else await self.answer(sender, protocol, payload)

    async def ask(self, other: Ear, payload: bytes = b"?", timeout_s: float = 1000) -> bytes:
        return await self.transport.request(other.contact, "test", payload, timeout_s=timeout_s)

    def peer_connected(self, contact: Contact) -> None:
        pass

    def address_proven(self, peer: PeerId, address: Address) -> None:
        self.proven.append((peer, address))

    def peer_disconnected(self, peer: PeerId) -> None:
        self.gone.append(peer)


Start = Callable[..., Awaitable[Ear]]


@asynccontextmanager
async def starting(network: Memory) -> AsyncIterator[Start]:
    async with anyio.create_task_group() as group:

        async def start(name: str, answer: Receive | None = None, **options: object) -> Ear:
            around = Surrounding(kind="transport", keys=keys_of(name), network=network)
            transport = MemoryTransport(network, around.context, MemoryOptions(**options))  # type: ignore[arg-type]
            ear = Ear(transport, answer)

            async def live(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                await transport.run(ear.receive, ear, task_status=task_status)

            await group.start(live)
            return ear

        yield start
        group.cancel_scope.cancel()


@pytest.fixture
def network() -> Memory:
    return Memory(seed=3, quality=FAST)


@pytest.fixture
async def start(network: Memory) -> AsyncIterator[Start]:
    async with starting(network) as start:
        yield start


async def test_messages_take_their_time(network: Memory, start: Start) -> None:
    one, other = await start("one"), await start("other")
    await one.ask(other)
    network.set_quality(LinkQuality(latency_s=7), source=one.transport.peer)
    network.set_quality(LinkQuality(latency_s=5), target=one.transport.peer)
    network.set_quality(LinkQuality(latency_s=3), source=other.transport.peer, target=one.transport.peer)
    before = anyio.current_time()
    await one.ask(other)
    assert anyio.current_time() - before == pytest.approx(10)


async def test_jitter_does_not_change_the_order(network: Memory, start: Start) -> None:
    one, other = await start("one"), await start("other")
    network.set_quality(LinkQuality(jitter_s=5))
    for number in range(50):
        await one.transport.send(other.contact, "test", b"%d" % number)
    await anyio.sleep(10)
    assert other.heard == [b"%d" % number for number in range(50)]


async def test_lost_messages_are_lost_alone(network: Memory, start: Start) -> None:
    one, other = await start("one"), await start("other")
    network.set_quality(LinkQuality(loss=0.5), target=other.transport.peer)
    for number in range(200):
        await one.transport.send(other.contact, "test", b"%d" % number)
    await anyio.sleep(1)
    assert 50 < len(other.heard) < 150
    assert one.transport.connected() == {other.transport.peer}


async def test_a_lost_request_or_answer_ends_with_its_time_and_gives_its_room_back(
    network: Memory, start: Start
) -> None:
    one, other = await start("one"), await start("other", frame_bytes_max=65_536, window_bytes=131_072)
    for lost in ({"target": other.transport.peer}, {"source": other.transport.peer}):
        network.set_quality(LinkQuality(loss=1), **lost)
        for _ in range(5):  # more than the window holds at one time
            with pytest.raises(Unreachable, match="within 3 s"):
                await one.ask(other, bytes(60_000), timeout_s=3)
        network.set_quality(FAST, **lost)
    assert await one.ask(other, b"and now?") == b"and now?"


async def test_a_short_partition_delays_and_a_long_one_ends_connections(network: Memory, start: Start) -> None:
    one, other, third = await start("one"), await start("other"), await start("third")
    await one.ask(other)
    await third.ask(other)
    network.partition([one.transport.peer])
    async with anyio.create_task_group() as group:
        group.start_soon(one.ask, other, b"held back")
        await anyio.sleep(30)
        assert b"held back" not in other.heard
        assert await third.ask(other, b"same side") == b"same side"
        with pytest.raises(Unreachable, match="within 10 s"):
            await third.ask(one)
        network.heal()
    assert b"held back" in other.heard
    network.partition([one.transport.peer, third.transport.peer], [other.transport.peer])
    await anyio.sleep(60)
    assert (one.gone, other.transport.connected()) == ([other.transport.peer], frozenset())
    network.heal()
    assert await one.ask(other, b"again") == b"again"


async def test_a_cut_ends_connections_at_once(network: Memory, start: Start) -> None:
    one, other = await start("one"), await start("other", lambda *_: _later(b"", 10))
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(Unreachable, match="lost"):
                await one.ask(other)

        group.start_soon(ask)
        await anyio.sleep(1)
        network.cut(one.transport.peer, other.transport.peer)
        await anyio.lowlevel.checkpoint()
        assert one.transport.connected() == other.transport.connected() == frozenset()


async def test_who_does_not_handle_messages_holds_their_senders(network: Memory, start: Start) -> None:
    opened = anyio.Event()

    async def slowly(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        await opened.wait()
        return b""

    one = await start("one")
    other = await start("other", slowly, frame_bytes_max=65_536, window_bytes=200_000)
    await one.transport.send(other.contact, "test", bytes(60_000))
    await one.transport.send(other.contact, "test", bytes(60_000))
    with pytest.raises(Unreachable, match="could not be sent within 30 s"):
        await one.transport.send(other.contact, "test", bytes(60_000))
    opened.set()
    await one.transport.send(other.contact, "test", bytes(60_000))


async def test_the_smaller_limit_of_both_sides_holds(start: Start) -> None:
    one, other = await start("one"), await start("other", frame_bytes_max=65_536)
    with pytest.raises(LocalProtocolError, match="65536"):
        await one.ask(other, bytes(70_000))
    large = await start("large", lambda *_: _later(bytes(70_000)))
    with pytest.raises(RemoteProtocolError, match="F501"):
        await other.ask(large)


async def _later(value: bytes, after_s: float = 0) -> bytes:
    await anyio.sleep(after_s)
    return value


async def test_handling_takes_no_longer_than_it_may(start: Start) -> None:
    one, other = await start("one"), await start("other", lambda *_: _later(b"", 3600), handling_timeout_s=5)
    with pytest.raises(RemoteProtocolError, match="not done within 5 s"):
        await one.ask(other)


async def test_places_are_limited(start: Start) -> None:
    hub = await start("hub", connections_max=1)
    one, other = await start("one"), await start("other")
    await one.ask(hub)
    with pytest.raises(Unreachable, match="has all 1 connections"):
        await other.ask(hub)


async def test_goodbyes_arrive(network: Memory, start: Start) -> None:
    """What was sent before a connection was closed."""
    one, other = await start("one"), await start("other")
    for number in range(3):
        await one.transport.send(other.contact, "test", b"%d" % number)
    await one.transport.disconnect(other.transport.peer)
    await anyio.sleep(1)
    assert other.heard == [b"0", b"1", b"2"]
    assert other.gone == [one.transport.peer]


async def test_ports_are_taken_once(start: Start) -> None:
    one = await start("one", port=7)
    assert one.contact.addresses[0].port == 7
    with pytest.raises((ConfigError, BaseExceptionGroup)):
        await start("other", port=7)


def test_the_seed_decides_and_links_do_not_disturb_each_other() -> None:
    async def times(seed: int, others: int = 0) -> list[float]:
        network = Memory(seed, quality=LinkQuality(jitter_s=1))
        seen: list[Transfer] = []
        network.watch(seen.append)
        async with starting(network) as start:
            one, other, third = await start("one"), await start("other"), await start("third")
            for _ in range(others):
                await third.ask(other)
            for _ in range(10):
                await one.ask(other)
        own = [transfer.at_s for transfer in seen if transfer.source == one.transport.peer]
        return [round(later - earlier, 6) for earlier, later in itertools.pairwise(own)]

    assert run(times, 1) == run(times, 1) == run(times, 1, 5)
    assert run(times, 1) != run(times, 2)


@pytest.mark.parametrize("bad", [{"latency_s": -1}, {"jitter_s": -1}, {"loss": 2}, {"loss": -0.1}])
def test_impossible_qualities_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        LinkQuality(**bad)
