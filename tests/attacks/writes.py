"""Attacks on the disk: many strangers who write as much as they may, and one who says the same over and over."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio

from tests.attacks.arena import AT_ONCE, Arena
from tests.support.deliveries import answered, without_contents

EACH: Final = 4
"""Particles of each stranger of a crowd."""


async def _crowd(arena: Arena, script: Callable[[], str]) -> None:
    """Many strangers hand over scripts, each of them a few: none of them is heavy."""

    async def throw() -> None:
        while True:
            keys = arena.stranger()
            for _ in range(EACH):
                await arena.give(keys, script())

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def megabytes(arena: Arena) -> None:
    """A megabyte of text in each script, none like another."""

    def script() -> str:
        return f'(call "{arena.target.peer_id}" ("op" "noop") ["{"y" * 1_000_000}{arena.rng.random()}"])'

    await _crowd(arena, script)


async def grow(arena: Arena) -> None:
    """A kilobyte of script that doubles a text sixteen times, and then waits as long as it may."""
    here = arena.target.peer_id

    def script() -> str:
        inner = f'(call "{here}" ("peer" "timeout") [100000])'
        for step in reversed(range(16)):
            inner = f'(seq (call "{here}" ("op" "concat_strings") [s{step} s{step}] s{step + 1}) {inner})'
        return f'(seq (call "{here}" ("op" "identity") ["{arena.rng.randbytes(30).hex()}"] s0) {inner})'

    await _crowd(arena, script)


async def repeats(arena: Arena) -> None:
    """The same four hundred kilobytes over and over, whole and with values left out, for a flow that waits."""
    here, keys = arena.target.peer_id, arena.stranger()
    script = f"""
        (seq (call %init_peer_id% ("load" "large") [] large)
             (par (call "{here}" ("peer" "timeout") [100000])
                  (call "{here}" ("op" "noop") [large])))"""
    texts = [arena.rng.randbytes(10_000).hex() for _ in range(20)]
    particle = arena.particle(keys, script)
    whole = answered(particle, keys, texts)
    for data in itertools.cycle((whole, without_contents(whole), whole)):
        await arena.hand(particle, data)


WRITES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "megabytes": megabytes,
    "grow": grow,
    "repeats": repeats,
}
