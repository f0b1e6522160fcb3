"""The conformance kit for transports: subclass it, say how yours is built, run pytest.

::

    class TestTcp(TransportConformance):
        too_large_bytes = 9_000_000

        @pytest.fixture
        def build(self):
            def build(context, *, listens):
                return TcpTransport(context, Options(listen=("/ip4/127.0.0.1/tcp/0",) if listens else ()))
            return build

It needs nothing but pytest and anyio's pytest plugin, and uses real transports: two or three peers that talk to each other. How a
transport authenticates only its author can attack; the kit checks what every node relies on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final, Protocol

import anyio
import pytest
from anyio.abc import TaskGroup

from fluvial.addresses import Address, Contact
from fluvial.errors import LocalProtocolError, Refused, RemoteProtocolError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.ports import Context
from fluvial.seats import Receive, Transport
from fluvial.testing.solo import Surrounding

WAIT_S: Final = 10.0
"""Nothing in the kit should take longer, even on a slow machine; in seconds."""
ECHO: Final = "conformance/echo"


class BuildTransport(Protocol):
    """What the fixture ``build`` returns."""

    def __call__(self, context: Context, *, listens: bool) -> Transport:
        """A transport that is not running yet; one that ``listens`` can be dialled on this machine."""
        ...


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the node of a peer got it."""

    sender: PeerId
    protocol: str
    payload: bytes


