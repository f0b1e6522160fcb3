"""The attacks: each does what a stranger can do, at full speed, until it is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import anyio
from fluvial.identity import KeyPair, PeerId

from tests.attacks.arena import Arena
from tests.attacks.hoards import HOARDS

Attack: TypeAlias = Callable[[Arena], Awaitable[None]]

AT_ONCE: Final = 8
"""Particles that the attacker has under way."""


def _stranger(arena: Arena) -> KeyPair:
    return KeyPair.from_secret(arena.rng.randbytes(32))


async def _flood(arena: Arena, script: Callable[[], str]) -> None:
    """One stranger hands over scripts."""
    keys = _stranger(arena)

    async def throw() -> None:
        while True:
            await arena.give(keys, script())

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def folds(arena: Arena) -> None:
    """Four hundred bytes of nested folds: a million steps of the machine each."""
    here = arena.target.peer_id

    def script() -> str:
        inner = "(null)"
        for depth in range(3):
            inner = f"(fold xs i{depth} (par {inner} (next i{depth})))"
        elements = " ".join(["1"] * arena.rng.randint(60, 99))
        return f'(seq (call "{here}" ("op" "array") [{elements}] xs) {inner})'

    await _flood(arena, script)


async def nobodies(arena: Arena) -> None:
    """Scripts that name thousands of peers that do not exist."""

    def scattered(peers: list[PeerId]) -> str:
        if len(peers) == 1:
            return f'(call "{peers[0]}" ("a" "b") [])'
        half = len(peers) // 2
        return f"(par {scattered(peers[:half])} {scattered(peers[half:])})"

    for _ in range(3):
        peers = [PeerId.from_public_key(arena.rng.randbytes(32)) for _ in range(5_000)]
        await arena.give(_stranger(arena), scattered(peers))
    await anyio.sleep_forever()


async def pauses(arena: Arena) -> None:
    """Particles that only wait."""
    here = arena.target.peer_id
    await _flood(arena, lambda: f'(call "{here}" ("peer" "timeout") [{arena.rng.randint(50_000, 100_000)}])')


async def unreadable_scripts(arena: Arena) -> None:
    """Scripts that do not parse, which are refused one by one."""
    await _flood(arena, lambda: "(" * arena.rng.randint(1, 200))


async def large_scripts(arena: Arena) -> None:
    """A quarter of a megabyte of instructions in each script, none like another."""

    def script() -> str:
        return (
            "(seq (null) " * 64
            + f'(call "{arena.target.peer_id}" ("op" "noop") ["{"y" * 250_000}{arena.rng.random()}"])'
            + ")" * 64
        )

    keys = _stranger(arena)
    while True:
        await arena.give(keys, script(), ttl_ms=5_000)


ATTACKS: Final[Mapping[str, Attack]] = {
    "folds": folds,
    "nobodies": nobodies,
    "pauses": pauses,
    "refused": unreadable_scripts,
    "large-scripts": large_scripts,
    **HOARDS,
}
