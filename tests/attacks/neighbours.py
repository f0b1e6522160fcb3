"""Attacks by neighbours: peers with addresses of their own, which the target's table takes in, asks, and hears all kinds of lies from."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import anyio
from anyio.abc import TaskGroup
from fluvial.addresses import Address, Contact
from fluvial.encoding import encode
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.identity import PeerId
from fluvial_dht_kademlia import wire
from fluvial_dht_kademlia.machine import messages

from tests.attacks.arena import Arena
from tests.attacks.questions import now_ms
from tests.plugins.transport_tcp.peers import StartPeer, TcpPeer
from tests.support.processes import NETWORK

LIARS: Final = 24
NAMED: Final = 60
"""Contacts of one answer."""
SLOW_S: Final = 8.0
PAUSE_S: Final = 0.5
LOOKUPS: Final = 8
PORTS: Final = (1, 9, 65_535)
"""Where nobody is."""

Lie: TypeAlias = Callable[[Arena, messages.DhtRequest], Awaitable[bytes]]


def _nobody(arena: Arena) -> Contact:
    peer = arena.stranger().peer_id
    host, port = f"127.0.0.{arena.rng.randint(1, 254)}", arena.rng.choice(PORTS)
    return Contact(peer, (Address.parse(f"/ip4/{host}/tcp/{port}").with_peer(peer),))


async def _name_nobodies(arena: Arena, request: messages.DhtRequest) -> bytes:
    """Endless peers, each nearer than the last, none of which is there."""
    contacts = tuple(_nobody(arena) for _ in range(NAMED))
    match request:
        case messages.FindPeers():
            return wire.encode_answer(messages.PeersFound(contacts))
        case messages.FindProviders():
            return wire.encode_answer(messages.ProvidersFound((), contacts))
        case _:
            return wire.encode_answer(messages.Pong())


async def _say_noise(arena: Arena, request: messages.DhtRequest) -> bytes:
    """What is no answer, or one to another question, or as long as a frame may be."""
    rng = arena.rng
    return rng.choice(
        (
            rng.randbytes(rng.choice((0, 10, 60_000))),
            bytes(4_000_000),
            encode([1, [[str(arena.target.peer_id), ["/ip4/127.0.0.1/tcp/0"] * 8]] * 90]),
            encode([2, [], [["x" * 64, []]] * 96]),
            encode([3, True, "\x1b" * 32]),
            encode([[]] * 20_000),
        )
    )


async def _let_wait(arena: Arena, request: messages.DhtRequest) -> bytes:
    """Answers that come late, and fail then."""
    await anyio.sleep(SLOW_S * arena.rng.random())
    raise RemoteProtocolError("not today")


async def _neighbourhood(arena: Arena, lie: Lie) -> None:
    """Liars introduce themselves again and again; somebody else has the target look for what is not there."""

    async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        if protocol != wire.PROTOCOL:
            return b""
        arena.receipts["asked"] += 1
        return await lie(arena, wire.decode_request(payload))

    async def introduce(liar: TcpPeer) -> None:
        ping = wire.encode_request(messages.Ping())
        while True:
            with suppress(FluvialError):
                await liar.transport.request(arena.target.contact, wire.PROTOCOL, ping, timeout_s=5)
                arena.receipts["introduced"] += 1
            await anyio.sleep(PAUSE_S)

    async def look() -> None:
        here = f'"{arena.target.peer_id}"'
        while True:
            body = "(null)"
            for _ in range(LOOKUPS):
                nobody = arena.stranger().peer_id
                call = arena.rng.choice(
                    (
                        f'(call {here} ("dht" "resolve") ["{nobody}"])',
                        f'(call {here} ("dht" "neighbourhood") ["{nobody}"])',
                        f'(call {here} ("dht" "providers") ["{now_ms()}"])',
                        f'(call "{nobody}" ("a" "b") [])',
                    )
                )
                body = f"(par (xor {call} (null)) {body})"
            await arena.give(arena.stranger(), body, ttl_ms=20_000)
            await anyio.sleep(PAUSE_S / 10)

    with tempfile.TemporaryDirectory() as folder:
        async with anyio.create_task_group() as tasks:
            for liar in await _started(arena, tasks, Path(folder), receive):
                tasks.start_soon(introduce, liar)
            tasks.start_soon(look)


async def _started(
    arena: Arena, tasks: TaskGroup, folder: Path, receive: Callable[[PeerId, str, bytes], Awaitable[bytes]]
) -> list[TcpPeer]:
    start = StartPeer(tasks, folder)
    return [
        await start(keys=arena.stranger(), receive=receive, network=NETWORK, quiet=True, dial_scope="any")
        for _ in range(LIARS)
    ]


NEIGHBOURS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "nobodies-named": partial(_neighbourhood, lie=_name_nobodies),
    "noise-of-neighbours": partial(_neighbourhood, lie=_say_noise),
    "slow-neighbours": partial(_neighbourhood, lie=_let_wait),
}
"""By name."""
