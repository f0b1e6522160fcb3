"""Attacks by what is refused: each refusal must cost next to nothing, the log included."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import anyio
from fluvial.identity import KeyPair
from fluvial.particle import Delivery
from msgspec.structs import replace

from tests.attacks.arena import AT_ONCE, Arena

Make = Callable[[Arena, KeyPair], Delivery]


def _delivery(arena: Arena, keys: KeyPair, script: str | None = None, **fields: object) -> Delivery:
    text = script or f'(call "{arena.target.peer_id}" ("op" "noop") ["{arena.rng.random()}"])'
    particle = arena.particle(keys, text, **fields)  # type: ignore[arg-type]  # as the callers say
    to = arena.target.peer_id.public_key
    return Delivery(to, 1, particle.header, particle.signature, particle.script, b"")


def unreadable(arena: Arena, keys: KeyPair) -> Delivery:
    """A script that does not parse."""
    return _delivery(arena, keys, "(" * arena.rng.randint(1, 200))


def expired(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle whose time is over, or has not come."""
    offset_ms = arena.rng.choice((-200_000, 600_000))
    return _delivery(arena, keys, timestamp_ms=int(time.time() * 1_000) + offset_ms, ttl_ms=60_000)


def too_long_lived(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle that wants to live for a year."""
    return _delivery(arena, keys, ttl_ms=31_536_000_000)


def badly_signed(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle with a signature of somebody else."""
    return replace(_delivery(arena, keys), signature=arena.rng.randbytes(64))


def of_another_network(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle of another network."""
    return _delivery(arena, keys, network="elsewhere")


def broken_data(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle with data that are none."""
    return replace(_delivery(arena, keys), data=arena.rng.randbytes(1_000))


def for_others(arena: Arena, keys: KeyPair) -> Delivery:
    """A particle for a client of this relay that is not there."""
    return replace(_delivery(arena, keys), to=arena.stranger().peer_id.public_key)


async def _throw(arena: Arena, make: Make, *, fresh: bool) -> None:
    async def throw() -> None:
        keys = arena.stranger()
        while True:
            await arena.deliver(make(arena, arena.stranger() if fresh else keys))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def replays(arena: Arena) -> None:
    """Particles that were finished, again and again."""
    deliveries = [_delivery(arena, arena.stranger()) for _ in range(50)]

    async def throw() -> None:
        while True:
            await arena.deliver(arena.rng.choice(deliveries))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


REFUSALS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "refused": partial(_throw, make=unreadable, fresh=False),
    "refused-of-many": partial(_throw, make=unreadable, fresh=True),
    **{
        make.__name__.replace("_", "-"): partial(_throw, make=make, fresh=True)
        for make in (expired, too_long_lived, badly_signed, of_another_network, broken_data, for_others)
    },
    "replays": replays,
}
"""By name."""
