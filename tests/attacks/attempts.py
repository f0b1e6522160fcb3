"""The attacks: each does what a stranger can do, at full speed, until it is cancelled."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import anyio
from fluvial.identity import KeyPair, PeerId

from tests.attacks.arena import Arena
from tests.support.deliveries import answered, without_contents

Attack: TypeAlias = Callable[[Arena], Awaitable[None]]

AT_ONCE: Final = 8
"""Particles that the attacker has under way."""
EACH: Final = 4
"""Particles of each stranger of a crowd."""


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


async def _crowd(arena: Arena, script: Callable[[], str]) -> None:
    """Many strangers hand over scripts, each of them a few: none of them is heavy."""

    async def throw() -> None:
        while True:
            keys = _stranger(arena)
            for _ in range(EACH):
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
    """A megabyte of text in each script, none like another, by many strangers."""

    def script() -> str:
        return f'(call "{arena.target.peer_id}" ("op" "noop") ["{"y" * 1_000_000}{arena.rng.random()}"])'

    await _crowd(arena, script)


async def grow(arena: Arena) -> None:
    """A kilobyte of script that doubles a text sixteen times, and then waits as long as it may; by many strangers."""
    here = arena.target.peer_id

    def script() -> str:
        inner = f'(call "{here}" ("peer" "timeout") [100000])'
        for step in reversed(range(16)):
            inner = f'(seq (call "{here}" ("op" "concat_strings") [s{step} s{step}] s{step + 1}) {inner})'
        seed = arena.rng.randbytes(30).hex()
        return f'(seq (call "{here}" ("op" "identity") ["{seed}"] s0) {inner})'

    await _crowd(arena, script)


async def small(arena: Arena) -> None:
    """The smallest flows, as many as possible, each of another stranger."""
    await _crowd(arena, lambda: f'(call "{arena.target.peer_id}" ("op" "noop") [])')


async def repeats(arena: Arena) -> None:
    """The same four hundred kilobytes over and over, whole and with values left out, for a flow that waits."""
    here, keys = arena.target.peer_id, _stranger(arena)
    script = f"""
        (seq (call %init_peer_id% ("load" "large") [] large)
             (par (call "{here}" ("peer" "timeout") [100000])
                  (call "{here}" ("op" "noop") [large])))"""
    texts = [arena.rng.randbytes(10_000).hex() for _ in range(20)]
    particle = arena.particle(keys, script)
    whole = answered(particle, keys, texts)
    for data in itertools.cycle((whole, without_contents(whole), whole)):
        await arena.hand_over(particle, data)


ATTACKS: Final[Mapping[str, Attack]] = {
    "folds": folds,
    "nobodies": nobodies,
    "pauses": pauses,
    "refused": unreadable_scripts,
    "large-scripts": large_scripts,
    "grow": grow,
    "small": small,
    "repeats": repeats,
}
