"""A connection that breaks at any moment, in any way, costs that connection: both peers still answer others."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.testing.transport import ECHO, WAIT_S, eventually
from fluvial_transport_tcp.framing import HEADER_BYTES, Kind, Message, encode_frame
from fluvial_transport_tcp.secure import Credentials

from tests.plugins.transport_tcp.faults import BREAKS, DIRECTIONS, Break, Direction, Fault, Wire, wire
from tests.plugins.transport_tcp.peers import NETWORK, StartPeer, Stranger, TcpPeer, stranger

PAYLOAD = bytes(40_000)
"""Three TLS records."""
SHARES = (0.0, 0.5, 1.0)
RESET = b"\1\0\0\0\0\0\0\0"
"""As the option SO_LINGER: closing resets."""


async def converse(one: TcpPeer, other: TcpPeer, through: Wire) -> bytes:
    """Handshake, request, answer and goodbyes over a wire; Unreachable if it breaks before the answer."""
    contact = Contact.configured(f"/ip4/127.0.0.1/tcp/{through.port}/p2p/{other.id}")
    try:
        return await one.transport.request(contact, ECHO, PAYLOAD, timeout_s=2)
    finally:
        await one.transport.disconnect(other.id)


async def clean_run(one: TcpPeer, other: TcpPeer) -> dict[Direction, int]:
    """How many records a conversation has in each direction."""
    async with wire(other.port, None) as through:
        assert await converse(one, other, through) == PAYLOAD
        await eventually(lambda: one.id not in other.transport.connected(), "both have said goodbye")
    return through.records


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_wire_may_break_at_every_record(start: StartPeer, direction: Direction, how: Break) -> None:
    """Before, in the middle of and behind every record of the handshake, the request, its answer and the goodbyes."""
    quick = {"handshake_timeout_s": 1.0, "quiet": True}
    one, other, friend = await start(**quick), await start(**quick), await start(quiet=True)
    records = await clean_run(one, other)
    assert min(records.values()) >= 6, "a handshake and three records each way"
    for record in range(records[direction]):
        for share in SHARES:
            async with wire(other.port, Fault(direction, record, share, how)) as through:
                with suppress(Unreachable):
                    await converse(one, other, through)
                with anyio.fail_after(WAIT_S):
                    await through.broken.wait()
            for peer in (one, other):
                assert await friend.request(peer, b"still there?") == b"still there?", (record, share)
    await eventually(lambda: one.metric("connections") == other.metric("connections") == 1, "the friend is left")
    assert await clean_run(one, other) == records


async def test_a_reset_right_behind_the_handshake_costs_that_connection(start: StartPeer) -> None:
    """Many at once, with the last bytes of the handshake: the remote address can no longer be asked for."""
    peer, friend = await start(quiet=True), await start()
    for _ in range(5):
        halves = [_almost_through(peer) for _ in range(10)]
        async with anyio.create_task_group() as group:
            for half in halves:
                group.start_soon(half.__anext__)
        async with anyio.create_task_group() as group:
            for half in halves:
                group.start_soon(_drain, half)
        assert await friend.request(peer, b"still there?") == b"still there?"


@pytest.mark.parametrize("how", BREAKS)
async def test_a_frame_may_break_at_every_step(start: StartPeer, how: Break) -> None:
    """In and behind its header, its label and its body, whatever its kind: who has proven a key may stop anywhere, too."""
    peer, friend = await start(quiet=True), await start()
    for kind in (Kind.REQUEST, Kind.ONE_WAY, Kind.ANSWER, Kind.GOODBYE):
        number = 1 if kind in (Kind.REQUEST, Kind.ANSWER) else 0
        label = "" if kind is Kind.ANSWER else ECHO
        (frame,) = encode_frame(Message(kind, number, label, bytes(200)))
        for size in sorted(
            {1, 4, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + len(label), len(frame) - 100, len(frame) - 1}
        ):
            async with stranger(peer.contact) as other:
                await other.say_bytes(frame[:size])
                await _break(other, how)
        assert await friend.request(peer, b"still there?") == b"still there?", kind
    await eventually(lambda: peer.metric("connections") == 1, "the friend's is left")
    assert peer.metric("intake_bytes") == 0
    assert [message.payload for message in peer.received if message.payload != b"still there?"] == []


async def _break(other: Stranger, how: Break) -> None:
    """Break a connection; a close follows anyway, when its block ends."""
    if how == "half-close":
        await other.link.stream.send_eof()
        heard = await other.hear()
        assert heard is None or heard.kind is Kind.GOODBYE, "the peer closes its half, too"
    elif how == "reset":
        raw = other.link.stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def _almost_through(peer: TcpPeer) -> AsyncIterator[None]:
    """A handshake up to its last flight; when it goes on, that flight and a reset in one go."""
    session = Credentials(KeyPair.generate(), NETWORK).dial(peer.id)
    with socket.create_connection(("127.0.0.1", peer.port)) as sock:
        sock.setblocking(False)
        while session.handshake() is None:
            sock.send(session.outgoing())
            await anyio.wait_readable(sock)
            session.feed(sock.recv(65_536))
        yield
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.send(session.outgoing())


async def _drain(half: AsyncIterator[None]) -> None:
    async for _ in half:
        pass


async def test_an_end_of_the_tls_session_is_an_end(start: StartPeer) -> None:
    """What somebody sends behind its close_notify is not collected."""
    peer = await start(quiet=True)
    async with stranger(peer.contact) as other:
        tls = other.link.session._tls
        with suppress(OSError):
            tls.unwrap()
        await other.link.stream.send(other.link.session.outgoing())
        await eventually(lambda: peer.metric("closed_total", reason="protocol") == 1, "the connection is closed")


# --- those who are told and asked -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("bug"), RecursionError(), ExceptionGroup("both", [ValueError(), OSError()])]
)
async def test_a_bug_in_handling_costs_one_message(start: StartPeer, error: Exception) -> None:
    """The sender hears that it failed, and nothing of the exception's text."""

    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        if payload == b"bug":
            raise error
        return payload

    peer, other = await start(receive=receive, quiet=True), await start()
    with pytest.raises(RemoteProtocolError, match="F000: it could not be handled") as raised:
        await other.request(peer, b"bug")
    assert "bug" not in raised.value.message
    await other.transport.send(peer.contact, ECHO, b"bug")
    assert await other.request(peer, b"and now?") == b"and now?"
    assert len(other.connections) == 1, "over the same connection"


