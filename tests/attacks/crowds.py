"""Attacks by crowds: many names over many connections, several kinds at once, floods when the target is there again after its restart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from itertools import count
from typing import Final, TypeAlias

import anyio
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL
from fluvial_transport_tcp.framing import Kind, Message, encode_frame

from tests.attacks.arena import GONE, Arena
from tests.attacks.values import called, sequence, text
from tests.plugins.transport_tcp.peers import Stranger

SENDERS: Final = 64
CROWD: Final = 200
AGAIN_S: Final = 0.2
KEPT: Final = 2_000
"""Deliveries that are kept to be handed over once more."""
TTL_MS: Final = 119_000

Make: TypeAlias = Callable[[Arena], str]


def _delivered(arena: Arena, particle: Particle, data: bytes = b"") -> bytes:
    to = arena.target.peer_id.public_key
    return encode_delivery(Delivery(to, 1, particle.header, particle.signature, particle.script, data))


async def _read(arena: Arena, link: Stranger, both: anyio.abc.TaskGroup) -> None:
    with suppress(*GONE, TimeoutError):
        while (message := await link.hear()) is not None:
            arena.receipts[message.kind.name.lower()] += 1
    both.cancel_scope.cancel()


async def _send(arena: Arena, made: Callable[[], bytes], pause_s: float) -> None:
    """Over one connection after the other hand over what is made, without waiting for answers."""
    while True:
        with suppress(*GONE, TimeoutError):
            async with arena.link() as link, anyio.create_task_group() as both:
                both.start_soon(_read, arena, link, both)
                for number in count():
                    await link.say_bytes(b"".join(encode_frame(Message(Kind.REQUEST, number, PROTOCOL, made()))))
                    await anyio.sleep(pause_s)
        await anyio.sleep(AGAIN_S)


async def _many_senders(arena: Arena, make: Make) -> None:
    """Each particle is of a new initiator, over one of many connections."""

    def made() -> bytes:
        return _delivered(arena, arena.particle(arena.stranger(), make(arena), ttl_ms=TTL_MS))

    async with anyio.create_task_group() as tasks:
        for _ in range(SENDERS):
            tasks.start_soon(_send, arena, made, 0.05)


def honest_looking(arena: Arena) -> str:
    """What honest flows look like: over both peers, with a pause."""
    return sequence(
        called(arena, "op", "concat_strings", '"a" "b"', "x"),
        f'(call "{arena.other.peer_id}" ("op" "concat_strings") [x "c"] y)',
        called(arena, "peer", "timeout", f"{arena.rng.choice((1, 10, 3_000))} y", "z"),
        f'(call "{arena.other.peer_id}" ("op" "noop") [z])',
    )


def slow_fill(arena: Arena) -> str:
    """Something that stays until its time is over, with a few kilobytes."""
    return sequence(
        *text(arena, 6, of=arena.rng.randbytes(32).hex()),
        f'(par {called(arena, "peer", "timeout", "110000 s", "z")} (call "{arena.stranger().peer_id}" ("a" "b") [s]))',
    )


def to_the_other(arena: Arena) -> str:
    """Much work for the other peer, brought there by the target."""
    there = f'"{arena.other.peer_id}"'
    inner = f'(call {there} ("op" "identity") [i] $s)'
    return sequence(
        called(arena, "op", "array", " ".join(["1"] * 100), "xs"),
        *text(arena, arena.rng.choice((1, 12))),
        f'(call {there} ("op" "identity") [s] t)',
        f"(fold xs i (par {inner} (next i)))",
        "(fold xs j (par (fold $s k (par (ap k $t) (next k))) (next j)))",
    )


async def replays_after_the_kill(arena: Arena) -> None:
    """Whatever was accepted is handed over again, most of all when the target has just been started again."""
    kept: list[bytes] = []

    def made() -> bytes:
        if len(kept) < KEPT or arena.rng.random() < 0.1:
            script = arena.rng.choice((honest_looking, slow_fill))(arena)
            particle = arena.particle(arena.stranger(), script, ttl_ms=TTL_MS)
            one = _delivered(arena, particle)
            if len(kept) < KEPT:
                kept.append(one)
            return one
        return arena.rng.choice(kept)

    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(_send, arena, made, 0.01)


async def waves(arena: Arena) -> None:
    """A crowd connects, and at one moment everybody hands over several particles; all go at one moment, and come again: so also when the target is there again."""

    async def connected(stack: AsyncExitStack, links: list[Stranger]) -> None:
        with suppress(*GONE, TimeoutError):
            links.append(await stack.enter_async_context(arena.link()))

    async def burst(link: Stranger, frames: bytes) -> None:
        with suppress(*GONE, TimeoutError):
            await link.say_bytes(frames)
            arena.receipts["bursts"] += 1

    while True:
        links: list[Stranger] = []
        async with AsyncExitStack() as stack:
            for _ in range(CROWD):
                await connected(stack, links)
            frames = [_frames(arena, [honest_looking(arena) for _ in range(4)]) for _ in links]
            async with anyio.create_task_group() as tasks:
                for link, one in zip(links, frames, strict=True):
                    tasks.start_soon(burst, link, one)
            await anyio.sleep(0.5)
        await anyio.sleep(AGAIN_S if links else 0.01)


def _frames(arena: Arena, scripts: Sequence[str]) -> bytes:
    made = [_delivered(arena, arena.particle(arena.stranger(), one, ttl_ms=TTL_MS)) for one in scripts]
    return b"".join(
        b"".join(encode_frame(Message(Kind.REQUEST, number, PROTOCOL, one))) for number, one in enumerate(made)
    )


CROWDS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "many-senders": partial(_many_senders, make=honest_looking),
    "slow-fills": partial(_many_senders, make=slow_fill),
    "work-for-the-other": partial(_many_senders, make=to_the_other),
    "replays-after-the-kill": replays_after_the_kill,
    "waves": waves,
}
"""By name."""
