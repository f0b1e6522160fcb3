"""Attacks by addresses: the target is told that peers are where somebody else is, who must not be flooded."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial_transport_tcp.handshake import Hello, shake_hands
from fluvial_transport_tcp.secure import Credentials

from tests.attacks.arena import AT_ONCE, GONE, Arena
from tests.support.processes import NETWORK

KNOCKS_MAX: Final = 12
"""At one port in one life of an attacker: a few as the pauses grow, and as many again after a restart of the target."""


@asynccontextmanager
async def _victim(arena: Arena) -> AsyncIterator[int]:
    """A port that somebody has nothing to do with; knocking at it too often is a violation."""
    knocks = 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        async def count() -> None:
            nonlocal knocks
            while True:
                await anyio.wait_readable(server)
                with suppress(BlockingIOError):
                    server.accept()[0].close()
                    knocks += 1
                    arena.receipts["knocks"] += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            try:
                yield server.getsockname()[1]
            finally:
                tasks.cancel_scope.cancel()
                if knocks > KNOCKS_MAX:
                    arena.violations.append(f"the target knocked {knocks} times at one port")


async def _tell(arena: Arena, reply_to: Callable[[KeyPair, int], tuple[str, ...]]) -> None:
    """Begin flows of many initiators that do not exist, and say where these are."""
    here = arena.target.peer_id
    async with _victim(arena) as port, anyio.create_task_group() as tasks:

        async def throw() -> None:
            while True:
                keys = arena.stranger()
                script = f'(seq (call "{here}" ("op" "noop") []) (call "{keys.peer_id}" ("x" "y") []))'
                await arena.hand(arena.particle(keys, script, ttl_ms=20_000, reply_to=reply_to(keys, port)))

        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def reply_addresses(arena: Arena) -> None:
    """All of them are at one port of somebody else."""
    await _tell(arena, lambda keys, port: (f"/ip4/127.0.0.1/tcp/{port}",))


async def spelled_addresses(arena: Arena) -> None:
    """The same port in eight spellings."""
    hosts = ("/ip4/127.0.0.1", "/ip6/::ffff:127.0.0.1", "/ip6/::ffff:7f00:1", "/dns/localhost", "/dns4/127.1")
    more = ("/dns4/0x7f.1", "/dns4/2130706433", "/ip6/64:ff9b::7f00:1")
    await _tell(arena, lambda keys, port: tuple(f"{host}/tcp/{port}" for host in (*hosts, *more)))


async def circuits(arena: Arena) -> None:
    """All of them are behind relays that are said to be there."""
    await _tell(
        arena,
        lambda keys, port: tuple(
            f"/ip4/127.0.0.1/tcp/{port}/p2p/{arena.stranger().peer_id}/p2p-circuit/p2p/{keys.peer_id}" for _ in range(8)
        ),
    )


async def slow_names(arena: Arena) -> None:
    """Names that take the resolver long, or lead nowhere."""
    await _tell(
        arena,
        lambda keys, port: tuple(f"/dns/{arena.rng.randbytes(20).hex()}.invalid/tcp/{port}" for _ in range(8)),
    )


async def announcements(arena: Arena) -> None:
    """Fresh keys announce sixteen addresses of others in their hello, are called in a flow, and go."""
    async with _victim(arena) as port, anyio.create_task_group() as tasks:

        async def throw() -> None:
            while True:
                keys = arena.stranger()
                with suppress(*GONE, TimeoutError):
                    addresses = tuple(f"/ip4/127.0.0.{host}/tcp/{port}" for host in range(1, 17))
                    await _announce(arena, keys, addresses)
                await arena.give(arena.stranger(), f'(call "{keys.peer_id}" ("x" "y") [])', ttl_ms=20_000)

        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def _announce(arena: Arena, keys: KeyPair, addresses: tuple[str, ...]) -> None:
    host, port = "127.0.0.1", arena.target.port
    async with await anyio.connect_tcp(host, port) as stream:
        hello = Hello(addresses, 65_536, 131_072)
        assert len(encode(hello)) < 8_192
        session = Credentials(keys, NETWORK).dial(arena.target.peer_id)
        await shake_hands(stream, session, hello, host=host, timeout_s=5)
        arena.receipts["announced"] += 1


CLAIMS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "reply-to": reply_addresses,
    "spellings": spelled_addresses,
    "circuits": circuits,
    "slow-names": slow_names,
    "announcements": announcements,
}
"""By name."""
