"""Many strangers at once, over real sockets: they get their share of places and of memory, and others keep theirs."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, TaskGroup
from fluvial.addresses import Address, Contact
from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.identity import KeyPair
from fluvial.testing.transport import ECHO, WAIT_S, eventually
from fluvial_transport_tcp.dialing import DIALS_OF_STRANGERS_MAX
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handling import ANSWERS_WAITING_MAX, WAITING_MAX
from fluvial_transport_tcp.handshake import GONE
from fluvial_transport_tcp.secure import HandshakeFailed

from tests.plugins.transport_tcp.peers import StartPeer, Stranger, TcpPeer, stranger

FRAME_BYTES = 1_000_000
LONG: dict[str, Any] = {"frame_bytes_max": FRAME_BYTES, "window_bytes": 2 * FRAME_BYTES, "queue_bytes_max": FRAME_BYTES}
EXCHANGE = Message(Kind.REQUEST, 1, ECHO, b"I am a peer like you")


class Crowd:
    """Strangers with fresh keys, each of which exchanges a message and stays."""

    def __init__(self, stack: AsyncExitStack, to: TcpPeer, **options: Any) -> None:
        self.let_in = 0
        self._stack = stack
        self._to = to
        self._options = options

    async def come(self, count: int, *messages: Message) -> None:
        for _ in range(count):
            with suppress(HandshakeFailed, *GONE):
                other = await self._stack.enter_async_context(stranger(self._to.contact, **self._options))
                await other.say(*messages)
                if messages:
                    await other.hear()
                self.let_in += 1


# --- places -----------------------------------------------------------------------------------------------------------


async def test_a_known_client_is_never_shut_out_by_fresh_keys(start: StartPeer) -> None:
    """They fill all places several times over, before it comes back, and every one of them has exchanged messages."""
    peer, client = await start(connections_max=12, quiet=True), await start()
    await client.request(peer, b"I was here first")
    async with AsyncExitStack() as stack:
        crowd = Crowd(stack, peer)
        for _ in range(3):
            await client.transport.disconnect(peer.id)
            await crowd.come(20, EXCHANGE)
            assert client.id not in peer.transport.connected()
            assert await client.request(peer, b"again") == b"again"
        assert crowd.let_in >= 12
        assert peer.metric("connections") <= 12 + 1


async def test_a_client_that_stays_is_not_displaced(start: StartPeer) -> None:
    peer, client = await start(connections_max=8, quiet=True), await start()
    await client.request(peer, b"hello")
    async with AsyncExitStack() as stack:
        await Crowd(stack, peer).come(30, EXCHANGE)
        assert client.disconnections == []
        assert await client.request(peer, b"still") == b"still"


async def test_a_kept_peer_gets_in_though_all_others_were_here_before(start: StartPeer) -> None:
    peer, kept = await start(connections_max=8, reconnect_min_s=0.05, reconnect_max_s=0.1, quiet=True), await start()
    async with AsyncExitStack() as stack:
        await Crowd(stack, peer).come(30, EXCHANGE)
        peer.transport.keep(kept.contact)
        await eventually(lambda: kept.id in peer.transport.connected(), "it has a place")
        await kept.transport.disconnect(peer.id)
        assert await kept.request(peer, b"from the other side") == b"from the other side"


async def test_who_has_weight_gets_in_though_all_others_were_here_before(start: StartPeer) -> None:
    """And a heavier one in the place of the lightest."""
    heavy = [KeyPair.generate() for _ in range(9)]
    weights = {keys.peer_id: number for number, keys in enumerate(heavy, 1)}
    peer = await start(connections_max=8, weights=weights, quiet=True)
    async with AsyncExitStack() as stack:
        await Crowd(stack, peer).come(20, EXCHANGE)
        for keys in heavy:
            await (await start(keys=keys)).request(peer, b"hello")
        connected = peer.transport.connected()
        assert all(keys.peer_id in connected for keys in heavy[-7:])
        assert heavy[0].peer_id not in connected


async def test_some_places_are_left_to_strangers(start: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many known peers there are; whoever comes later takes turns with the other strangers."""
    monkeypatch.setattr("fluvial_transport_tcp.places.TURN_S", 0.0)
    peer = await start(connections_max=10, quiet=True)
    friends = [await start() for _ in range(12)]
    for friend in friends:
        with suppress(Unreachable):
            await friend.request(peer, b"hello")
    assert peer.metric("connections") >= 9
    newcomer = await start()
    assert await newcomer.request(peer, b"hello") == b"hello"
    assert sum(friend.id in peer.transport.connected() for friend in friends) >= 8


