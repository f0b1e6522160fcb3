"""Attacks by connections: resets at every step, crowds of fresh keys, silence, messages that never end, and peers that never read."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import anyio
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.particles.receipt import PROTOCOL
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handshake import Hello
from fluvial_transport_tcp.secure import Credentials

from tests.attacks.arena import AT_ONCE, GONE, Arena
from tests.attacks.values import sequence, text
from tests.support.processes import NETWORK

FRESH_KEYS: Final = 1_100
SILENT: Final = 500
UNFINISHED: Final = 80
DEAF: Final = 60
TRICKLES: Final = 200
LONG_BYTES: Final = 8_000_000
LINGER_NOT: Final = b"\1\0\0\0\0\0\0\0"
"""SO_LINGER for a reset in place of an end."""


async def resets(arena: Arena) -> None:
    """A handshake, a hello and a request, broken off at a random byte: by a reset, an end, or an end of one direction."""

    async def throw() -> None:
        while True:
            with suppress(*GONE):
                await _broken_off(arena)
            arena.receipts["broken off"] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def _broken_off(arena: Arena) -> None:
    rng, session = arena.rng, Credentials(arena.stranger(), NETWORK).dial(arena.target.peer_id)
    room = rng.randint(0, 6_000)
    messages = [
        Message(Kind.HELLO, body=encode(Hello((), 65_536, 131_072))),
        *(Message(Kind.REQUEST, number, PROTOCOL, rng.randbytes(1_000)) for number in range(3)),
    ]
    with socket.socket() as sock:
        sock.setblocking(False)
        await connected(sock, arena.target.port)
        said = 0
        with anyio.move_on_after(2):
            while said < room:
                if session.handshake() is not None and messages:
                    data = session.seal(b"".join(encode_frame(messages.pop(0))))
                else:
                    data = session.outgoing()
                said += sock.send(data[: room - said]) if data else 0
                if not messages:
                    break
                if not data:
                    await anyio.wait_readable(sock)
                    if not (heard := sock.recv(65_536)):
                        break
                    session.feed(heard)
        how = rng.randrange(3)
        if how == 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        elif how == 1:
            sock.shutdown(socket.SHUT_WR)
            await anyio.sleep(0.1)


async def connected(sock: socket.socket, port: int) -> None:
    """Connect a socket that does not block to a port of this machine; raises OSError."""
    with suppress(BlockingIOError):
        sock.connect(("127.0.0.1", port))
    await anyio.wait_writable(sock)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, "not connected")


async def fresh_keys(arena: Arena) -> None:
    """As many peers as the target has places, and more, each with a key of its own; who is put out comes again."""

    async def stay() -> None:
        while True:
            with suppress(*GONE):
                async with arena.link() as link:
                    while await link.hear() is not None:
                        pass
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as tasks:
        for _ in range(FRESH_KEYS):
            tasks.start_soon(stay)
            await anyio.sleep(0.002)


async def silence(arena: Arena) -> None:
    """Connections on which nothing is ever said."""

    async def stay() -> None:
        while True:
            with suppress(*GONE), socket.socket() as sock:
                sock.setblocking(False)
                await connected(sock, arena.target.port)
                arena.receipts["silent"] += 1
                await anyio.wait_readable(sock)
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks:
        for _ in range(SILENT):
            tasks.start_soon(stay)


async def unfinished(arena: Arena) -> None:
    """Long messages of which the last tenth never comes."""
    data = b"".join(encode_frame(Message(Kind.REQUEST, 1, PROTOCOL, bytes(LONG_BYTES))))
    begun = data[: LONG_BYTES * 9 // 10]

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link:
                    for start in range(0, len(begun), 65_536):
                        await link.say_bytes(begun[start : start + 65_536])
                    arena.receipts["begun"] += 1
                    while await link.hear() is not None:
                        pass
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as tasks:
        for _ in range(UNFINISHED):
            tasks.start_soon(stay)


async def trickles(arena: Arena) -> None:
    """Frames that come byte by byte, on many connections, so that each is alive."""

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link:
                    arena.receipts["begun"] += 1
                    for byte in b"".join(encode_frame(Message(Kind.REQUEST, 1, PROTOCOL, bytes(60_000)))):
                        await link.say_bytes(bytes([byte]))
                        await anyio.sleep(0.05)
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as tasks:
        for _ in range(TRICKLES):
            tasks.start_soon(stay)
            await anyio.sleep(0.005)


async def deaf(arena: Arena) -> None:
    """Requests without end on connections whose answers are never read."""

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link:
                    number = 0
                    while True:
                        number += 1
                        await link.say(Message(Kind.REQUEST, number, PROTOCOL, arena.rng.randbytes(200)))
                        arena.receipts["asked"] += 1
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for _ in range(40):
            tasks.start_soon(stay)


async def deaf_receivers(arena: Arena) -> None:
    """Flows send megabytes to dozens of connected peers that never read what comes."""
    receivers = [arena.stranger() for _ in range(DEAF)]

    async def stay(keys: KeyPair) -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as link:
                    # So that the target sees that somebody is there.
                    while True:
                        await link.say(Message(Kind.PING, 1))
                        await anyio.sleep(1)
            await anyio.sleep(0.2)

    async def throw() -> None:
        while True:
            sends = "(null)"
            for keys in receivers:
                sends = f'(par (call "{keys.peer_id}" ("a" "b") [s]) {sends})'
            await arena.give(arena.stranger(), sequence(*text(arena, 16), sends), ttl_ms=60_000)
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for keys in receivers:
            tasks.start_soon(stay, keys)
        for _ in range(2):
            tasks.start_soon(throw)


CONNECTIONS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "resets": resets,
    "fresh-keys": fresh_keys,
    "silence": silence,
    "unfinished": unfinished,
    "trickles": trickles,
    "deaf": deaf,
    "deaf-receivers": deaf_receivers,
}
"""By name."""
