"""Attacks by way of a relay: on what it keeps for clients that are away, and on what it passes on to clients that never answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Final

import anyio
import anyio.lowlevel
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, ParticleKey, encode_delivery
from fluvial.particles.notice import PROTOCOL as NOTICES
from fluvial.particles.notice import SignedNotice, make_notice
from fluvial.particles.receipt import PROTOCOL as PARTICLES
from fluvial.relaying.lease import make_lease
from fluvial.relaying.room import PROTOCOL as LEASES
from fluvial_transport_tcp.framing import Kind, Message, encode_frame

from tests.attacks.arena import GONE, Arena
from tests.attacks.questions import AGAIN_S, now_ms
from tests.plugins.transport_tcp.peers import Stranger
from tests.support.processes import NETWORK

DEAF: Final = 4
"""Clients that never answer."""
SENDERS: Final = 24
CLIENTS: Final = 48
"""Clients that come and go: fewer than a relay takes in at once."""
MEGABYTE: Final = 1_000_000

Make = Callable[[Arena, KeyPair, KeyPair], bytes]


async def _ask_for_a_lease(arena: Arena, keys: KeyPair, link: Stranger) -> None:
    lease = make_lease(keys, arena.target.peer_id, network=NETWORK, now_ms=now_ms())
    await link.say(Message(Kind.REQUEST, 1, LEASES, encode(lease)))


async def _stay_deaf(arena: Arena, keys: KeyPair) -> None:
    """Be a client that is there, takes what comes, and answers nothing."""
    while True:
        with suppress(*GONE, TimeoutError):
            async with arena.link(keys) as link, anyio.create_task_group() as both:

                async def read(link: Stranger = link) -> None:
                    while await link.hear() is not None:
                        pass

                both.start_soon(read)
                await _ask_for_a_lease(arena, keys, link)
                while True:
                    await link.say(Message(Kind.PING, 1))
                    await anyio.sleep(1)
        await anyio.sleep(AGAIN_S)


async def _flood(arena: Arena, protocol: str, payloads: Callable[[KeyPair], Iterator[bytes]]) -> None:
    """Request without waiting for answers, as much as the target reads."""
    while True:
        keys = arena.stranger()
        with suppress(*GONE, TimeoutError):
            async with arena.link(keys) as link, anyio.create_task_group() as both:

                async def read(link: Stranger = link, both: anyio.abc.TaskGroup = both) -> None:
                    while (message := await link.hear()) is not None:
                        why = message.body[:80].decode(errors="replace") if message.kind is Kind.ERROR else ""
                        arena.receipts[f"{message.kind.name.lower()} {why}".strip()] += 1
                    both.cancel_scope.cancel()

                both.start_soon(read)
                for number, payload in zip(count(), payloads(keys), strict=False):
                    frame = Message(Kind.REQUEST, number & 0xFFFFFFFF, protocol, payload)
                    await link.say_bytes(b"".join(encode_frame(frame)))
                    await anyio.lowlevel.checkpoint()
        await anyio.sleep(AGAIN_S)


def _delivery(arena: Arena, keys: KeyPair, client: KeyPair, script: str = "(null)") -> bytes:
    particle = arena.particle(keys, script, ttl_ms=60_000)
    return encode_delivery(
        Delivery(client.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")
    )


def _notice(arena: Arena, keys: KeyPair, client: KeyPair) -> bytes:
    key = ParticleKey(arena.rng.randbytes(32))
    notice = make_notice(key, keys.peer_id, "flow", "x" * 1_000, at_ms=now_ms())
    return encode(SignedNotice.sign(client.peer_id, notice, keys))


async def _to_the_deaf(arena: Arena, protocol: str, make: Make) -> None:
    """Whatever is passed on to them waits for an answer that never comes."""
    clients = [arena.stranger() for _ in range(DEAF)]

    def payloads(keys: KeyPair) -> Iterator[bytes]:
        while True:
            yield make(arena, keys, arena.rng.choice(clients))

    async with anyio.create_task_group() as tasks:
        for keys in clients:
            tasks.start_soon(_stay_deaf, arena, keys)
        await anyio.sleep(AGAIN_S)
        for _ in range(SENDERS):
            tasks.start_soon(_flood, arena, protocol, payloads)


async def absent_clients(arena: Arena) -> None:
    """A crowd of clients that are away: what comes for them fills their queues; when they come, it is handed over to nobody, over one connection after the other."""
    clients = [arena.stranger() for _ in range(CLIENTS)]

    async def come_and_go(keys: KeyPair) -> None:
        while True:
            with suppress(*GONE, TimeoutError):
                async with arena.link(keys) as first:
                    await _ask_for_a_lease(arena, keys, first)
                    await anyio.sleep(0.5)
                    async with arena.link(keys):  # takes its place, while what was begun over the first one goes on
                        await anyio.sleep(0.1)
                    await _fill(arena, clients)
            await anyio.sleep(AGAIN_S)

    async with anyio.create_task_group() as tasks:
        for keys in clients:
            tasks.start_soon(come_and_go, keys)


async def _fill(arena: Arena, clients: Sequence[KeyPair]) -> None:
    for _ in range(4):
        client, keys = arena.rng.choice(clients), arena.stranger()
        script = f'(ap "{arena.rng.randbytes(8).hex()}{"y" * (MEGABYTE - 1_000)}" x)'
        await arena.hand_over(PARTICLES, _delivery(arena, keys, client, script))


async def repeated_leases(arena: Arena) -> None:
    """Clients that renew their lease again and again: each is answered with some other peers."""

    def payloads(keys: KeyPair) -> Iterator[bytes]:
        lease = encode(make_lease(keys, arena.target.peer_id, network=NETWORK, now_ms=now_ms()))
        while True:
            yield lease

    async with anyio.create_task_group() as tasks:
        for _ in range(SENDERS):
            tasks.start_soon(_flood, arena, LEASES, payloads)


RELAYS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "deaf-clients": partial(_to_the_deaf, protocol=PARTICLES, make=_delivery),
    "deaf-noticed": partial(_to_the_deaf, protocol=NOTICES, make=_notice),
    "absent-clients": absent_clients,
    "repeated-leases": repeated_leases,
}
"""By name."""
