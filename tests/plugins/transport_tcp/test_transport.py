"""The transport as a whole: where it listens, whom it finds how, what it keeps, and where it stops."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from fluvial.addresses import Address, Contact
from fluvial.errors import ConfigError, LocalProtocolError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.testing.transport import ECHO, eventually
from fluvial_transport_tcp.framing import Kind
from fluvial_transport_tcp.secure import HandshakeFailed

from tests.plugins.transport_tcp.peers import LOOPBACK, StartPeer, TcpPeer, stranger


def at(peer: TcpPeer, *addresses: str) -> Contact:
    """A peer at these addresses instead of its own."""
    return Contact(peer.id, tuple(map(Address.parse, addresses)))


class TestListening:
    async def test_it_listens_on_several_addresses(self, start: StartPeer) -> None:
        peer, other = await start(listen=(LOOPBACK, "/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")), await start(listen=())
        assert len({address.port for address in peer.transport.addresses}) == 3
        assert [address.host for address in peer.transport.addresses] == ["127.0.0.1", "127.0.0.1", "::1"]
        for address in peer.transport.addresses:
            await other.transport.disconnect(peer.id)
            assert await other.request(Contact.configured(str(address)), b"hello") == b"hello"

    async def test_a_port_that_is_taken_is_the_operators_problem(self, start: StartPeer) -> None:
        peer = await start()
        with pytest.raises(ConfigError, match=f"cannot listen on /ip4/127.0.0.1/tcp/{peer.port}: "):
            await start(listen=(LOOPBACK, f"/ip4/127.0.0.1/tcp/{peer.port}"))

    async def test_other_addresses_may_be_announced(self, start: StartPeer) -> None:
        peer, other = await start(announce=("/dns4/peer.example.org/tcp/443",)), await start()
        address = Address.parse(f"/dns4/peer.example.org/tcp/443/p2p/{peer.id}")
        assert list(peer.transport.addresses) == [address]
        await peer.request(other, b"hello")
        assert other.connections == [Contact(peer.id, (address,))]

    async def test_who_listens_on_all_interfaces_is_known_by_the_host_it_is_seen_at(self, start: StartPeer) -> None:
        other = await start()
        everywhere = await start(announce=("/ip4/0.0.0.0/tcp/7771",))
        await everywhere.request(other, b"hello")
        assert other.connections == [at(everywhere, f"/ip4/127.0.0.1/tcp/7771/p2p/{everywhere.id}")]


class TestDialling:
    async def test_the_first_address_that_answers_is_used(self, start: StartPeer) -> None:
        """Dead ones, and those where somebody else listens, only cost time."""
        one, other, somebody = await start(), await start(), await start()
        elsewhere = at(other, f"/ip4/127.0.0.1/tcp/{somebody.port}", "/ip4/127.0.0.1/tcp/1")
        contact = Contact(other.id, (*elsewhere.addresses, *other.contact.addresses))
        assert await one.request(contact, b"hello") == b"hello"
        assert somebody.connections == []

    async def test_an_address_that_does_not_answer_is_overtaken(self, start: StartPeer) -> None:
        """A listener whose backlog is full leaves us waiting; the next address gets its turn after a quarter of a second."""
        one, other = await start(dial_timeout_s=5), await start()
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=0) as full:
            port = full.extra(SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port):
                contact = Contact(
                    other.id, (*at(other, f"/ip4/127.0.0.1/tcp/{port}").addresses, *other.contact.addresses)
                )
                with anyio.fail_after(3):
                    assert await one.request(contact, b"hello") == b"hello"

    async def test_an_address_where_somebody_stays_silent_is_overtaken(
        self, start: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever tells an address may have somebody there who accepts connections."""
        monkeypatch.setattr("fluvial_transport_tcp.dialing.HANDSHAKE_STAGGER_S", 0.01)
        monkeypatch.setattr("fluvial_transport_tcp.dialing.STAGGER_S", 0.01)
        monkeypatch.setattr("fluvial_transport_tcp.dialing.ATTEMPT_S", 0.1)
        one, other = await start(), await start()
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
            port = silent.extra(SocketAttribute.local_port)
            bad = [f"/ip4/127.0.0.{number}/tcp/{port}" for number in range(1, 6)]
            contact = Contact(other.id, (*at(other, *bad).addresses, *other.contact.addresses))
            assert await one.request(contact, b"hello") == b"hello"
        assert other.metric("handshakes_total", outcome="ok") == 1

    async def test_names_are_resolved(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        assert await one.request(at(other, f"/dns4/localhost/tcp/{other.port}"), b"hello") == b"hello"

    async def test_what_became_of_each_address_is_told(self, start: StartPeer) -> None:
        one, other, somebody = await start(), await start(), await start()
        contact = at(other, "/ip4/127.0.0.1/tcp/1", f"/ip4/127.0.0.1/tcp/{somebody.port}")
        with pytest.raises(Unreachable) as raised:
            await one.request(contact, b"hello")
        assert "/ip4/127.0.0.1/tcp/1: " in raised.value.message
        assert f"{somebody.id} answers there" in raised.value.message

    async def test_without_a_direct_address_only_an_open_connection_will_do(self, start: StartPeer) -> None:
        """Circuits are another layer's work, and addresses of other peers are not tried."""
        one, other, relay = await start(), await start(), await start()
        circuit = f"/ip4/127.0.0.1/tcp/{relay.port}/p2p/{relay.id}/p2p-circuit/p2p/{other.id}"
        elsewhere = f"/ip4/127.0.0.1/tcp/{other.port}/p2p/{relay.id}"
        with pytest.raises(Unreachable, match="no address of it is known and no connection"):
            await one.request(Contact(other.id), b"hello")
        with pytest.raises(Unreachable, match="none of its 2 addresses can be dialled directly"):
            await one.request(at(other, circuit, elsewhere), b"hello")
        await other.request(one, b"I come")
        assert await one.request(at(other, circuit), b"hello") == b"hello"

    async def test_a_dial_is_shared_by_all_who_wait_for_it(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one.request, other, b"hello")
        assert other.metric("handshakes_total", outcome="ok") == 1

    async def test_who_knows_better_addresses_does_not_suffer_from_anothers_dial(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        async with anyio.create_task_group() as group:

            async def with_a_bad_address() -> None:
                with suppress(Unreachable):  # or it takes the connection that stands meanwhile
                    await one.request(at(other, "/ip4/127.0.0.1/tcp/1"), b"bad")

            group.start_soon(with_a_bad_address)
            assert await one.request(other, b"good") == b"good"

    async def test_nor_if_somebody_stays_silent_there(self, start: StartPeer) -> None:
        """The other dial goes on until its time is over."""
        one, other = await start(dial_timeout_s=60, handshake_timeout_s=60), await start()
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as silent,
            anyio.create_task_group() as group,
        ):
            elsewhere = at(other, f"/ip4/127.0.0.1/tcp/{silent.extra(SocketAttribute.local_port)}")
            group.start_soon(one.request, elsewhere, b"bad")
            await eventually(lambda: "connected" in one.transport.dialling(other.id), "it is dialled there")
            told = Contact(other.id, (Address.parse(f"/ip4/127.0.0.1/tcp/{other.port}"),))
            assert await one.request(told, b"good") == b"good"
            group.cancel_scope.cancel()

    async def test_a_peer_sends_nothing_to_itself(self, start: StartPeer) -> None:
        one = await start()
        with pytest.raises(LocalProtocolError, match="to itself"):
            await one.request(one, b"hello")

    @pytest.mark.parametrize("protocol", ["", "x" * 256])
    async def test_protocols_have_names_that_fit(self, start: StartPeer, protocol: str) -> None:
        one, other = await start(), await start()
        with pytest.raises(LocalProtocolError, match="1 to 255 bytes"):
            await one.request(other, b"hello", protocol)

    async def test_before_it_runs_nobody_is_reachable(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        await one.stop()
        with pytest.raises(Unreachable, match="not running"):
            await one.request(other, b"hello")
        assert list(one.transport.addresses) == []


class TestTwoConnections:
    async def test_when_both_dial_at_once_one_connection_is_left(self, start: StartPeer) -> None:
        """Both sides keep the one that the smaller id dialled; every request is answered once."""
        one, other = await start(), await start()
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one.request, other, b"%d" % number)
                group.start_soon(other.request, one, b"%d" % number)
        for peer in (one, other):
            assert sorted(int(message.payload) for message in peer.received) == list(range(20))
        await eventually(
            lambda: one.metric("connections") == other.metric("connections") == 1, "one connection is left"
        )
        await eventually(
            lambda: any(peer.metric("closed_total", reason="superseded") for peer in (one, other)),
            "they dialled at once, and one connection is closed as superseded",
        )

    async def test_a_request_on_the_connection_that_goes_is_finished_there(self, start: StartPeer) -> None:
        """The same peer connects again while a request of the first connection is being handled."""
        release = anyio.Event()

        async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
            await release.wait()
            return payload

        keys, peer = KeyPair.generate(), await start(receive=receive)
        async with stranger(peer.contact, keys=keys) as first, stranger(peer.contact, keys=keys) as second:
            goodbye = await first.hear()
            assert goodbye is not None
            assert (goodbye.kind, goodbye.label) == (Kind.GOODBYE, "superseded")
            release.set()
            assert peer.transport.connected() == {keys.peer_id}
            async with anyio.create_task_group() as group:
                group.start_soon(peer.transport.send, Contact(keys.peer_id), ECHO, b"on the second")
                heard = await second.hear()
            assert heard is not None
            assert heard.body == b"on the second"
        await eventually(lambda: len(peer.disconnections) == 1, "it is gone")
        assert len(peer.connections) == 1


class TestKeeping:
    async def test_it_comes_back_after_the_other_side_restarts(self, start: StartPeer) -> None:
        quick: dict[str, Any] = {"reconnect_min_s": 0.05, "reconnect_max_s": 0.2}
        client, relay = await start(listen=(), **quick), await start()
        client.transport.keep(relay.contact)
        await eventually(lambda: len(client.connections) == 1, "a first connection")
        port = relay.port
        await relay.stop()
        await eventually(lambda: client.transport.connected() == frozenset(), "it is lost")
        await anyio.sleep(0.3)  # several dials fail
        again = await start(keys=relay.keys, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
        await eventually(lambda: client.transport.connected() == {relay.id}, "a second connection")
        assert await again.request(Contact(client.id), b"hello") == b"hello"

    async def test_what_is_kept_before_the_start_is_dialled_at_the_start(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        await one.stop()
        one.transport.keep(other.contact)
        one.scope = anyio.CancelScope()  # type: ignore[misc]  # the same peer runs again
        async with anyio.create_task_group() as group:
            await group.start(one.run)
            await eventually(lambda: one.transport.connected() == {other.id}, "it connects")
            group.cancel_scope.cancel()

    async def test_new_addresses_of_a_kept_peer_replace_the_old(self, start: StartPeer) -> None:
        client, relay = await start(listen=(), reconnect_min_s=0.05, reconnect_max_s=0.1), await start()
        client.transport.keep(at(relay, "/ip4/127.0.0.1/tcp/1"))
        await anyio.sleep(0.1)
        client.transport.keep(relay.contact)
        await eventually(lambda: client.transport.connected() == {relay.id}, "it connects")

    async def test_idle_connections_are_closed_by_who_dialled_them(self, start: StartPeer) -> None:
        one, other = await start(idle_s=0.2), await start(idle_s=0.2)
        await one.request(other, b"hello")
        await eventually(lambda: one.metric("closed_total", reason="idle") == 1, "the idle connection is closed")
        assert other.metric("closed_total", reason="goodbye") == 1
        assert one.transport.connected() == other.transport.connected() == frozenset()
        assert await one.request(other, b"again") == b"again"

    async def test_kept_connections_are_not_idle(self, start: StartPeer) -> None:
        one, other = await start(idle_s=0.1), await start(idle_s=0.1)
        one.transport.keep(other.contact)
        await anyio.sleep(0.6)
        assert one.transport.connected() == {other.id}
        assert len(one.connections) == 1


class TestLimits:
    async def test_a_full_peer_says_so(self, start: StartPeer) -> None:
        full, first, second = await start(connections_max=1), await start(), await start()
        await first.request(full, b"hello")
        with pytest.raises(Unreachable, match="has all the 1 connections that it allows itself"):
            await second.request(full, b"hello")
        assert full.metric("handshakes_total", outcome="full") == 1
        third = await start()
        with pytest.raises(Unreachable, match="has all the 1 connections"):
            await full.request(third, b"hello")
        assert await first.request(full, b"still") == b"still"

    async def test_an_idle_connection_makes_room(self, start: StartPeer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fluvial_transport_tcp.places.EVICTABLE_IDLE_S", 0.0)
        full, first, second = await start(connections_max=1), await start(), await start()
        await first.request(full, b"hello")
        assert await second.request(full, b"hello") == b"hello"
        await eventually(lambda: first.transport.connected() == frozenset(), "the first one had to go")
        assert full.metric("closed_total", reason="evicted") == 1

    async def test_one_peer_gets_few_connections(self, start: StartPeer) -> None:
        """Superseded ones that do not say goodbye count."""
        peer, keys = await start(), KeyPair.generate()
        async with stranger(peer.contact, keys=keys), stranger(peer.contact, keys=keys):
            async with stranger(peer.contact, keys=keys), stranger(peer.contact, keys=keys):
                with pytest.raises(HandshakeFailed, match="4 connections stand with it already"):
                    async with stranger(peer.contact, keys=keys):
                        pass
            assert await peer.request(await start(), b"others are served") == b"others are served"

    async def test_bytes_messages_and_queues_are_counted(self, start: StartPeer) -> None:
        one, other = await start(), await start()
        await one.request(other, bytes(1000))
        assert one.metric("messages_total", direction="out", kind="request") == 1
        assert one.metric("messages_total", direction="in", kind="answer") == 1
        assert 1000 < one.metric("bytes_total", direction="out") < 3000
        assert 1000 < one.metric("bytes_total", direction="in") < 3000
        assert one.metric("queued_bytes") == 0
        await one.stop()
        assert one.metric("connections") == 0
        assert one.metric("queued_bytes") == 0