async def test_answers_that_are_no_bytes_are_bugs_too(start: StartPeer) -> None:
    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        return None  # type: ignore[return-value]

    peer, other = await start(receive=receive, quiet=True), await start()
    with pytest.raises(RemoteProtocolError, match="F000"):
        await other.request(peer, b"?")


async def test_watchers_that_raise_harm_nobody(start: StartPeer) -> None:
    peer, other = await start(quiet=True), await start()

    def fail(*_: object) -> None:
        raise RuntimeError("a bug of the watcher")

    peer.peer_connected = peer.peer_disconnected = fail  # type: ignore[method-assign]
    assert await other.request(peer, b"hello") == b"hello"
    await other.transport.disconnect(peer.id)
    await eventually(lambda: not peer.transport.connected(), "the connection is gone")
    assert await other.request(peer, b"again") == b"again"


async def test_keeping_oneself_is_pointless_and_harmless(start: StartPeer) -> None:
    peer, other = await start(), await start()
    peer.transport.keep(peer.contact)
    assert await other.request(peer, b"hello") == b"hello"
    await peer.transport.disconnect(peer.id)


# --- accepting --------------------------------------------------------------------------------------------------------


async def test_without_file_descriptors_it_waits_and_goes_on(start: StartPeer) -> None:
    peer, friend = await start(quiet=True), await start()
    await friend.request(peer, b"before")
    sockets = [socket.socket() for _ in range(3)]
    try:
        with no_more_descriptors():
            for sock in sockets:
                sock.connect(("127.0.0.1", peer.port))
            await anyio.sleep(0.05)
            with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
                socket.socket()
            assert await friend.request(peer, b"meanwhile") == b"meanwhile"
    finally:
        for sock in sockets:
            sock.close()
    assert await (await start()).request(peer, b"after") == b"after"


async def test_connections_that_are_gone_before_they_are_accepted(start: StartPeer) -> None:
    peer, friend = await start(quiet=True), await start()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", peer.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert await friend.request(peer, b"still there?") == b"still there?"


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process may open nothing further for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the lowest number that is free: all below it are in use
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- requests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BREAKS)
async def test_whoever_asks_may_go_while_it_is_being_answered(start: StartPeer, how: Break) -> None:
    """The request is handled, its answer has nowhere to go."""
    gate, handled = anyio.Event(), anyio.Event()

    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        if payload == b"slow":
            await gate.wait()
            handled.set()
        return payload

    peer, friend = await start(receive=receive, quiet=True), await start()
    async with stranger(peer.contact) as other:
        await other.say(Message(Kind.REQUEST, 1, ECHO, b"slow"))
        await eventually(lambda: len(peer.received) == 1, "it arrives")
        if how != "close":
            await _break(other, how)
    await eventually(lambda: not peer.transport.connected(), "the connection is gone")
    gate.set()
    with anyio.fail_after(WAIT_S):
        await handled.wait()
    assert await friend.request(peer, b"others?") == b"others?"
    await eventually(lambda: peer.metric("connections") == 1, "only the friend's is left")
