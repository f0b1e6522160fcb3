"""One connection: many messages at once, bounded both ways, and closed with a reason when the other side errs or falls silent."""

from __future__ import annotations

import struct

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.errors import LocalProtocolError, RemoteProtocolError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.testing.transport import ECHO, WAIT_S, eventually
from fluvial_transport_tcp.framing import Kind, Message, encode_frame, frame_bytes
from fluvial_transport_tcp.handling import MESSAGE_COST_BYTES

from tests.plugins.transport_tcp.peers import SMALL, StartPeer, TcpPeer, stranger


class Gate:
    """A node that holds what it is sent until it is told to go on."""

    def __init__(self) -> None:
        self.open = anyio.Event()
        self.inside = self.most = 0

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        self.inside += 1
        self.most = max(self.most, self.inside)
        await self.open.wait()
        self.inside -= 1
        return payload


async def wrong(peer: TcpPeer, *messages: Message, reason: str) -> None:
    """A stranger that says this is told what was wrong and cut off; the peer goes on."""
    async with stranger(peer.contact) as other:
        await other.say(*messages)
        goodbye = await other.hear()
        assert goodbye is not None
        assert (goodbye.kind, goodbye.label) == (Kind.GOODBYE, "protocol")
        assert reason in goodbye.body.decode()
        assert await other.hear() is None
    await eventually(lambda: not peer.transport.connected(), "the connection is gone")
    assert peer.metric("closed_total", reason="protocol") >= 1


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([Message(Kind.HELLO, body=b"\x93\x90\x01\x01")], "hello again"),
        ([Message(Kind.ANSWER, 7)], "request 7, which was not made"),
        ([Message(Kind.ERROR, 7, "F000")], "request 7, which was not made"),
        ([Message(Kind.CREDIT, 1)], "more credit than was used"),
        ([Message(Kind.CREDIT, 0)], "more credit than was used"),
        ([Message(Kind.ONE_WAY, 0, ECHO, bytes(65_536))], "larger than the 65536"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_who_breaks_the_protocol_is_cut_off(start: StartPeer, messages: list[Message], reason: str) -> None:
    peer, friend = await start(**SMALL), await start()
    await wrong(peer, *messages, reason=reason)
    assert await friend.request(peer, b"still there?") == b"still there?"


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.ONE_WAY, Kind.GOODBYE])
async def test_nothing_new_may_follow_a_goodbye(start: StartPeer, kind: Kind) -> None:
    peer, keys = await start(), KeyPair.generate()
    async with stranger(peer.contact, keys=keys) as other, anyio.create_task_group() as group:

        async def ask() -> None:
            with pytest.raises(Unreachable):
                await peer.request(Contact(keys.peer_id), b"?")

        group.start_soon(ask)  # keeps the connection open after the goodbye
        heard = await other.hear()
        assert heard is not None
        assert heard.kind is Kind.REQUEST
        await other.say(Message(Kind.GOODBYE, label="idle"), Message(kind, 1 if kind is Kind.REQUEST else 0, "x"))
        goodbye = await other.hear()
        assert goodbye is not None
        assert (goodbye.kind, goodbye.label) == (Kind.GOODBYE, "protocol")
    assert peer.received == []


async def test_garbage_inside_of_the_channel_is_a_protocol_error(start: StartPeer) -> None:
    peer = await start()
    async with stranger(peer.contact) as other:
        await other.say_bytes(b"\xff" * 100)
        goodbye = await other.hear()
        assert goodbye is not None
        assert goodbye.label == "protocol"


async def test_garbage_instead_of_the_channel_is_a_protocol_error(start: StartPeer) -> None:
    peer = await start()
    async with stranger(peer.contact) as other:
        await other.link.stream.send(b"\x17\x03\x03\x00\x20" + bytes(32))  # a record that nobody sealed
        with pytest.raises(RemoteProtocolError, match="TLS"):  # the alert of the other side
            await other.hear()
    await eventually(lambda: peer.metric("closed_total", reason="protocol") == 1, "it is counted")


async def test_a_ping_is_answered(start: StartPeer) -> None:
    peer = await start()
    async with stranger(peer.contact) as other:
        await other.say(Message(Kind.PING, 42))
        assert await other.hear() == Message(Kind.PONG, 42)


async def test_a_silent_peer_is_asked_and_then_given_up(start: StartPeer) -> None:
    peer = await start(keepalive_s=0.1, silence_max_s=0.4)
    async with stranger(peer.contact) as other:
        ping = await other.hear()
        assert ping is not None
        assert ping.kind is Kind.PING
        goodbye = await other.hear()
        assert goodbye is not None
        assert (goodbye.kind, goodbye.label) == (Kind.GOODBYE, "silent")
        assert await other.hear() is None
    assert peer.metric("closed_total", reason="silent") == 1
    assert len(peer.disconnections) == 1


