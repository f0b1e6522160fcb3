"""Attacks by values that are large, dense, deep or handed over many times: each step of the script costs the target as much as it can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import anyio

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.hoards import numbers


def called(arena: Arena, service: str, function: str, arguments: str, output: str) -> str:
    """A call of the target."""
    return f'(call "{arena.target.peer_id}" ("{service}" "{function}") [{arguments}] {output})'


def sequence(*instructions: str) -> str:
    """One after the other."""
    *before, last = instructions
    for one in reversed(before):
        last = f"(seq {one} {last})"
    return last


def text(arena: Arena, doublings: int, *, of: str = "") -> list[str]:
    """Instructions after which ``s`` is a text of ``of`` or of noise, doubled so often."""
    steps = [f'(ap "{of or arena.rng.randbytes(16).hex()}" s0)']
    steps += [
        called(arena, "op", "concat_strings", f"s{step} s{step}", f"s{step + 1}" if step < doublings - 1 else "s")
        for step in range(doublings)
    ]
    return steps


def tree(arena: Arena, doublings: int, name: str) -> list[str]:
    """Instructions after which ``name`` is an array of two arrays of two arrays and so on."""
    steps = [called(arena, "op", "array", f'"{arena.rng.randbytes(4).hex()}"', f"{name}0")]
    steps += [
        called(
            arena,
            "op",
            "array",
            f"{name}{step} {name}{step}",
            f"{name}{step + 1}" if step < doublings - 1 else name,
        )
        for step in range(doublings)
    ]
    return steps


def repeated_arguments(arena: Arena) -> str:
    """Two megabytes of text, thousands of times in one call."""
    function = arena.rng.choice(('"op" "array"', '"op" "concat_strings"', '"debug" "stringify"', '"json" "obj"'))
    service, name = (word.strip('"') for word in function.split())
    return sequence(*text(arena, 16), called(arena, service, name, " ".join(["s"] * 6_000), "y"))


def repeated_arrays(arena: Arena) -> str:
    """An array of a hundred thousand elements, thousands of times in one call."""
    listed = [called(arena, "op", "array", " ".join(["1"] * 100), "a0")]
    listed += [called(arena, "op", "concat", f"a{step} a{step}", f"a{step + 1}") for step in range(10)]
    name = arena.rng.choice(("array", "concat", "noop"))
    return sequence(*listed, called(arena, "op", name, " ".join(["a10"] * 6_000), "y"))


def parse_bombs(arena: Arena) -> str:
    """A megabyte of text that is an array of arrays without anything in them."""
    comma = f"[],{arena.rng.randint(0, 9)}," + "[],[]," * 2
    return sequence(
        *text(arena, 16, of=comma),
        called(arena, "op", "concat_strings", '"[" s "0]"', "t"),
        numbers(arena, 100, f"(fold xs i (par {called(arena, 'json', 'parse', 't', 'y')} (next i)))"),
    )


def deep_parses(arena: Arena) -> str:
    """Texts of brackets: deeper than anybody needs, and just as deep as is allowed with much at the bottom."""
    opened, closed = "[" * 127, "]" * 127
    if arena.rng.random() < 0.5:
        return sequence(*text(arena, 17, of="[[[[[[[["), called(arena, "json", "parse", "s", "y"))
    return sequence(
        *text(arena, 15, of=f"[{arena.rng.randint(0, 9)}],[],1,"),
        called(arena, "op", "concat_strings", f'"{opened}" s "0{closed}"', "t"),
        called(arena, "json", "parse", "t", "y"),
        called(arena, "op", "identity", "y", "z"),
    )


def matches(arena: Arena) -> str:
    """Two large values that are equal, compared nine hundred times."""
    return sequence(
        *tree(arena, 16, "v"),
        called(arena, "op", "identity", "v", "w"),
        numbers(arena, 900, "(fold xs i (par (xor (match v w (never)) (null)) (next i)))"),
    )


def large_calls(arena: Arena) -> str:
    """Hundreds of calls at once, each of which goes through a large value."""
    body = arena.rng.choice(
        (
            called(arena, "op", "identity", "v", "y"),
            called(arena, "debug", "stringify", "v", "y"),
            called(arena, "array", "slice", "v 0 1", "y"),
            called(arena, "json", "stringify", "v", "y"),
        )
    )
    return sequence(*tree(arena, 15, "v"), numbers(arena, 900, f"(fold xs i (par {body} (next i)))"))


def large_parts(arena: Arena) -> str:
    """Parts of a large value, and parts of these, named, joined, fixed and looked at again and again."""
    here = f'"{arena.target.peer_id}"'
    body = sequence("(ap v.$.[0].[0] $s)", f"(canon {here} $s #c)", called(arena, "op", "array_length", "#c", "y"))
    return sequence(*tree(arena, 15, "v"), numbers(arena, 300, f"(fold xs i (par {body} (next i)))"))


def digests(arena: Arena) -> str:
    """Two megabytes of text, hashed nine hundred times."""
    body = called(arena, "op", "sha256_string", "s", "y")
    return sequence(*text(arena, 16), numbers(arena, 900, f"(fold xs i (par {body} (next i)))"))


def sets(arena: Arena) -> str:
    """Sets of hundred thousand strings, subtracted from each other."""
    steps = [called(arena, "op", "array", " ".join(f'"{arena.rng.random()}"' for _ in range(200)), "a0")]
    steps += [called(arena, "op", "concat", f"a{step} a{step}", f"a{step + 1}") for step in range(9)]
    body = called(arena, "array", arena.rng.choice(("diff", "sdiff", "intersect")), "a9 a9", "y")
    return sequence(*steps, numbers(arena, 900, f"(fold xs i (par {body} (next i)))"))


async def _flood(arena: Arena, script: Callable[[Arena], str]) -> None:
    async def throw() -> None:
        keys = arena.stranger()
        while True:
            await arena.give(keys, script(arena))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


VALUES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    make.__name__.replace("_", "-"): partial(_flood, script=make)
    for make in (
        repeated_arguments,
        repeated_arrays,
        parse_bombs,
        deep_parses,
        matches,
        large_calls,
        large_parts,
        digests,
        sets,
    )
}
"""By name."""