async def test_strangers_that_do_nothing_give_way_to_the_next(start: StartPeer) -> None:
    """After their turn; who uses it is known from then on."""
    peer, newcomer = await start(connections_max=4, quiet=True), await start()
    async with AsyncExitStack() as stack:
        await Crowd(stack, peer).come(8)
        with anyio.fail_after(WAIT_S):
            while True:
                try:
                    assert await newcomer.request(peer, b"hello") == b"hello"
                    break
                except Unreachable:
                    await anyio.sleep(0.1)
        await Crowd(stack, peer).come(8)
        assert newcomer.disconnections == []


# --- prefixes ---------------------------------------------------------------------------------------------------------


async def test_a_network_gets_as_many_connections_as_the_options_say(start: StartPeer) -> None:
    """Others are not touched by what comes from it; this machine has a network of 127.0.0.0/8 to try it with."""
    peer = await start(prefix_connections_private_max=3, quiet=True)
    async with AsyncExitStack() as stack:
        for host in ("127.0.9.1", "127.0.9.2", "127.0.9.3"):
            await stack.enter_async_context(stranger(peer.contact, host=host))
        with pytest.raises(HandshakeFailed, match=r"all the 3 connections that it allows from 127\.0\.9\.0/24"):
            await stack.enter_async_context(stranger(peer.contact, host="127.0.9.4"))
        await stack.enter_async_context(stranger(peer.contact, host="127.0.10.4"))
        assert peer.metric("connections") == 4


async def test_local_networks_have_no_such_limit_by_default(start: StartPeer) -> None:
    peer = await start(prefix_connections_max=1, quiet=True)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(stranger(peer.contact))


async def test_slow_handshakes_of_one_network_do_not_displace_those_of_others(start: StartPeer) -> None:
    peer = await start(handshakes_max=4, quiet=True)
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        early = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", peer.port))
        await eventually(lambda: peer.metric("connections") == 0, "it is accepted")
        for _ in range(12):
            await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", peer.port, local_host="127.0.9.9"))
        await eventually(lambda: peer.metric("handshakes_total", outcome="crowded") >= 9, "they displace each other")
        with anyio.move_on_after(0.1) as waiting:
            await early.receive()
        assert waiting.cancelled_caught, "the first one is still there"
        group.cancel_scope.cancel()


# --- dials ------------------------------------------------------------------------------------------------------------


async def test_dials_that_nobody_answers_leave_room_for_others(start: StartPeer) -> None:
    """Others can make a peer dial addresses where nobody answers; known peers are still dialled."""
    peer, known = await start(quiet=True, dial_timeout_s=WAIT_S), await start()
    await peer.request(known, b"hello")
    await peer.transport.disconnect(known.id)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=0) as deaf:
        port = deaf.extra(SocketAttribute.local_port)
        nowhere = (Address(host_kind="ip4", host="127.0.0.1", port=port, configured=True),)
        async with await anyio.connect_tcp("127.0.0.1", port), anyio.create_task_group() as group:
            for _ in range(DIALS_OF_STRANGERS_MAX):
                contact = Contact(KeyPair.generate().peer_id, nowhere)
                group.start_soon(partial(peer.transport.request, contact, ECHO, b"?", timeout_s=WAIT_S))
            await anyio.sleep(0.1)
            with pytest.raises(Unreachable, match=f"{DIALS_OF_STRANGERS_MAX} other peers are being dialled"):
                await peer.request(await start(), b"one too many")
            assert await peer.request(known, b"again") == b"again"
            group.cancel_scope.cancel()


# --- messages that cost nothing ---------------------------------------------------------------------------------------


async def test_a_flood_of_pings_holds_nobody_up(start: StartPeer) -> None:
    """They take no window and no memory; the others get their turns, and most of the flood is not even read."""
    peer, friend = await start(quiet=True), await start()
    pings = b"".join(encode_frame(Message(Kind.PING, 1))[0] for _ in range(20_000))
    async with stranger(peer.contact) as other, anyio.create_task_group() as group:
        group.start_soon(other.say_bytes, pings)
        for _ in range(10):
            assert await friend.request(peer, b"hello") == b"hello"
        assert 0 < peer.metric("messages_total", direction="in", kind="ping") < 10_000
        assert peer.metric("messages_total", direction="out", kind="pong") < 10_000
        assert await other.hear() == Message(Kind.PONG, 1)
        group.cancel_scope.cancel()


# --- memory -----------------------------------------------------------------------------------------------------------


LONG_REQUEST = Message(Kind.REQUEST, 1, ECHO, bytes(FRAME_BYTES - 1000))