async def test_signs_of_life_keep_a_quiet_connection(start: StartPeer) -> None:
    one, other = await start(keepalive_s=0.05, silence_max_s=0.3), await start(keepalive_s=0.05, silence_max_s=0.3)
    await one.request(other, b"hello")
    await anyio.sleep(0.8)
    assert one.transport.connected() == {other.id}
    assert one.disconnections == other.disconnections == []
    assert one.metric("messages_total", direction="in", kind="pong") >= 2


async def test_a_peer_that_takes_no_bytes_is_given_up(start: StartPeer) -> None:
    """It pings all the time, so it is not silent; but what it is sent stays in our queue."""
    peer = await start(keepalive_s=0.2, silence_max_s=0.5, send_timeout_s=WAIT_S)
    keys = KeyPair.generate()
    async with stranger(peer.contact, keys=keys, window_bytes=2**30) as other, anyio.create_task_group() as group:

        async def chatter() -> None:
            while True:
                await other.say(Message(Kind.PING, 1))
                await anyio.sleep(0.05)

        group.start_soon(chatter)

        async def send_all() -> None:
            while True:
                await peer.transport.send(Contact(keys.peer_id), ECHO, bytes(1_000_000))

        with anyio.fail_after(WAIT_S), pytest.raises(Unreachable):
            await send_all()
        group.cancel_scope.cancel()
    assert peer.metric("closed_total", reason="stalled") == 1


async def test_senders_wait_while_the_receiver_is_slow(start: StartPeer) -> None:
    """The window holds two of these; what does not fit is neither sent nor lost."""
    gate = Gate()
    one, slow = await start(), await start(receive=gate.receive, **SMALL)
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for number in range(20):
            await one.transport.send(slow.contact, ECHO, b"%02d" % number + bytes(30_000))
            sent += 1

    async with anyio.create_task_group() as group:
        group.start_soon(send_all)
        await eventually(lambda: gate.inside == 2, "two messages are being handled")
        await anyio.sleep(0.1)
        assert (gate.inside, sent) == (2, 2)
        gate.open.set()
    await eventually(lambda: len(slow.received) == 20, "all arrive")
    assert sorted(int(message.payload[:2]) for message in slow.received) == list(range(20))
    assert gate.most == 2


async def test_answers_come_through_while_messages_wait(start: StartPeer) -> None:
    """A node that asks back while it handles messages is not blocked by the messages behind them."""
    one = await start()

    async def ask_back(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        return await asking.transport.request(Contact(sender), ECHO, payload[:4], timeout_s=WAIT_S)

    asking = await start(receive=ask_back, **SMALL)
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one.transport.send, asking.contact, ECHO, b"%04d" % number + bytes(30_000))
    await eventually(lambda: len(one.received) == 20, "all questions come back")
    assert asking.metric("dropped_total", reason="refused") == 0


async def test_who_sends_more_than_its_credit_is_not_read_any_further(start: StartPeer) -> None:
    """The number of messages being handled stays bounded, and all are answered in the end."""
    gate = Gate()
    peer = await start(receive=gate.receive, **SMALL)
    async with stranger(peer.contact) as other:
        await other.say(*(Message(Kind.REQUEST, number, ECHO, bytes(1000)) for number in range(1, 41)))
        most = SMALL["window_bytes"] // (MESSAGE_COST_BYTES + frame_bytes(ECHO, bytes(1000)))
        await eventually(lambda: gate.inside == most, f"{most} are being handled")
        await anyio.sleep(0.1)
        assert gate.most == most
        gate.open.set()
        answers = [await other.hear() for _ in range(40)]
    assert sorted(answer.id for answer in answers if answer) == list(range(1, 41))
    assert gate.most == most


async def test_two_that_ask_each_other_much_at_once_get_all_answers(start: StartPeer) -> None:
    """Neither stops reading because its answers wait until the other one reads."""
    one, other = await start(quiet=True, queue_bytes_max=1000), await start(quiet=True, queue_bytes_max=1000)
    await one.request(other, b"hello")
    async with anyio.create_task_group() as group:
        for _ in range(450):
            group.start_soon(one.request, other, bytes(20_000))
            group.start_soon(other.request, one, bytes(20_000))
    assert len(one.received) + len(other.received) == 901


async def test_credit_for_one_way_messages_comes_back(start: StartPeer) -> None:
    """Many times the window goes through, each message charged its size and cost."""
    one, other = await start(), await start(**SMALL)
    for number in range(60):
        await one.transport.send(other.contact, ECHO, b"%d" % number)
    await eventually(lambda: len(other.received) == 60, "all arrive")
    assert [int(message.payload) for message in other.received] == list(range(60))


