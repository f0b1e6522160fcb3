"""Why a flow of a client has no result: who is to blame is named, while the flow runs.

Everywhere the client calls a peer that only its relay knows. Flows could live for a minute; no cause needs that long.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from fluvial.addresses import Address, Contact
from fluvial.cli.main import EXIT_UNREACHABLE
from fluvial.client import Client, connect
from fluvial.errors import Refused, ServiceError, Unreachable
from fluvial.identity import PeerId
from fluvial.particles.notice import Notice
from fluvial.relaying.reaching import HUNG_S, SILENT_S
from fluvial.seats import Receive
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport

from tests.support.nodes import NETWORK, Peer, Work, id_of, keys_of, peer, until
from tests.support.processes import PeerProcess, environment

SCRIPT = '(seq (call there ("work" "fail") ["no tea"] x) (call %init_peer_id% ("return" "") [x]))'
HOLDING = '(seq (call there ("work" "hold") [1] x) (call %init_peer_id% ("return" "") [x]))'
WAITING = '(seq (call there ("peer" "timeout") [60000 "x"] x) (call %init_peer_id% ("return" "") [x]))'
TTL_S = 60.0
SHORT: dict[str, Any] = {"particles": {"ttl_ms_max": 1000}}


@asynccontextmanager
async def network(
    tmp_path: Path, *, relay: dict[str, Any] | None = None, there: dict[str, Any] | None = None
) -> AsyncIterator[tuple[Client, Peer, Peer]]:
    """A client, its relay, and a peer that the relay knows, with sections of their settings."""
    async with (
        peer("there", tmp_path, serves=[Work()], **(there or {})) as called,
        peer("relay", tmp_path, knows=[called], **(relay or {})) as hub,
        connect(hub.address, network=NETWORK) as client,
    ):
        yield client, hub, called


async def no_result(client: Client, there: Peer) -> Exception:
    """With which error the flow ends before its time."""
    async with client.run(SCRIPT, there=there.peer_id, ttl_s=TTL_S) as flow:
        with anyio.fail_after(TTL_S / 2), pytest.raises((Refused, ServiceError)) as caught:
            await flow.result()
    return caught.value


async def first_notice(client: Client, there: str) -> Notice:
    """What is reported first, long before the flow ends."""
    async with client.run(SCRIPT, there=there, ttl_s=TTL_S) as flow:
        with anyio.fail_after(TTL_S / 2):
            return await anext(flow.listen())


async def test_a_service_that_fails(tmp_path: Path) -> None:
    async with network(tmp_path) as (client, _, there):
        error = await no_result(client, there)
    assert isinstance(error, ServiceError)
    assert (error.peer, error.status, error.message) == (there.peer_id, 418, "no tea")


async def test_a_peer_that_refuses_behind_a_relay(tmp_path: Path) -> None:
    async with network(tmp_path, there=SHORT) as (client, _, there):
        error = await no_result(client, there)
    assert isinstance(error, Refused)
    assert error.reason == "ttl"
    assert error.message.startswith(f"{there.peer_id} does not take the particle: ttl: ")


async def test_a_relay_that_refuses_is_not_mistaken_for_the_peer_behind_it(tmp_path: Path) -> None:
    async with network(tmp_path, relay=SHORT) as (client, relay, there):
        error = await no_result(client, there)
        assert isinstance(error, Refused)
        way = f"{relay.peer_id}, a relay on the way to {there.peer_id}, does not take the particle: ttl: "
        assert (error.reason, error.message[: len(way)]) == ("ttl", way)


async def test_a_relay_that_refuses_is_no_reason_if_another_one_does_not(tmp_path: Path) -> None:
    async with (
        peer("there", tmp_path, serves=[Work()]) as there,
        peer("strict", tmp_path, knows=[there], **SHORT) as strict,
        peer("relay", tmp_path, knows=[there]) as relay,
        connect([strict.address, relay.address], network=NETWORK) as client,
    ):
        await until(lambda: client.node.transport.connected() == {strict.peer_id, relay.peer_id})
        error = await no_result(client, there)
    assert isinstance(error, ServiceError), "it came to the service"


async def test_a_peer_of_which_nobody_knows(tmp_path: Path) -> None:
    nobody = id_of("nobody")
    async with network(tmp_path) as (client, _, _):
        notice = await first_notice(client, nobody)
    assert notice.kind == "unreachable"
    assert notice.message == f"{nobody} cannot be reached so far: no way to {nobody} is known"


@pytest.mark.parametrize("case", ["down", "another network", "another key"])
async def test_what_is_at_the_address_of_a_peer(tmp_path: Path, case: str) -> None:
    name, options = {
        "down": ("", {}),
        "another network": ("there", {"network": "others"}),
        "another key": ("stranger", {}),
    }[case]
    says = {
        "down": "Connection refused",
        "another network": f"{id_of('there')} is not in the network '{NETWORK}'",
        "another key": f"{id_of('stranger')} answers there, not {id_of('there')}",
    }[case]
    address = await where_it_was(tmp_path)
    if name:
        listen = address.partition("/p2p/")[0]
        async with peer(name, tmp_path, listen=listen, **options), client_of(tmp_path, address) as client:
            notice = await first_notice(client, id_of("there"))
    else:
        async with client_of(tmp_path, address) as client:
            notice = await first_notice(client, id_of("there"))
    assert (notice.kind, notice.peer_id) == ("unreachable", client.peer_id)
    assert notice.message.startswith(f"{id_of('there')} cannot be reached so far: {address}: ")
    assert notice.message.endswith(says)


async def where_it_was(tmp_path: Path) -> str:
    """The address of the peer that is called; it is gone."""
    async with peer("there", tmp_path) as there:
        return there.address


@asynccontextmanager
async def client_of(tmp_path: Path, known: str) -> AsyncIterator[Client]:
    """A client of a relay that knows an address."""
    routing = {"kind": "static", "peers": [known]}
    async with peer("relay", tmp_path, routing=routing) as relay, connect(relay.address, network=NETWORK) as client:
        yield client


async def test_a_relay_of_another_network(tmp_path: Path) -> None:
    """The other wrong addresses of a relay are in ``test_client.py``."""
    async with peer("relay", tmp_path) as relay:
        with pytest.raises(Unreachable, match=f"{relay.peer_id} is not in the network 'others'"):
            async with connect(relay.address, network="others"):
                raise AssertionError("it is connected")


async def test_a_relay_that_is_lost_while_a_flow_runs(tmp_path: Path) -> None:
    work = Work()
    async with peer("there", tmp_path, serves=[work]) as there, anyio.create_task_group() as tasks:
        relay_is_up, relay_goes = anyio.Event(), anyio.Event()
        address: list[str] = []

        async def relay() -> None:
            async with peer("relay", tmp_path, knows=[there]) as hub:
                address.append(hub.address)
                relay_is_up.set()
                await relay_goes.wait()

        tasks.start_soon(relay)
        await relay_is_up.wait()
        async with (
            connect(address[0], network=NETWORK) as client,
            client.run(HOLDING, there=there.peer_id, ttl_s=TTL_S) as flow,
        ):
            await until(lambda: work.held)
            relay_goes.set()
            with anyio.fail_after(TTL_S / 2):
                notice = await anext(flow.listen())
        work.open.set()
    assert notice.message == f"the connection to the relay {id_of('relay')} was lost"


async def test_a_peer_that_goes_on_failing_is_reported_once(tmp_path: Path) -> None:
    address = await where_it_was(tmp_path)
    async with client_of(tmp_path, address) as client:
        async with client.run(SCRIPT, there=id_of("there"), ttl_s=1.5) as flow:
            with pytest.raises(Unreachable, match="Connection refused") as caught:
                await flow.result()
        assert len(flow.notices) == 1
    assert caught.value.message.count(address) == 1


async def test_a_peer_that_hangs_is_told_before_and_after_it_has_the_particle(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "there"
    there = PeerProcess(folder, environment(tmp_path_factory.getbasetemp().parent / "compiled"), keys=keys_of("there"))
    with closing(there):
        there.start()
        async with client_of(tmp_path, there.address) as client:
            says = f"gives no sign of life; the relay {client.relay_id} on the way does"
            async with client.run(WAITING, there=there.peer_id, ttl_s=TTL_S) as flow:
                await until(lambda: deliveries(client, "accepted"))
                there.send(signal.SIGSTOP)
                notice = await anext(flow.listen())
                assert notice.message == f"{there.peer_id} has the particle, but it {says}"
            async with client.run(SCRIPT, there=there.peer_id, ttl_s=TTL_S) as flow:
                notice = await anext(flow.listen())
                assert notice.message == f"{there.peer_id} has not taken the particle so far: it {says}"
                assert (notice.kind, notice.peer_id) == ("unreachable", client.peer_id)
                there.send(signal.SIGCONT)
                with pytest.raises(
                    ServiceError
                ) as caught:  # nothing was cut off: it goes on, and there is no such service
                    await flow.result()
    assert caught.value.peer == there.peer_id


def deliveries(client: Client, outcome: str) -> float:
    return client.node.metrics.get_sample_value("fluvial_deliveries_total", {"outcome": outcome}) or 0.0


async def test_a_relay_that_hangs_is_not_mistaken_for_the_peer_behind_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    relay = PeerProcess(tmp_path / "relay", environment(tmp_path_factory.getbasetemp().parent / "compiled"))
    with closing(relay):
        relay.start()
        async with connect(relay.address, network=NETWORK) as client:
            relay.send(signal.SIGSTOP)
            notice = await first_notice(client, id_of("there"))
            relay.send(signal.SIGCONT)
    way = f"the relay {relay.peer_id} on the way gives no sign of life"
    assert notice.message == f"{id_of('there')} has not taken the particle so far: {way}"


async def test_a_peer_that_is_slow_but_alive_is_not_suspected(tmp_path: Path) -> None:
    work = Work()
    async with (
        peer("there", tmp_path, serves=[work]) as there,
        peer("relay", tmp_path, knows=[there]) as relay,
        connect(relay.address, network=NETWORK) as client,
        client.run(HOLDING, there=there.peer_id, ttl_s=TTL_S) as flow,
    ):
        await until(lambda: relay.metric("fluvial_messages_total", protocol="/fluvial/alive/1", outcome="answered") > 1)
        assert flow.notices == ()
        work.open.set()
        await flow.result()


async def test_a_port_that_accepts_and_stays_silent(tmp_path: Path) -> None:
    waited_for: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{id_of('relay')}"
        with anyio.move_on_after(TTL_S), anyio.CancelScope() as scope:

            def told(what: str) -> None:
                waited_for.append(what)
                scope.cancel()

            async with connect(address, network=NETWORK, on_slow=told):
                raise AssertionError("it is connected")
    assert waited_for == [f"{address}: connected, and no handshake so far"]


async def test_a_command_does_not_wait_for_a_port_that_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{id_of('relay')}"
        command = [sys.executable, "-m", "fluvial", "call", "peer.identify()"]
        command += ["--relay", address, "--network", NETWORK]
        done = await anyio.run_process(command, check=False)
    said = done.stderr.decode()
    assert done.returncode == EXIT_UNREACHABLE
    assert f"the relay does not answer: {address}: connected, and no handshake so far, and not a byte in 0.9 s" in said


class NobodyWatches:
    """Of a transport."""

    def peer_connected(self, contact: Contact) -> None:
        """Nobody looks."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """As above."""

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """As above."""


@asynccontextmanager
async def half_a_relay(receive: Receive) -> AsyncIterator[tuple[str, TcpTransport]]:
    """A relay that shakes hands, and its address; what it does then is the test's."""
    context = closed_context("relay", network=NETWORK, trust=WeightsTrust())
    transport = TcpTransport(context, Options(listen=("/ip4/127.0.0.1/tcp/0",)))
    async with anyio.create_task_group() as tasks:
        await tasks.start(transport.run, receive, NobodyWatches())
        yield str(transport.addresses[0]), transport
        tasks.cancel_scope.cancel()


