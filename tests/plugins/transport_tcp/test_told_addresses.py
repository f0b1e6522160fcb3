"""Addresses that others told: where they lead, how often they are tried, and when they are proven. Over real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from fluvial.address_scope import AddressScope
from fluvial.addresses import Address, Contact
from fluvial.errors import Unreachable
from fluvial.identity import KeyPair
from fluvial.testing.transport import ECHO, WAIT_S, eventually
from fluvial_transport_tcp.own_scope import own_scope

from tests.plugins.transport_tcp.peers import StartPeer, TcpPeer


@asynccontextmanager
async def victim() -> AsyncIterator[tuple[int, list[int]]]:
    """A port that somebody has nothing to do with, and the list of those who knocked."""
    knocks: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        async def count() -> None:
            while True:
                await anyio.wait_readable(server)
                with suppress(BlockingIOError):
                    server.accept()[0].close()
                    knocks.append(len(knocks))

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            yield server.getsockname()[1], knocks
            group.cancel_scope.cancel()


def claim(port: int, *, host: str = "127.0.0.1", kind: str = "ip4") -> Contact:
    """Somebody says to be there."""
    peer = KeyPair.generate().peer_id
    return Contact(peer, (Address(host_kind=kind, host=host, port=port, peer=peer),))


async def refused(peer: TcpPeer, contact: Contact) -> str:
    with pytest.raises(Unreachable) as raised:
        await peer.transport.request(contact, ECHO, b"?", timeout_s=WAIT_S)
    return raised.value.message


async def test_a_thousand_claims_are_one_knock(start: StartPeer) -> None:
    """However many keys say that they are at the address, in however many particles."""
    peer = await start(quiet=True)
    async with victim() as (port, knocks):
        for _ in range(1_000):
            await refused(peer, claim(port))
        assert len(knocks) == 1
    assert peer.metric("dials_total", outcome="paused") == 999


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("ip4", "127.0.0.1"),
        ("ip6", "::1"),
        ("ip6", "::ffff:127.0.0.1"),
        ("ip4", "10.255.255.1"),
        ("ip4", "169.254.169.254"),
        ("ip4", "0.0.0.0"),
        ("ip6", "::"),
        ("dns", "localhost"),
        ("dns4", "0x7f.1"),  # a name for the resolver, which knows that it is 127.0.0.1
        ("dns4", "127.1"),
        ("dns", "2130706433"),
    ],
)
async def test_a_public_peer_looks_for_nobody_inside(start: StartPeer, kind: str, host: str) -> None:
    peer = await start(dial_scope="public", quiet=True)
    async with victim() as (port, knocks):
        assert "not dialled" in await refused(peer, claim(port, host=host, kind=kind))
        assert knocks == []
    assert peer.metric("dials_total", outcome="refused") == 1


async def test_the_owner_may_send_a_public_peer_anywhere(start: StartPeer) -> None:
    peer, other = await start(dial_scope="public"), await start()
    assert "not dialled" in await refused(peer, Contact(other.id, tuple(other.transport.addresses)))
    assert await peer.request(other, b"hello") == b"hello"


@pytest.mark.parametrize("port", [22, 25, 80])
async def test_no_port_of_a_service_is_tried(start: StartPeer, port: int) -> None:
    assert "well-known" in await refused(await start(), claim(port))


async def test_liars_do_not_keep_others_from_a_peer(start: StartPeer) -> None:
    """Strangers claim its address; the first dial shows who is there, and the peer itself is reached at once."""
    peer, honest = await start(quiet=True), await start()
    for _ in range(20):
        await refused(peer, claim(honest.port))
    told = Contact(honest.id, tuple(honest.transport.addresses))
    assert await peer.transport.request(told, ECHO, b"hello", timeout_s=WAIT_S) == b"hello"


async def test_slow_dials_of_told_addresses_do_not_hold_up_configured_ones(start: StartPeer) -> None:
    """Somebody says that a peer is where nobody answers; its own address works meanwhile."""
    peer, other = await start(quiet=True), await start()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.create_connection(deaf.getsockname()):
        wrong = Contact(other.id, (Address(host_kind="ip4", host="127.0.0.1", port=deaf.getsockname()[1]),))
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                await peer.transport.request(wrong, ECHO, b"?", timeout_s=WAIT_S)

            group.start_soon(ask)
            await anyio.sleep(0.05)
            with anyio.fail_after(2):
                assert await peer.request(other, b"hello") == b"hello"


async def test_what_must_not_be_dialled_is_not_passed_on(start: StartPeer) -> None:
    """Announced addresses that this peer would never dial do not reach its routing."""
    peer = await start(dial_scope="public")
    other = await start(announce=("/ip4/10.0.0.1/tcp/7771", "/dns4/peer.example.org/tcp/7771", "/ip4/8.8.8.8/tcp/22"))
    await other.request(peer, b"hello")
    await eventually(lambda: bool(peer.connections), "it is told")
    assert [str(one) for one in peer.connections[0].addresses] == [f"/dns4/peer.example.org/tcp/7771/p2p/{other.id}"]
    assert peer.transport.dialable(Address.parse("/ip4/8.8.8.8/tcp/7771"))
    assert not peer.transport.dialable(Address.parse("/ip4/10.0.0.1/tcp/7771"))


async def test_a_proof_needs_the_key(start: StartPeer) -> None:
    """An open connection proves no address; a dial does, and it is remembered."""
    peer, other = await start(), await start()
    await other.request(peer, b"hello")
    there, elsewhere = other.transport.addresses[0], peer.transport.addresses[0].with_peer(other.id)
    async with victim() as (port, _):
        nowhere = Address(host_kind="ip4", host="127.0.0.1", port=port, peer=other.id)
        asked = Contact(other.id, (nowhere, elsewhere, there))
        assert list(await peer.transport.prove(asked, timeout_s=WAIT_S)) == [there]
    assert peer.proven == [(other.id, there)]
    before = peer.metric("dials_total", outcome="connected")
    assert list(await peer.transport.prove(Contact(other.id, (there,)), timeout_s=WAIT_S)) == [there]
    assert peer.metric("dials_total", outcome="connected") == before


def addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(map(Address.parse, texts))


@pytest.mark.parametrize(
    ("given", "scope"),
    [
        ({"listening": addresses("/ip4/127.0.0.1/tcp/1")}, AddressScope.LOCAL),
        ({"listening": addresses("/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1")}, AddressScope.PRIVATE),
        ({"listening": addresses("/ip4/8.8.8.8/tcp/1", "/ip4/127.0.0.1/tcp/1")}, AddressScope.PUBLIC),
        (
            {"listening": addresses("/ip4/10.0.0.1/tcp/1"), "announced": addresses("/dns4/a.example.org/tcp/1")},
            AddressScope.PUBLIC,
        ),
        (
            {"listening": addresses("/ip4/0.0.0.0/tcp/1"), "announced": addresses("/dns4/peer1/tcp/1")},
            AddressScope.PRIVATE,
        ),
        ({}, AddressScope.PUBLIC),
        ({"kept": addresses("/ip4/127.0.0.1/tcp/1")}, AddressScope.LOCAL),
        ({"reached": [AddressScope.PRIVATE, AddressScope.LOCAL]}, AddressScope.PRIVATE),
        ({"kept": addresses("/ip4/8.8.8.8/tcp/1"), "reached": [AddressScope.LOCAL]}, AddressScope.PUBLIC),
    ],
)
def test_a_peer_knows_where_it_lives(given: dict[str, Any], scope: AddressScope) -> None:
    nothing: dict[str, Any] = {"announced": (), "listening": (), "kept": (), "reached": ()}
    assert own_scope("auto", **{**nothing, **given}) is scope
    assert own_scope("private", **{**nothing, **given}) is AddressScope.PRIVATE


def test_listening_everywhere_is_where_this_machine_is() -> None:
    everywhere = addresses("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1")
    assert own_scope("auto", announced=(), listening=everywhere, kept=(), reached=()) is not AddressScope.SPECIAL