async def test_all_who_wait_for_credit_at_once_are_counted(start: StartPeer) -> None:
    """Requests have all credit while two messages wait for it; the receiver gives both back, and is believed."""
    gate = Gate()
    one, slow = await start(), await start(receive=gate.receive, **SMALL)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(one.request, slow, bytes(30_000))
        await eventually(lambda: gate.inside == 2, "two requests are being handled")
        for _ in range(2):
            group.start_soon(one.transport.send, slow.contact, ECHO, bytes(30_000))
        await anyio.sleep(0.1)
        gate.open.set()
    await eventually(lambda: len(slow.received) == 4, "all arrive")
    assert await one.request(slow, b"still connected?") == b"still connected?"
    assert one.disconnections == slow.disconnections == []


async def test_messages_of_one_sender_arrive_in_order(start: StartPeer) -> None:
    one, other = await start(), await start()
    for number in range(500):
        await one.transport.send(other.contact, ECHO, b"%d" % number)
    await eventually(lambda: len(other.received) == 500, "all arrive")
    assert [int(message.payload) for message in other.received] == list(range(500))


async def test_what_the_other_side_would_not_take_is_not_sent(start: StartPeer) -> None:
    one, small = await start(), await start(**SMALL)
    with pytest.raises(LocalProtocolError, match=f"65536 that {small.id} takes"):
        await one.request(small, bytes(65_536))
    with pytest.raises(LocalProtocolError, match="frame_bytes_max = 65536"):
        await small.request(one, bytes(65_536))
    assert await one.request(small, bytes(65_000)) == bytes(65_000)


async def test_answers_that_are_too_large_become_errors(start: StartPeer) -> None:
    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        return bytes(70_000)

    one, other = await start(**SMALL), await start(receive=receive)
    with pytest.raises(RemoteProtocolError, match=r"F501.*larger than a frame"):
        await one.request(other, b"?")


async def test_handling_has_a_deadline(start: StartPeer) -> None:
    gate = Gate()
    one, slow = await start(), await start(receive=gate.receive, handling_timeout_s=0.1)
    with pytest.raises(RemoteProtocolError, match=r"F501.*not done within 0.1 s"):
        await one.request(slow, b"?")


async def test_late_answers_are_dropped_and_counted(start: StartPeer) -> None:
    gate = Gate()
    one, slow = await start(), await start(receive=gate.receive)
    await one.transport.send(slow.contact, ECHO, b"connected, however long that takes")
    with pytest.raises(Unreachable, match=r"no answer to .* within 0.1 s"):
        await one.transport.request(slow.contact, ECHO, b"?", timeout_s=0.1)
    gate.open.set()
    await eventually(lambda: one.metric("dropped_total", reason="late") == 1, "the answer comes late")
    assert await one.request(slow, b"again") == b"again"


async def test_a_goodbye_lets_what_is_under_way_finish(start: StartPeer) -> None:
    """Requests both ways are answered before the connection closes."""
    gate = Gate()
    peer = await start(receive=gate.receive)
    keys = KeyPair.generate()
    async with stranger(peer.contact, keys=keys) as other, anyio.create_task_group() as group:
        answers: list[bytes] = []

        async def ask() -> None:
            answers.append(await peer.request(Contact(keys.peer_id), b"ours"))

        group.start_soon(ask)
        request = await other.hear()
        assert request is not None
        await other.say(Message(Kind.REQUEST, 9, ECHO, b"theirs"), Message(Kind.GOODBYE, label="idle", body=b"bye"))
        await eventually(lambda: gate.inside == 1, "the request arrives")
        assert peer.transport.connected() == frozenset()
        await other.say(Message(Kind.ANSWER, request.id, body=b"answer"))
        gate.open.set()
        heard = [await other.hear(), await other.hear()]
        assert {message.kind for message in heard if message} == {Kind.ANSWER, Kind.GOODBYE}
    assert answers == [b"answer"]


async def test_requests_fail_when_the_connection_breaks(start: StartPeer) -> None:
    peer, keys = await start(), KeyPair.generate()
    async with anyio.create_task_group() as group, stranger(peer.contact, keys=keys) as other:

        async def ask() -> None:
            with pytest.raises(Unreachable, match="the connection broke"):
                await peer.request(Contact(keys.peer_id), b"?")

        group.start_soon(ask)
        await other.hear()
    await eventually(lambda: peer.metric("closed_total", reason="lost") == 1, "it is counted")


async def test_bytes_that_come_with_the_hello_are_not_lost(start: StartPeer) -> None:
    """The first message may lie in the same TLS record, or be cut anywhere."""
    peer = await start()
    async with stranger(peer.contact) as other:
        data = b"".join(encode_frame(Message(Kind.REQUEST, 1, ECHO, b"cut")))
        for byte in struct.unpack(f"{len(data)}c", data):
            await other.say_bytes(byte)
        assert await other.hear() == Message(Kind.ANSWER, 1, body=b"cut")
