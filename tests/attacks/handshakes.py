"""Attacks by what comes before messages, and below them: handshakes that stop, handshakes without end, records of one byte, ids that repeat."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import count
from typing import Final

import anyio
import anyio.lowlevel
from fluvial.encoding import encode
from fluvial.services.builtin import PING_PROTOCOL
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handshake import Hello
from fluvial_transport_tcp.secure import Credentials

from tests.attacks.arena import AT_ONCE, GONE, Arena
from tests.attacks.connections import connected
from tests.support.processes import NETWORK

HALF_OPEN: Final = 1_000
ADDRESSES: Final = 10_000
"""In one hello."""
HELLO_BYTES: Final = 700
"""About what a handshake has, up to its hello."""


async def half_open(arena: Arena) -> None:
    """A thousand connections, each of which stops at another step of the handshake and stays."""

    credentials = Credentials(arena.stranger(), NETWORK)

    async def stay() -> None:
        while True:
            with suppress(*GONE), socket.socket() as sock:
                sock.setblocking(False)
                await connected(sock, arena.target.port)
                await _shake_until(arena, credentials, sock, arena.rng.randint(0, 3 * HELLO_BYTES))
                arena.receipts["half open"] += 1
                while True:  # until the other side ends it; what it says meanwhile is not answered
                    await anyio.wait_readable(sock)
                    if not sock.recv(65_536):
                        break
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for _ in range(HALF_OPEN):
            tasks.start_soon(stay)
            await anyio.sleep(0.002)


async def _shake_until(arena: Arena, credentials: Credentials, sock: socket.socket, room: int) -> None:
    """The beginning of a handshake and of a hello, up to so many bytes."""
    session = credentials.dial(arena.target.peer_id)
    hello = b"".join(encode_frame(Message(Kind.HELLO, body=encode(Hello((), 65_536, 131_072)))))
    said = 0
    with anyio.move_on_after(5):
        while said < room:
            if session.handshake() is not None and hello:
                data, hello = session.seal(hello), b""
            else:
                data = session.outgoing()
            if data:
                said += sock.send(data[: room - said])
            else:
                await anyio.wait_readable(sock)
                if not (heard := sock.recv(65_536)):
                    return
                session.feed(heard)


async def handshakes(arena: Arena) -> None:
    """Whole handshakes, each with another key, one after the other: what they cost the target is more than what they cost the attacker."""

    async def come_and_go() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link():
                    arena.receipts["shaken"] += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(2 * AT_ONCE):
            tasks.start_soon(come_and_go)


async def long_hellos(arena: Arena) -> None:
    """Hellos with ten thousand addresses, and as many of one kind as fit."""
    many = tuple(f"/ip4/10.{number >> 8 & 255}.{number & 255}.1/tcp/4001" for number in range(ADDRESSES))

    async def shake(size: int) -> None:
        while True:
            with suppress(*GONE, TimeoutError), socket.socket() as sock:
                sock.setblocking(False)
                await connected(sock, arena.target.port)
                session = Credentials(arena.stranger(), NETWORK).dial(arena.target.peer_id)
                while session.handshake() is None:
                    if data := session.outgoing():
                        await _send(sock, data)
                    else:
                        await anyio.wait_readable(sock)
                        session.feed(sock.recv(65_536))
                await _send(sock, session.outgoing())
                frame = b"".join(encode_frame(Message(Kind.HELLO, body=encode(Hello(many[:size], 65_536, 131_072)))))
                await _send(sock, session.seal(frame))
                arena.receipts["said hello"] += 1
                await anyio.wait_readable(sock)
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        for number in range(AT_ONCE):
            tasks.start_soon(shake, ADDRESSES if number % 2 else 60)


async def _send(sock: socket.socket, data: bytes) -> None:
    while data:
        await anyio.wait_writable(sock)
        data = data[sock.send(data) :]


async def small_records(arena: Arena) -> None:
    """Frames at full speed, each byte of them encrypted by itself."""
    frames = b"".join(b"".join(encode_frame(Message(Kind.REQUEST, one, PING_PROTOCOL, b"x" * 40))) for one in range(20))

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link, anyio.create_task_group() as both:

                    async def read() -> None:
                        while await link.hear() is not None:
                            arena.receipts["heard"] += 1
                        both.cancel_scope.cancel()

                    both.start_soon(read)
                    while True:
                        records = [link.link.session.seal(frames[at : at + 1]) for at in range(len(frames))]
                        await link.link.stream.send(b"".join(records))
                        arena.receipts["records"] += len(records)
                        await anyio.lowlevel.checkpoint()
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(stay)


async def same_requests(arena: Arena) -> None:
    """Requests that all have one id, over connections whose answers are read and never fit."""

    async def stay() -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link() as link, anyio.create_task_group() as both:

                    async def read() -> None:
                        while await link.hear() is not None:
                            arena.receipts["heard"] += 1
                        both.cancel_scope.cancel()

                    both.start_soon(read)
                    for number in count():
                        await link.say(Message(Kind.REQUEST, 1, PING_PROTOCOL, b"x" * (number % 100)))
            await anyio.sleep(0.2)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(stay)


HANDSHAKES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "half-open": half_open,
    "handshakes": handshakes,
    "long-hellos": long_hellos,
    "small-records": small_records,
    "same-requests": same_requests,
}
"""By name."""
