"""Attacks below messages, by what TLS must look at before it can refuse it: slow keys, slow groups, and records that carry nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import anyio.lowlevel
from anyio.abc import SocketAttribute, SocketStream
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fluvial.encoding import encode
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handshake import Hello

from tests.attacks.arena import AT_ONCE, GONE, Arena
from tests.plugins.transport_tcp.forger import APPLICATION_DATA, RecordKeys, client_hello, log_in, show
from tests.plugins.transport_tcp.slow_keys import slow_certificate
from tests.support.processes import NETWORK

ALPN: Final = f"fluvial/2/{NETWORK}".encode()
FFDHE8192: Final = 260
"""A group (RFC 7919)."""
CHAIN: Final = 25
"""Certificates that fit into a handshake."""
PORTS: Final = 300
UPDATES: Final = 500
"""Records at once."""
ENDS: Final = (*GONE, anyio.IncompleteRead, TimeoutError)


async def slow_certificates(arena: Arena) -> None:
    """Certificates that nobody asks for, with keys that take OpenSSL a third of a second each: one, or as many as fit."""
    certificate = slow_certificate()

    async def throw(count: int) -> None:
        async with _connected(arena) as stream:
            await _log_in(arena, stream, (certificate,) * count)
            arena.receipts["shown"] += 1
            await stream.receive()

    await _without_end(throw, (1, CHAIN))


async def slow_hosts(arena: Arena) -> None:
    """Initiators that are to be called where, at hundreds of ports, such a certificate is shown to whoever dials."""
    certificate, here = slow_certificate(), arena.target.peer_id

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with suppress(*ENDS):
                await show(stream, certificate, ALPN)
                arena.receipts["dialled"] += 1
                await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        ports = []
        for _ in range(PORTS):
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            tasks.start_soon(listener.serve, serve)
            ports.append(listener.extra(SocketAttribute.local_port))

        async def throw() -> None:
            while True:
                keys, address = arena.stranger(), f"/ip4/127.0.0.1/tcp/{arena.rng.choice(ports)}"
                script = f'(seq (call "{here}" ("op" "noop") []) (call "{keys.peer_id}" ("x" "y") []))'
                await arena.hand(arena.particle(keys, script, ttl_ms=20_000, reply_to=(address,)))

        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def slow_groups(arena: Arena) -> None:
    """First messages that offer nothing but the longest finite field for the exchange of keys."""
    hello = client_hello(FFDHE8192, b"\1" + arena.rng.randbytes(1_023), ALPN)

    async def throw(count: int) -> None:
        for _ in range(count):
            async with _connected(arena) as stream:
                await stream.send(hello)
                arena.receipts["said hello"] += 1
                await stream.receive()

    await _without_end(throw, (8,))


async def key_updates(arena: Arena) -> None:
    """Records that ask for new keys, at full speed: alone, or with a sign of life behind every hundredth."""
    ping = b"".join(encode_frame(Message(Kind.PING, 1)))

    async def throw(among: int) -> None:
        async with _connected(arena) as stream:
            keys = await _log_in(arena, stream)
            hello = encode_frame(Message(Kind.HELLO, body=encode(Hello((), 65_536, 131_072))))
            await stream.send(keys.seal(b"".join(hello), APPLICATION_DATA))
            while True:
                records = []
                for number in range(1, UPDATES + 1):
                    records.append(keys.update())
                    if number % among == 0:
                        records.append(keys.seal(ping, APPLICATION_DATA))
                await stream.send(b"".join(records))
                arena.receipts["updates"] += UPDATES
                await anyio.lowlevel.checkpoint()

    await _without_end(throw, (100, 2 * UPDATES))


async def _without_end(throw: Callable[[int], Awaitable[None]], ways: tuple[int, ...]) -> None:
    async def again(way: int) -> None:
        while True:
            with suppress(*ENDS):
                await throw(way)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for number in range(AT_ONCE):
            tasks.start_soon(again, ways[number % len(ways)])


@asynccontextmanager
async def _connected(arena: Arena) -> AsyncIterator[SocketStream]:
    async with await anyio.connect_tcp("127.0.0.1", arena.target.port) as stream:
        yield stream


async def _log_in(arena: Arena, stream: SocketStream, certificates: tuple[bytes, ...] = ()) -> RecordKeys:
    key = Ed25519PrivateKey.from_private_bytes(arena.rng.randbytes(32))
    with anyio.fail_after(5):
        return await log_in(stream, accepting=arena.target.peer_id, alpn=ALPN, key=key, certificates=certificates)


TLS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "slow-certificates": slow_certificates,
    "slow-hosts": slow_hosts,
    "slow-groups": slow_groups,
    "key-updates": key_updates,
}
"""By name."""
