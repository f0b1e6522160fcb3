"""Attacks on memory: each has the target keep as much as it can be made to, in another form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

import anyio
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import FRAME_BYTES, Item, Result, Step, Taken
from fluvial.air.data.wire import WireData, encode_data
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.particle import Particle

from tests.attacks.arena import AT_ONCE, Arena

Script: TypeAlias = Callable[[], str]

EMPTY_ARRAY: Final = encode([])
PAUSE_MS: Final = 110_000
"""How long a particle is kept alive by a timer."""


async def flood(arena: Arena, script: Script, keys: Callable[[], KeyPair]) -> None:
    """Hand over scripts, so many at once."""

    async def throw() -> None:
        while True:
            await arena.give(keys(), script())

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


def kept(arena: Arena, body: str) -> str:
    """Something that stays in memory as long as a timer runs beside it."""
    return f'(par (call "{arena.target.peer_id}" ("peer" "timeout") [{PAUSE_MS} "{arena.rng.random()}"]) {body})'


def numbers(arena: Arena, count: int, body: str) -> str:
    """``body`` with so many numbers in ``xs``."""
    listed = " ".join(["1"] * count)
    return f'(seq (call "{arena.target.peer_id}" ("op" "array") [{listed}] xs) {body})'


def nested(depth: int, leaf: str = "(null)") -> str:
    """Folds over ``xs`` inside each other."""
    for level in range(depth):
        leaf = f"(fold xs i{level} (par {leaf} (next i{level})))"
    return leaf


# --- what runs leave behind


def live_folds(arena: Arena) -> str:
    """Nested folds just below and above what one particle may hold, kept alive."""
    return numbers(arena, arena.rng.randint(38, 56), kept(arena, nested(3)))


def waiting_calls(arena: Arena) -> str:
    """Ten thousand calls of another peer that never come back."""
    nobody = arena.stranger().peer_id
    return numbers(arena, 100, kept(arena, nested(2, f'(call "{nobody}" ("a" "b") [i0 i1])')))


def canons(arena: Arena) -> str:
    """The same thousand elements fixed again and again."""
    here = arena.target.peer_id
    fill = "(fold xs i (seq (ap i $s) (next i)))"
    return numbers(
        arena, 900, f"(seq {fill} {kept(arena, f'(fold xs j (par (canon {chr(34)}{here}{chr(34)} $s #c) (next j)))')})"
    )


def maps(arena: Arena) -> str:
    """The same thousand pairs as an object again and again."""
    here = f'"{arena.target.peer_id}"'
    fill = '(fold xs i (seq (ap ("k" i) %m) (next i)))'
    return numbers(arena, 900, f"(seq {fill} {kept(arena, f'(fold xs j (par (canon {here} %m #%c) (next j)))')})")


def long_errors(arena: Arena) -> str:
    """Errors with half a megabyte of text each."""
    text = "y" * 500_000
    body = f'(par (fail 1 "{arena.rng.random()}") (fold xs i (par (xor (match big.$.nothing 1 (null)) (ap :error: $errors)) (next i))))'
    return numbers(arena, 900, f'(seq (ap "{text}" big) {kept(arena, body)})')


def doubled_values(arena: Arena) -> str:
    """Arrays of arrays of arrays, doubled as often as a result may be, kept alive."""
    here, body = arena.target.peer_id, "(null)"
    for step in reversed(range(19)):
        body = f'(seq (call "{here}" ("op" "array") [x{step} x{step}] x{step + 1}) {body})'
    return kept(arena, f'(seq (call "{here}" ("op" "array") ["{arena.rng.random()}"] x0) {body})')


def dense_scripts(arena: Arena) -> str:
    """As many instructions as a script may have."""
    body = "(null)"
    for _ in range(16):
        body = f"(par {body} {body})"
    return kept(arena, body)


def long_scripts(arena: Arena) -> str:
    """A megabyte of text in each script."""
    return kept(arena, f'(ap "{"y" * 1_000_000}{arena.rng.random()}" x)')


def small(arena: Arena) -> str:
    """As little as possible, kept alive."""
    return kept(arena, "(null)")


SCRIPTS: Final[Mapping[str, Callable[[Arena], str]]] = {
    "live-folds": live_folds,
    "waiting-calls": waiting_calls,
    "canons": canons,
    "maps": maps,
    "long-errors": long_errors,
    "doubled-values": doubled_values,
    "dense-scripts": dense_scripts,
    "long-scripts": long_scripts,
    "small": small,
}


async def _of_one(arena: Arena, make: Callable[[Arena], str]) -> None:
    keys = arena.stranger()
    await flood(arena, lambda: make(arena), lambda: keys)


async def _of_many(arena: Arena, make: Callable[[Arena], str]) -> None:
    await flood(arena, lambda: make(arena), lambda: arena.stranger())


# --- what comes with deliveries


def _expecting(arena: Arena) -> Particle:
    """A particle that waits for its initiator."""
    keys = arena.stranger()
    return arena.particle(keys, kept(arena, f'(call "{keys.peer_id}" ("a" "b") [] x)'))


async def dense_values(arena: Arena) -> None:
    """Eight megabytes of arrays without anything in them."""

    async def throw() -> None:
        while True:
            count = arena.rng.randint(2_000_000, 8_000_000)
            array = b"\xdd" + count.to_bytes(4, "big") + EMPTY_ARRAY * count
            await arena.hand(_expecting(arena), encode(WireData((None,))).replace(encode(None), array))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(throw)


async def ever_more_batches(arena: Arena) -> None:
    """One particle after another grows by ever more batches, until it is taken no more."""
    while True:
        particle = _expecting(arena)
        for _ in range(60):
            await arena.hand(particle, _batch(arena, particle, 2_000))


def _batch(arena: Arena, particle: Particle, count: int) -> bytes:
    """A batch of somebody that is full of facts about calls that there are not, with a value each."""
    keys = arena.stranger()
    values = [f"{arena.rng.random()}{number}" for number in range(count)]
    items: list[Item] = [Step()]
    for number, value in enumerate(values):
        items.append(Result(arena.rng.randbytes(FRAME_BYTES), number, "a", "b", (), content_id(value)))
        items.append(Taken(arena.rng.randbytes(FRAME_BYTES), number))
    batch = Batch.seal(particle.key, keys.peer_id, items, keys.sign)
    return encode_data([batch], {content_id(value): value for value in values})


HOARDS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    **{name: partial(_of_one, make=make) for name, make in SCRIPTS.items()},
    "many-initiators": partial(_of_many, make=live_folds),
    "many-small": partial(_of_many, make=small),
    "dense-values": dense_values,
    "batches": ever_more_batches,
}
"""By name."""