async def half_a_frame(other: Stranger, message: Message = LONG_REQUEST) -> None:
    """Begin a long message; as much of it as the other side reads."""
    data = b"".join(encode_frame(message))
    data = data[: len(data) * 9 // 10]
    with suppress(*GONE):
        for at in range(0, len(data), 16_384):
            await other.link.stream.send(other.link.session.seal(data[at : at + 16_384]))


async def crowd_of_halves(stack: AsyncExitStack, group: TaskGroup, peer: TcpPeer, count: int) -> list[Stranger]:
    others = [await stack.enter_async_context(stranger(peer.contact, window_bytes=2**25)) for _ in range(count)]
    for other in others:
        group.start_soon(half_a_frame, other)
    return others


async def test_unfinished_messages_are_held_up_to_a_budget(start: StartPeer) -> None:
    """Thirty connections with 27 MB of them; the rest waits in the senders' sockets, and short messages pass."""
    peer, friend = await start(incoming_bytes_max=4 * FRAME_BYTES, quiet=True, **LONG), await start()
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        others = await crowd_of_halves(stack, group, peer, 30)
        await eventually(lambda: peer.metric("intake_bytes") > 2 * FRAME_BYTES, "the budget is used up")
        for _ in range(20):
            assert await friend.request(peer, b"short") == b"short"
            assert peer.metric("intake_bytes") <= 3 * FRAME_BYTES
        assert peer.metric("connections") == len(others) + 1
        group.cancel_scope.cancel()
    await eventually(lambda: peer.metric("intake_bytes") == 0, "all of it is given back")


async def test_a_long_message_of_a_known_peer_displaces_those_of_strangers(start: StartPeer) -> None:
    peer, friend = await start(incoming_bytes_max=4 * FRAME_BYTES, quiet=True, **LONG), await start(**LONG)
    await friend.request(peer, b"I am known now")
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        await crowd_of_halves(stack, group, peer, 8)
        await eventually(lambda: peer.metric("intake_bytes") > 2 * FRAME_BYTES, "the budget is used up")
        payload = bytes(FRAME_BYTES - 1000)
        assert await friend.request(peer, payload) == payload
        assert peer.metric("closed_total", reason="crowded") >= 1
        group.cancel_scope.cancel()


async def test_strangers_take_turns_with_long_messages(start: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not finish in its turn is cut while others wait."""
    monkeypatch.setattr("fluvial_transport_tcp.intake.FRAME_TURN_S", 0.05)
    options = {"incoming_bytes_max": 4 * FRAME_BYTES, "keepalive_s": 0.2, "silence_max_s": 60.0}
    peer, newcomer = await start(quiet=True, **options, **LONG), await start(**LONG)
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        await crowd_of_halves(stack, group, peer, 9)
        await eventually(lambda: peer.metric("intake_bytes") > 2 * FRAME_BYTES, "the budget is used up")
        payload = bytes(FRAME_BYTES - 1000)
        assert await newcomer.request(peer, payload) == payload
        group.cancel_scope.cancel()


async def test_a_message_has_a_time_to_arrive(start: StartPeer) -> None:
    """However many bytes trickle in."""
    peer = await start(frame_timeout_s=0.3, keepalive_s=0.1, quiet=True)
    async with stranger(peer.contact) as other, anyio.create_task_group() as group:

        async def trickle() -> None:
            data = b"".join(encode_frame(Message(Kind.REQUEST, 1, ECHO, bytes(1000))))
            with suppress(*GONE):
                for byte in data:
                    await other.say_bytes(bytes([byte]))
                    await anyio.sleep(0.02)

        group.start_soon(trickle)
        while (message := await other.hear()) is not None and message.kind is not Kind.GOODBYE:
            pass
        assert message is not None
        assert message.label == "slow"
        group.cancel_scope.cancel()
    assert peer.metric("closed_total", reason="slow") == 1


async def test_messages_that_are_being_handled_count_too(start: StartPeer) -> None:
    """And answers that nobody takes: both are held until they are done with, and then given back."""
    gate = anyio.Event()

    async def receive(sender: Any, protocol: str, payload: bytes) -> bytes:
        await gate.wait()
        return payload

    peer = await start(receive=receive, incoming_bytes_max=4 * FRAME_BYTES, quiet=True, **LONG)
    senders = [await start(**LONG) for _ in range(8)]
    payload = bytes(FRAME_BYTES - 1000)
    async with anyio.create_task_group() as group:
        for sender in senders:
            group.start_soon(sender.request, peer, payload)
        await eventually(lambda: peer.metric("intake_bytes") > 2 * FRAME_BYTES, "as many as fit are handled")
        await anyio.sleep(0.1)
        assert len(peer.received) <= 3
        gate.set()
    assert len(peer.received) == 8
    await eventually(lambda: peer.metric("intake_bytes") == 0, "all of it is given back")


async def test_of_who_does_not_read_answers_no_further_question_is_handled(start: StartPeer) -> None:
    """Until it reads: it would have an answer, and a task that waits with it, for each question."""

    async def receive(sender: Any, protocol: str, payload: bytes) -> bytes:
        return bytes(2**20)

    peer = await start(receive=receive, quiet=True)
    questions = [b"".join(encode_frame(Message(Kind.REQUEST, number, ECHO, b"?"))) for number in range(300)]
    async with stranger(peer.contact) as other:
        await other.say_bytes(b"".join(questions))
        await eventually(lambda: len(peer.received) > ANSWERS_WAITING_MAX, "as many as the system takes, and some more")
        await anyio.sleep(0.1)
        assert len(peer.received) < 100
        for _ in questions:
            assert (await other.hear()) is not None
    assert len(peer.received) == len(questions)


async def test_answers_that_nobody_reads_have_a_bound_together(
    start: StartPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are many. Who has not read all for the longest time gives way, and whoever reads has its answers."""
    monkeypatch.setattr("fluvial_transport_tcp.hosting.LEFTOVER_BYTES_MAX", 24 * 2**20)

    async def receive(sender: Any, protocol: str, payload: bytes) -> bytes:
        return bytes(2**20) if payload == b"much" else b""

    peer, friend = await start(receive=receive, quiet=True), await start()
    questions = b"".join(b"".join(encode_frame(Message(Kind.REQUEST, number, ECHO, b"much"))) for number in range(40))
    async with AsyncExitStack() as stack:
        for _ in range(3):
            other = await stack.enter_async_context(stranger(peer.contact))
            await other.say_bytes(questions)
        await eventually(lambda: peer.metric("closed_total", reason="stalled") == 2, "the first ones are cut")
        assert len(await friend.request(peer, b"much")) == 2**20
        assert peer.metric("intake_bytes") < 24 * 2**20


async def test_of_who_sends_more_than_is_handled_no_more_is_read(start: StartPeer) -> None:
    """Until half of it has begun; short messages would use little of the window, and much memory."""

    async def receive(sender: Any, protocol: str, payload: bytes) -> bytes:
        raise RemoteProtocolError("nobody here speaks this")  # which is paid for: little of it is begun in a second

    peer = await start(receive=receive, quiet=True)
    questions = [Message(Kind.REQUEST, number, f"made up {number}") for number in range(950)]
    async with stranger(peer.contact) as other, anyio.create_task_group() as group:
        group.start_soon(other.say_bytes, b"".join(b"".join(encode_frame(question)) for question in questions))
        most = 0
        while len(peer.received) < len(questions) // 2:
            await anyio.sleep(0.001)
            read = peer.metric("messages_total", direction="in", kind="request")
            most = max(most, read - len(peer.received))
        assert most <= WAITING_MAX + 8
        group.cancel_scope.cancel()


async def test_answers_that_were_asked_for_find_room(start: StartPeer) -> None:
    """Requests that fill the room may wait for answers of others."""
    asked = await start(**LONG)
    payload = bytes(FRAME_BYTES - 1000)

    async def ask_others(sender: Any, protocol: str, question: bytes) -> bytes:
        return await peer.transport.request(Contact(asked.id), ECHO, question, timeout_s=WAIT_S)

    peer = await start(receive=ask_others, incoming_bytes_max=4 * FRAME_BYTES, **LONG)
    await peer.request(asked, b"hello")
    senders = [await start(**LONG) for _ in range(6)]
    async with anyio.create_task_group() as group:
        for sender in senders:
            group.start_soon(sender.request, peer, payload)
    assert len(asked.received) == 7


async def test_what_is_only_called_an_answer_takes_no_room(start: StartPeer) -> None:
    """Answers go before all other messages; nobody has asked for these."""
    peer, newcomer = await start(incoming_bytes_max=4 * FRAME_BYTES, quiet=True, **LONG), await start(**LONG)
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        for _ in range(8):
            other = await stack.enter_async_context(stranger(peer.contact))
            group.start_soon(half_a_frame, other, Message(Kind.ANSWER, 7, body=LONG_REQUEST.body))
        await eventually(lambda: peer.metric("closed_total", reason="protocol") == 8, "they are cut")
        assert peer.metric("intake_bytes") == 0
        assert await newcomer.request(peer, LONG_REQUEST.body) == LONG_REQUEST.body


async def test_one_key_is_one_stranger(start: StartPeer) -> None:
    """Its connections displace each other, not those of others."""
    peer, keys = await start(connections_max=20, quiet=True), KeyPair.generate()
    async with AsyncExitStack() as stack:
        for _ in range(10):
            with suppress(HandshakeFailed):
                await stack.enter_async_context(stranger(peer.contact, keys=keys))
        assert peer.metric("connections") <= 4