async def test_a_relay_that_hangs_after_its_handshake_is_given_up() -> None:
    async def hang(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError("it hangs")

    async with half_a_relay(hang) as (address, _):
        with pytest.raises(
            Unreachable, match=f"the relay does not answer: .*: connected, and not a byte in {HUNG_S:g}"
        ):
            async with connect(address, network=NETWORK):
                raise AssertionError("it has answered")


async def test_a_relay_that_is_slow_and_lives_is_waited_for() -> None:
    """Any byte shows that it lives."""

    async def take_time(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        await anyio.sleep(HUNG_S / 4)
        assert transport.post(sender, "x", b"")
        await anyio.sleep(HUNG_S)
        return b""

    async with half_a_relay(take_time) as (address, transport), connect(address, network=NETWORK):
        pass


async def test_a_relay_that_has_sent_anything_is_waited_for() -> None:
    async def begin(stream: SocketStream) -> None:
        async with stream:
            await stream.send(b"\x16\x03")  # of a TLS record
            await anyio.sleep(2 * SILENT_S)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, begin)
        port = listener.extra(SocketAttribute.local_port)
        with pytest.raises(Unreachable, match="closed the connection during the handshake"):
            async with connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{id_of('relay')}", network=NETWORK):
                raise AssertionError("it is connected")
        tasks.cancel_scope.cancel()