class TransportPeer:
    """A transport with a minimal node around it, which answers messages and remembers what the transport reported."""

    def __init__(self, transport: Transport, peer_id: PeerId, receive: Receive | None) -> None:
        self.transport: Final = transport
        self.id: Final = peer_id
        self.received: Final[list[Received]] = []
        self.connections: Final[list[Contact]] = []
        self.disconnections: Final[list[PeerId]] = []
        self.proven: Final[list[tuple[PeerId, Address]]] = []
        self.scope: Final = anyio.CancelScope()
        self.stopped: Final = anyio.Event()
        self._receive = receive or _echo

    @property
    def contact(self) -> Contact:
        """How others reach it, as their owners would write it into their settings."""
        return Contact(self.id, tuple(replace(address, configured=True) for address in self.transport.addresses))

    async def request(self, to: TransportPeer | Contact, payload: bytes, protocol: str = ECHO) -> bytes:
        """A request with the kit's deadline."""
        contact = to.contact if isinstance(to, TransportPeer) else to
        return await self.transport.request(contact, protocol, payload, timeout_s=WAIT_S)

    async def stop(self) -> None:
        """Cancel it and wait until it is gone."""
        self.scope.cancel()
        await self.stopped.wait()

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """Called by the transport."""
        self.proven.append((peer, address))

    def peer_connected(self, contact: Contact) -> None:
        """Called by the transport."""
        self.connections.append(contact)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Called by the transport."""
        self.disconnections.append(peer)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run the transport until :meth:`stop`."""
        try:
            with self.scope:
                await self.transport.run(self._take, self, task_status=task_status)
        finally:
            self.stopped.set()

    async def _take(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        self.received.append(Received(sender, protocol, payload))
        return await self._receive(sender, protocol, payload)


class PeerFactory:
    """Starts peers for a test; all are stopped with it."""

    def __init__(self, build: BuildTransport, group: TaskGroup, base_dir: Path) -> None:
        self._build = build
        self._group = group
        self._base_dir = base_dir

    async def __call__(
        self,
        *,
        listens: bool = True,
        receive: Receive | None = None,
        keys: KeyPair | None = None,
        network: str = "conformance",
    ) -> TransportPeer:
        """A running peer; it echoes what it is sent, unless ``receive`` says otherwise."""
        keys = keys or KeyPair.generate()
        around = Surrounding(kind="transport", keys=keys, network_name=network, base_dir=self._base_dir)
        peer = TransportPeer(self._build(around.context, listens=listens), keys.peer_id, receive)
        around.doors.open = True
        with anyio.fail_after(WAIT_S):
            await self._group.start(peer.run)
        return peer


@asynccontextmanager
async def peers_of(build: BuildTransport, base_dir: Path) -> AsyncIterator[PeerFactory]:
    """A factory of running peers; they are stopped at the end."""
    async with anyio.create_task_group() as group:
        yield PeerFactory(build, group, base_dir)
        group.cancel_scope.cancel()


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds, or fail the test saying what did not happen."""
    with anyio.move_on_after(WAIT_S):
        while not condition():  # noqa: ASYNC110 - whoever makes it true knows of no event
            await anyio.sleep(0.005)
        return
    pytest.fail(f"this did not happen within {WAIT_S:g} s: {what}")


@pytest.mark.anyio
class TransportConformance:
    """What every transport must do. The one fixture to give is ``build``."""

    too_large_bytes: ClassVar[int | None] = None
    """A payload that the transport as built refuses to send; None if it sends any."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Fluvial runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def build(self) -> BuildTransport:
        """How the transport under test is built."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `build`")

    @pytest.fixture
    async def start(self, build: BuildTransport, tmp_path: Path) -> AsyncIterator[PeerFactory]:
        """Starts peers."""
        async with peers_of(build, tmp_path) as factory:
            yield factory

    async def test_its_addresses_can_be_dialled(self, start: PeerFactory) -> None:
        """They have real ports and say who is there; a client has none."""
        server, client = await start(), await start(listens=False)
        assert server.transport.addresses
        assert not client.transport.addresses
        for address in server.transport.addresses:
            assert address.port, f"{address} has no port"
            assert address.peer == server.id, f"{address} does not end in /p2p/{server.id}"
            way = Contact(server.id, (replace(address, configured=True),))
            assert await client.request(way, b"here?") == b"here?"

    @pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)), b"large" * 40_000], ids=len)
    async def test_requests_are_answered(self, start: PeerFactory, payload: bytes) -> None:
        """Payloads arrive as they were sent, with the proven sender and the protocol."""
        one, other = await start(), await start()
        assert await one.request(other, payload) == payload
        assert other.received == [Received(one.id, ECHO, payload)]

    async def test_errors_are_answers(self, start: PeerFactory) -> None:
        """What the other node raises reaches the sender with code and text, and the connection goes on."""
        one, other = await start(), await start(receive=_refuse)
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match=r"F401.*not today"):
                await one.request(other, b"please")
        assert one.transport.connected() == {other.id}

    async def test_one_way_messages_arrive_once_each(self, start: PeerFactory) -> None:
        """Also those that the other node refuses, and without an answer."""
        one, other = await start(), await start(receive=_refuse)
        for number in range(50):
            await one.transport.send(other.contact, "conformance/news", b"%d" % number)
        await eventually(lambda: len(other.received) >= 50, "50 messages arrive")
        assert sorted(int(message.payload) for message in other.received) == list(range(50))
        assert {message.protocol for message in other.received} == {"conformance/news"}

    async def test_what_is_posted_arrives_once_or_was_not_sent(self, start: PeerFactory) -> None:
        """Without a connection nothing is sent; over one, as many messages arrive as were taken, in order."""
        one, other = await start(), await start()
        assert not one.transport.post(other.id, "conformance/news", b"lost")
        await one.request(other, b"first")
        taken = [
            b"%d" % number for number in range(50) if one.transport.post(other.id, "conformance/news", b"%d" % number)
        ]
        await eventually(lambda: len(other.received) > len(taken), "all that were taken arrive")
        assert [message.payload for message in other.received[1:]] == taken

    async def test_what_is_asked_at_once_is_answered_once_or_was_not_sent(self, start: PeerFactory) -> None:
        """Without a connection nothing is sent; over one, each question that was taken is told its own answer, or an error of the other side."""
        one, other = await start(), await start()
        told: dict[int, list[object]] = {number: [] for number in range(50)}
        assert one.transport.ask(other.id, ECHO, b"lost", told[0].append, timeout_s=WAIT_S) is None
        await one.request(other, b"first")
        taken = [
            number
            for number in told
            if one.transport.ask(other.id, ECHO, b"%d" % number, told[number].append, timeout_s=WAIT_S) is not None
        ]
        await eventually(lambda: all(told[number] for number in taken), "all that were taken are answered")
        assert await one.request(other, b"last") == b"last"
        assert told == {number: [b"%d" % number] if number in taken else [] for number in told}

    async def test_many_requests_at_once_get_their_own_answers(self, start: PeerFactory) -> None:
        """In both directions over what is one connection."""
        one, other = await start(), await start()
        await one.request(other, b"first")

        async def ask(sender: TransportPeer, receiver: TransportPeer, number: int) -> None:
            payload = b"%d" % number * (1 + number % 50)
            assert await sender.request(receiver, payload) == payload

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(ask, one, other, number)
                group.start_soon(ask, other, one, number)
        assert (len(one.connections), len(other.connections)) == (1, 1)

    async def test_a_slow_request_does_not_hold_others(self, start: PeerFactory) -> None:
        """Answers come in the order in which they are ready."""
        release = anyio.Event()

        async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
            if payload == b"slow":
                await release.wait()
            return payload

        one, other = await start(), await start(receive=receive)
        async with anyio.create_task_group() as group:
            group.start_soon(one.request, other, b"slow")
            await eventually(lambda: len(other.received) == 1, "the slow request arrives")
            assert await one.request(other, b"fast") == b"fast"
            release.set()

    async def test_a_request_without_answer_ends_in_time(self, start: PeerFactory) -> None:
        """With Unreachable, and the connection goes on."""

        async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
            if payload == b"never":
                await anyio.sleep(WAIT_S)
            return payload

        one, other = await start(), await start(receive=receive)
        with anyio.fail_after(WAIT_S / 2), pytest.raises(Unreachable):
            await one.transport.request(other.contact, ECHO, b"never", timeout_s=0.2)
        assert await one.request(other, b"again") == b"again"

    async def test_requests_can_be_given_up(self, start: PeerFactory) -> None:
        """Cancelled in the middle, again and again; nothing that they took is lost, and the connection goes on."""
        release = anyio.Event()

        async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
            if payload.startswith(b"slow"):
                await release.wait()
            return payload

        one, other = await start(), await start(receive=receive)
        for number in range(20):
            with anyio.move_on_after(0.01):
                await one.request(other, b"slow" + bytes(10_000 * number))
            assert await one.request(other, b"fast") == b"fast"
        release.set()
        assert await one.request(other, b"slow" + bytes(60_000)) == b"slow" + bytes(60_000)
        assert (len(one.connections), one.disconnections) == (1, [])

    async def test_too_large_payloads_are_not_sent(self, start: PeerFactory) -> None:
        """They are refused before a connection is even needed, and nothing breaks."""
        if self.too_large_bytes is None:
            pytest.skip("not offered: a limit on the size of payloads")
        one, other = await start(), await start()
        for send in (one.request, lambda to, payload: one.transport.send(to.contact, ECHO, payload)):
            with pytest.raises(LocalProtocolError):
                await send(other, bytes(self.too_large_bytes))
        assert await one.request(other, b"small") == b"small"
        assert len(other.received) == 1

    async def test_who_cannot_be_reached_is_unreachable(self, start: PeerFactory) -> None:
        """No address known; nobody listening any more; somebody else there."""
        one, other, gone = await start(), await start(), await start()
        absent = gone.contact
        await gone.stop()
        somebody = KeyPair.generate().peer_id
        imposter = Contact(somebody, tuple(address.with_peer(somebody) for address in other.transport.addresses))
        for contact in (Contact(somebody), absent, imposter):
            with pytest.raises(Unreachable):
                await one.request(contact, b"hello")
            with pytest.raises(Unreachable):
                await one.transport.send(contact, ECHO, b"hello")
        assert other.received == []
        assert one.transport.connected() == frozenset()

    async def test_a_client_is_reached_through_its_own_connection(self, start: PeerFactory) -> None:
        """Without any address."""
        relay, client = await start(), await start(listens=False)
        client.transport.keep(relay.contact)
        await eventually(lambda: client.id in relay.transport.connected(), "the client connects")
        assert await relay.request(Contact(client.id), b"are you there?") == b"are you there?"
        await client.stop()
        await eventually(lambda: client.id not in relay.transport.connected(), "the client is gone")
        with pytest.raises(Unreachable):
            await relay.request(Contact(client.id), b"are you there?")

    async def test_watchers_are_told(self, start: PeerFactory) -> None:
        """Once per peer that comes or goes, with the addresses that it announced."""
        one, other = await start(), await start()
        await one.request(other, b"hello")
        await eventually(lambda: bool(one.connections and other.connections), "both are told of the connection")
        assert other.connections == [one.contact]
        assert one.connections == [other.contact]
        await one.stop()
        await eventually(lambda: bool(other.disconnections), "the other is told of the end")
        assert (one.disconnections, other.disconnections) == ([other.id], [one.id])
        assert other.transport.connected() == frozenset()

    async def test_an_address_is_proven_where_the_peer_answers(self, start: PeerFactory) -> None:
        """By a dial that succeeded, or when it is asked for; not by a connection that the other side made, and never for somebody else."""
        one, other = await start(), await start()
        await one.request(other, b"hello")
        (address,) = (one_way.with_peer(other.id) for one_way in other.contact.addresses)
        await eventually(lambda: bool(one.proven), "the dial has proven the address")
        assert set(one.proven) == {(other.id, address)}
        assert other.proven == []
        assert list(await other.transport.prove(one.contact, timeout_s=WAIT_S)) == list(one.contact.addresses)
        assert [peer for peer, _ in other.proven] == [one.id]
        somebody = KeyPair.generate().peer_id
        imposter = Contact(somebody, tuple(way.with_peer(somebody) for way in other.contact.addresses))
        assert list(await one.transport.prove(imposter, timeout_s=WAIT_S)) == []
        assert {peer for peer, _ in one.proven} == {other.id}
        assert await one.request(other, b"still there?") == b"still there?"

    async def test_peers_that_dial_each_other_at_once_lose_nothing(self, start: PeerFactory) -> None:
        """Both requests are answered once; one connection is used in the end."""
        for _ in range(5):
            one, other = await start(), await start()
            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(one.request, other, b"%d" % number)
                    group.start_soon(other.request, one, b"%d" % number)
            for peer in (one, other):
                assert sorted(message.payload for message in peer.received) == [b"%d" % n for n in range(10)]
            await one.request(other, b"after")
            assert one.transport.connected() == {other.id}
            assert other.transport.connected() == {one.id}

    async def test_a_kept_peer_is_dialled_again(self, start: PeerFactory) -> None:
        """After the other side has closed the connection, until it is disconnected."""
        one, other = await start(listens=False), await start()
        one.transport.keep(other.contact)
        await eventually(lambda: len(other.connections) == 1, "a first connection")
        await other.transport.disconnect(one.id)
        await eventually(lambda: len(other.connections) == 2, "a second connection")
        await eventually(lambda: one.transport.connected() == {other.id}, "it stands on both sides")
        await one.transport.disconnect(other.id)
        assert one.transport.connected() == frozenset()
        await eventually(lambda: len(other.disconnections) == 2, "the other side sees the end")

    async def test_networks_are_apart(self, start: PeerFactory) -> None:
        """A peer of another network is not reached, whoever it is."""
        one, other = await start(network="here"), await start(network="there")
        with pytest.raises(Unreachable):
            await one.request(other, b"hello")
        assert other.received == []
        assert other.connections == one.connections == []

    async def test_it_can_be_stopped_in_the_middle(self, start: PeerFactory) -> None:
        """Whoever waits for an answer gets an error soon, and nothing hangs."""

        async def never(sender: PeerId, protocol: str, payload: bytes) -> bytes:
            await anyio.sleep(WAIT_S)
            return b""

        one, other = await start(), await start(receive=never)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                with pytest.raises(Unreachable):
                    await one.request(other, b"?")

            group.start_soon(ask)
            await eventually(lambda: bool(other.received), "the request arrives")
            with anyio.fail_after(WAIT_S / 2):
                await other.stop()
        with pytest.raises(Unreachable):
            await other.request(one, b"after its end")


async def _echo(sender: PeerId, protocol: str, payload: bytes) -> bytes:
    return payload


async def _refuse(sender: PeerId, protocol: str, payload: bytes) -> bytes:
    raise Refused("not today", reason="mood")
