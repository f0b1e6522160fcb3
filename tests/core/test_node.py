"""Whole peers: flows over several of them, relays, restarts, and what happens when something is missing."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.client import Flow, PreparedRun
from fluvial.config import from_values, load
from fluvial.errors import ConfigError, Refused, StorageError
from fluvial.identity import KeyPair
from fluvial.node import root_cause, running
from fluvial.script_values import with_values

from tests.support.deliveries import make_delivery
from tests.support.nodes import WAIT_S, Peer, Work, chain, id_of, keys_of, peer, until
from tests.support.processes import free_port


def flow(initiator: Peer, script: str, *, ttl_s: float = 30, **values: Any) -> Flow:
    """A run of a script as a client makes it, on any peer."""
    particle = initiator.node.particle(with_values(script, values), ttl_ms=int(ttl_s * 1000))
    return Flow(initiator.node, particle, PreparedRun(script=script, values=values))


async def returned(running_flow: Flow) -> Any:
    with anyio.fail_after(WAIT_S):
        (value,) = await running_flow.result()
    return value


async def test_a_flow_goes_over_two_peers_and_back(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        async with flow(a, chain([b.peer_id])) as run:
            assert await returned(run) == 1
        assert a.outcomes("accepted") == b.outcomes("accepted") == 1
        assert b.watcher.received == [run.particle_id]
        assert b.watcher.calls == [("work", "step", 0)]


async def test_a_flow_goes_round_over_three_peers(tmp_path: Path) -> None:
    async with (
        peer("c", tmp_path, serves=[Work()]) as c,
        peer("b", tmp_path, serves=[Work()], knows=[c]) as b,
        peer("a", tmp_path, serves=[Work()], knows=[b]) as a,
    ):
        async with flow(a, chain([b.peer_id, c.peer_id, a.peer_id, b.peer_id, c.peer_id])) as run:
            assert await returned(run) == 5
        # c has never been told where a is, but the particle says it; nor does b know a otherwise.
        assert {contact.peer for contact in c.node.routing.contacts()} >= {a.peer_id}


async def test_parallel_branches_meet_again(tmp_path: Path) -> None:
    async with (
        peer("c", tmp_path, serves=[Work()]) as c,
        peer("b", tmp_path, serves=[Work()]) as b,
        peer("a", tmp_path, knows=[b, c]) as a,
    ):
        script = f"""
            (seq (par (call "{b.peer_id}" ("work" "step") [1] x) (call "{c.peer_id}" ("work" "step") [2] y))
                 (seq (call "{a.peer_id}" ("math" "add") [x y] sum)
                      (call %init_peer_id% ("return" "") [sum])))"""
        async with flow(a, script) as run:
            assert await returned(run) == 5


async def test_a_third_peer_reaches_a_client_through_its_relay(tmp_path: Path) -> None:
    work = Work()
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(peer("relay", tmp_path))
        third = await stack.enter_async_context(peer("third", tmp_path, serves=[work]))
        client = await stack.enter_async_context(peer("client", tmp_path, listen=None, relays=[relay], knows=[third]))
        assert client.node.addresses == ()
        assert client.node.reply_to == (f"{relay.address}/p2p-circuit/p2p/{client.peer_id}",)
        async with flow(client, chain([third.peer_id], function="hold")) as run:
            await until(lambda: work.held == 1)
            # The third peer could answer over the connection on which it was asked. Without it there is only the relay.
            await client.node.transport.disconnect(third.peer_id)
            await until(lambda: client.peer_id not in third.node.transport.connected())
            work.open.set()
            assert await returned(run) == 1
        await until(lambda: relay.outcomes("relayed") == 1)
        assert relay.outcomes("accepted") == 0


async def test_a_peer_finds_the_way_back_to_a_client_after_a_restart(tmp_path: Path) -> None:
    """The way stands in the particle, not only in the memory of a routing."""
    first, second = Work(), Work()
    second.open.set()
    async with (
        peer("relay", tmp_path) as relay,
        peer("client", tmp_path, listen=None, relays=[relay]) as client,
        AsyncExitStack() as stack,
    ):
        async with peer("third", tmp_path, serves=[first]) as third:
            client.node.routing.learn(Contact.configured(third.address))
            run = await stack.enter_async_context(flow(client, chain([third.peer_id], function="hold")))
            await until(lambda: first.held == 1)
        there = {"listen": [], "dial_scope": "local"}  # nobody can dial it now
        async with peer("third", tmp_path, transport=there, serves=[second]):
            assert await returned(run) == 1


async def test_where_a_stranger_says_to_be_is_nothing_to_tell_others(tmp_path: Path) -> None:
    """The addresses in a particle serve its own way back, if somebody is there; they are no contact of this peer."""
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        claimed = make_delivery(b.peer_id, reply_to=("/ip4/127.0.0.1/tcp/9",))
        assert (await a.deliver(claimed, b)).reason == ""
        assert await b.node.routing.find(claimed.particle.initiator) is None
        async with flow(a, chain([b.peer_id])) as run:
            assert await returned(run) == 1
        assert [one.peer for one in b.node.routing.contacts()] == [], "a has dialled b, which has dialled nobody"
        assert [one.peer for one in a.node.routing.contacts()] == [b.peer_id]


async def test_a_client_that_comes_back_gets_what_waits_for_it(tmp_path: Path) -> None:
    work = Work()
    async with peer("relay", tmp_path) as relay, peer("worker", tmp_path, serves=[work]) as worker:
        async with peer("client", tmp_path, listen=None, relays=[relay], knows=[worker]) as client:
            await flow(client, chain([worker.peer_id], function="hold")).__aenter__()
            await until(lambda: work.held == 1)
        work.open.set()
        await until(lambda: worker.events("delivery_failed"))
        async with peer("client", tmp_path, listen=None, relays=[relay]) as client:
            await until(lambda: client.outcomes("accepted") == 1)
            # The program that began the particle is gone, and with it who answers `return`; the particle comes all the same.
            await until(lambda: ("return", "", 1) in client.watcher.calls)
            await until(lambda: relay.outcomes("relayed") == 1)


async def test_a_peer_that_connects_is_served_at_once(tmp_path: Path) -> None:
    """What waits for a peer does not wait for the end of a pause when that peer dials."""
    async with peer("a", tmp_path) as a, flow(a, chain([id_of("b")])) as run:
        await until(
            lambda: a.metric("fluvial_deliveries_total", outcome="unreachable") >= 5
        )  # the pauses are seconds by now
        began = anyio.current_time()
        async with peer("b", tmp_path, listen=None, relays=[a], serves=[Work()]):
            assert await returned(run) == 1
            assert anyio.current_time() - began < 1.5


async def test_calls_whose_outcome_is_recorded_are_not_made_again_after_a_restart(tmp_path: Path) -> None:
    first, second = Work(), Work()
    async with peer("a", tmp_path) as a:
        script = f"""
            (par (call "{id_of("b")}" ("work" "hold") [100] y)
                 {chain([id_of("b")] * 3)})"""
        async with peer("b", tmp_path, serves=[first], knows=[a]) as b:
            a.node.routing.learn(Contact.parse(b.address))
            run = flow(a, script)
            async with run:
                assert await returned(run) == 3
            assert first.held == 1
        assert first.done == [0, 1, 2]
        async with peer("b", tmp_path, serves=[second], knows=[a]) as b:
            await until(lambda: second.held == 1)
            second.open.set()
            await until(lambda: second.done == [100])
            assert b.metric("fluvial_particles_in_memory") == 1
            assert [event["particle"] for event in b.events("particle_resumed")] == [run.particle_id]


async def test_what_was_accepted_is_handed_on_after_a_restart(tmp_path: Path) -> None:
    """The next peer is away when the particle should go there, and this one is restarted before it comes."""
    port = free_port()
    async with peer("a", tmp_path) as a:
        run = flow(a, chain([id_of("b"), id_of("c")]))
        far = {"kind": "static", "peers": [f"/ip4/127.0.0.1/tcp/{port}/p2p/{id_of('c')}"]}
        async with run:
            async with peer("b", tmp_path, serves=[Work()], routing=far) as b:
                a.node.routing.learn(Contact.parse(b.address))
                a.node.transport.keep(Contact.parse(b.address))
                await until(lambda: b.events("delivery_failed"))
                listen = str(b.node.addresses[0]).partition("/p2p/")[0]
            async with (
                peer("b", tmp_path, serves=[Work()], listen=listen, routing=far) as b,
                peer("c", tmp_path, listen=f"/ip4/127.0.0.1/tcp/{port}", serves=[Work()]) as c,
            ):
                assert await returned(run) == 2
                assert c.outcomes("accepted") == 1
                # What a had from b's first life is all that a had to send there.
                assert a.metric("fluvial_deliveries_total", outcome="accepted") == 1


async def test_hops_are_counted_along_the_way_and_over_a_restart(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, serves=[Work()], knows=[b]) as a:
        async with flow(a, chain([b.peer_id, a.peer_id] * 3)) as run:
            assert await returned(run) == 6
        assert [event["hop"] for event in b.events("particle_accepted")] == [1, 3, 5]
        assert [event["hop"] for event in a.events("particle_accepted")] == [2, 4, 6]


async def test_a_flow_that_needs_more_hops_than_allowed_stops(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, serves=[Work()], knows=[b]) as a:
        script = chain([b.peer_id, a.peer_id, b.peer_id])
        particle = a.node.particle(script, ttl_ms=10_000, max_hops=2)
        async with Flow(a.node, particle, PreparedRun(script=script)):
            await until(lambda: b.outcomes("hops") == 1)
        await until(lambda: a.metric("fluvial_deliveries_total", outcome="hops") == 1)
        assert b.watcher.refused == [(a.peer_id, particle.id, "hops")]


async def test_a_script_that_does_not_parse_is_refused_at_home(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        with pytest.raises(Refused, match="does not parse"):
            await a.node.submit(a.node.particle("(call", ttl_ms=1000))


async def test_peers_of_different_networks_do_not_talk(tmp_path: Path) -> None:
    async with peer("b", tmp_path, network="other") as b, peer("a", tmp_path, knows=[b]) as a:
        async with flow(a, chain([b.peer_id]), ttl_s=2) as run:
            await until(lambda: a.events("delivery_failed"))
        assert {event["particle"] for event in a.events("delivery_failed")} == {run.particle_id}
        assert b.peer_id not in a.node.transport.connected()


async def test_settings_of_services_reach_them(tmp_path: Path) -> None:
    async with peer("a", tmp_path, services={"result_bytes_max": 10, "timeout_s": 0.2}, serves=[Work()]) as a:
        script = """
            (xor (call %init_peer_id% ("op" "identity") ["more than ten bytes"] x)
                 (call %init_peer_id% ("return" "") [:error:.$.message]))"""
        async with flow(a, script) as run:
            assert "more than the limit of 10" in await returned(run)
        script = """
            (xor (call %init_peer_id% ("work" "hold") [1] x) (call %init_peer_id% ("return" "") [:error:.$.message]))"""
        async with flow(a, script) as run:
            assert "took longer than 0.2 s" in await returned(run)


# --- what keeps a peer from starting


async def start(values: dict[str, Any], folder: Path, keys: KeyPair | None) -> None:
    async with running(load(from_values(values, base_dir=folder)), keys=keys):
        pass


async def test_a_port_in_use_is_an_error_of_the_config(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"/ip4/127.0.0.1/tcp/{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=address):
            await start({"transport": {"listen": [address]}, "storage": {"url": "sqlite://"}}, tmp_path, keys_of("a"))


async def test_a_peer_without_a_key_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"peer\.key: .*No such file"):
        await start({}, tmp_path, None)


async def test_a_database_that_cannot_be_opened_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "not-a.db").write_text("x" * 5000)
    with pytest.raises(StorageError, match=r"not-a\.db"):
        await start({"storage": {"url": "sqlite:///not-a.db"}}, tmp_path, keys_of("a"))


@pytest.mark.parametrize(
    ("errors", "cause"),
    [
        ([ValueError("1")], ValueError),
        ([ValueError("1"), ConfigError("2")], ConfigError),
        ([ExceptionGroup("inner", [ConfigError("1"), StorageError("2")])], ConfigError),
        ([ValueError("1"), KeyError("2")], ExceptionGroup),
    ],
)
def test_the_root_cause_of_a_group(errors: Sequence[Exception], cause: type[Exception]) -> None:
    assert type(root_cause(ExceptionGroup("outer", errors))) is cause
