"""Attacks by scripts of other shapes: for each kind of instruction and operand the one that makes it most work, again and again.

Each script goes to the target as the particle of one stranger out of eight, and with some of the kinds as that of somebody new each time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import anyio
from fluvial.identity import base58_encode

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.hoards import kept, nested, numbers
from tests.attacks.values import called, sequence, text, tree

Make = Callable[[Arena], str]


def _here(arena: Arena) -> str:
    return f'"{arena.target.peer_id}"'


def _each(number: int, body: str, arena: Arena) -> str:
    """The same for each of so many elements, side by side, whatever becomes of it."""
    return numbers(arena, number, f"(fold xs i (par (xor {body} (null)) (next i)))")


# --- calls without end


def empty_calls(arena: Arena) -> str:
    """A quarter of a million calls that do nothing."""
    return numbers(arena, 63, nested(3, called(arena, "op", "noop", "", "y")).replace(" y)", ")"))


def endless_calls(arena: Arena) -> str:
    """A stream that grows by what services answer, as long as the particle lives."""
    answer = arena.rng.choice(
        (
            called(arena, "op", "identity", "i", "$s"),
            called(arena, "op", "array", "i i", "$s"),
            called(arena, "peer", "timeout", '1 "x"', "$s"),
            called(arena, "peer", "timestamp_ms", "", "$s"),
        )
    )
    way = arena.rng.choice(("seq", "par"))
    return f'(seq (ap "{arena.rng.random()}" $s) (fold $s i ({way} {answer} (next i))))'


def endless_hops(arena: Arena) -> str:
    """The same, and every second answer is another peer's."""
    there = f'(call "{arena.other.peer_id}" ("op" "identity") [i] y)'
    back = called(arena, "op", "identity", "y", "$s")
    way = arena.rng.choice(("seq", "par"))
    return f'(seq (ap "{arena.rng.random()}" $s) (fold $s i ({way} (new $n (seq {there} {back})) (next i))))'


def short_timers(arena: Arena) -> str:
    """A thousand timers of a few milliseconds, a timer for each of which follows."""
    pause = called(arena, "peer", "timeout", "{} i", "y").replace(" y)", ")")
    chain = sequence(*(pause.format(arena.rng.randint(0, 30)) for _ in range(5)))
    return numbers(arena, 900, f"(fold xs i (par {chain} (next i)))")


def questions_about_peers(arena: Arena) -> str:
    """What this peer knows of others and of itself, and whether it can reach somebody who is not there."""
    nobody = arena.stranger().peer_id
    call = arena.rng.choice(
        (
            called(arena, "peer", "identify", "", "y"),
            called(arena, "peer", "connect", f'"{nobody}"', "y"),
            called(arena, "peer", "connect", f'"{arena.other.peer_id}"', "y"),
            called(arena, "peer", "is_connected", f'"{nobody}"', "y"),
            called(arena, "stat", "service_stat", '"op"', "y"),
            called(arena, "stat", "service_memory", '"op"', "y"),
        )
    )
    return _each(900, call, arena)


def many_calls(arena: Arena) -> str:
    """Thousands of calls side by side, which all are asked for by one run: of a service that does not exist, or of one that takes its time."""
    call = arena.rng.choice(
        (called(arena, "nobody", "there", "i", "y"), called(arena, "peer", "timeout", '5 "x"', "y"))
    )
    made = called(arena, "op", "array", " ".join(["1"] * 100), "a0")
    more = called(arena, "op", "concat", " ".join(["a0"] * arena.rng.choice((30, 90))), "xs")
    return sequence(made, more, f"(fold xs i (par {call.replace(' y)', ')')} (next i)))")


# --- names, streams, maps


def many_streams(arena: Arena) -> str:
    """Thousands of streams and maps of one script, each of which is written, fixed and read."""
    here, steps = _here(arena), []
    for number in range(2_000):
        steps += [f"(ap {number} $s{number})", f"(canon {here} $s{number} #c{number})", f"(ap #c{number} $all)"]
    steps = [f"(par {one} (null))" for one in steps]
    while len(steps) > 1:
        steps = [f"(seq {one} {other})" for one, other in zip(steps[::2], [*steps[1::2], "(null)"], strict=False)]
    return kept(arena, steps[0])


def many_names(arena: Arena) -> str:
    """Names of a hundred kilobytes, of everything that has one."""
    name = "n" * arena.rng.choice((1_000, 60_000))
    here = _here(arena)
    return kept(
        arena,
        sequence(
            f"(ap 1 {name})",
            f"(ap {name} ${name})",
            f"(canon {here} ${name} #{name})",
            f'(ap ("k" {name}) %{name})',
            f"(new ${name} (fold #{name} i{name} (next i{name})))",
            f"(ap {name}.$.{name} $x)",
        ),
    )


def huge_keys(arena: Arena) -> str:
    """Maps whose keys are texts of a quarter of a megabyte, fixed and looked up."""
    here = _here(arena)
    body = arena.rng.choice(
        (
            f"(canon {here} %m #%m)",
            f"(seq (canon {here} %m #%m) (ap #%m.$.[s] $t))",
            "(fold %m p (seq (ap p.$.key $t) (next p)))",
            f"(canon {here} %m o)",
        )
    )
    filled = [f"(ap (s {number}) %m)" for number in range(20)]
    return sequence(*text(arena, 13), *filled, _each(300, f"(new $t {body})", arena))


def wide_maps(arena: Arena) -> str:
    """Maps of thousands of pairs for few keys, gone through and looked up."""
    here = _here(arena)
    fill = '(fold xs i (seq (par (ap ("a" i) %m) (par (ap (7 i) %m) (ap ("7" i) %m))) (next i)))'
    body = arena.rng.choice(
        (
            f"(seq (canon {here} %m #%m) (ap #%m.$.a $t))",
            "(fold %m p (par (ap p.$.value $t) (next p)))",
            f"(seq (canon {here} %m #%m) (fold #%m p (par (ap p $t) (next p))))",
        )
    )
    return numbers(arena, 900, sequence(fill, f"(fold xs j (par (new $t {body}) (next j)))"))


# --- operands


def origins(arena: Arena) -> str:
    """A canon of a thousand elements handed over hundreds of times in each call: where each element comes from is told each time."""
    here = _here(arena)
    fill = f'(fold xs i (seq (call {here} ("op" "identity") [i] $s) (next i)))'
    call = called(arena, "op", "noop", " ".join(["#c"] * 300), "y").replace(" y)", ")")
    return numbers(arena, 300, sequence(fill, f"(canon {here} $s #c)", f"(fold xs j (par {call} (next j)))"))


def lenses(arena: Arena) -> str:
    """Elements of a hundred thousand, their number, and what is not there, for hundreds of readers."""
    made = [called(arena, "op", "array", " ".join(["1"] * 100), "a0")]
    made += [called(arena, "op", "concat", f"a{step} a{step}", f"a{step + 1}") for step in range(10)]
    body = arena.rng.choice(
        (
            "(ap a10.$.[102399] $t)",
            "(ap a10.length $t)",
            "(ap a10.$.[102400] $t)",
            "(ap a10.$.name $t)",
            "(match a10.$.[5] a10.$.[6] (ap a10 $t))",
            "(fold a10 e (ap e $t))",
            f"(seq (ap a10 $u) (seq (canon {_here(arena)} $u #u) (ap #u.$.[0].[77] $t)))",
        )
    )
    return sequence(*made, _each(900, f"(new $u {body})", arena))


def long_lenses(arena: Arena) -> str:
    """Parts of values behind names of half a megabyte: the tetraplet of each has the whole way."""
    name, other = "n" * 300_000, "m" * 100_000
    made = called(arena, "op", "array", "0 1 2", "v")
    body = arena.rng.choice((f"(ap v.$.[{name}] $t)", f"(seq (ap v $u) (fold $u e (ap e.$.[{other}] $t)))"))
    return sequence(made, f"(ap 1 {name})", f"(ap 2 {other})", kept(arena, _each(900, f"(new $u {body})", arena)))


def comparisons(arena: Arena) -> str:
    """Values that differ only at their end, compared with each other and with what stands in the script."""
    made = tree(arena, 15, "v")
    other = called(arena, "op", "array", "v 1", "w1"), called(arena, "op", "array", "v 2", "w2")
    body = arena.rng.choice(
        (
            "(match w1 w2 (null))",
            "(mismatch w1 w2 (null))",
            "(match w1.$.[0] w2.$.[0] (null))",
            f'(mismatch w1 "{"y" * 100_000}" (null))',
        )
    )
    return sequence(*made, *other, _each(900, body, arena))


def literals(arena: Arena) -> str:
    """A megabyte of numbers and texts in the script, compared and written."""
    one = arena.rng.choice(("9" * 18, "0.123456789", "-7", '"y"', "true", "[]"))
    steps = [f"(ap {one} $s)"] * (700_000 // (len(one) + 20))
    while len(steps) > 1:
        steps = [f"(par {one} {other})" for one, other in zip(steps[::2], [*steps[1::2], "(null)"], strict=False)]
    return kept(arena, steps[0])


def folds_of_folds(arena: Arena) -> str:
    """Folds over values, streams and canons inside each other, with ``next`` before and behind and in both branches."""
    rng, here = arena.rng, _here(arena)

    def fold(depth: int) -> str:
        name = f"i{depth}"
        inner = fold(depth - 1) if depth else f"(ap {name} $s)"
        source = rng.choice(("xs", "$s", "#c"))
        turn = rng.choice((f"(seq {inner} (next {name}))", f"(par {inner} (seq (null) (next {name})))"))
        if source == "xs":
            turn = rng.choice((turn, f"(par (next {name}) {inner})", f"(seq (next {name}) (xor {inner} (null)))"))
        last = rng.choice(("", " (null)", " (never)", f" (ap {name} $s)" if depth > 1 else " (null)"))
        return f"(fold {source} {name} {turn}{last})"

    return numbers(arena, 30, sequence("(ap 1 $s)", f"(canon {here} $s #c)", kept(arena, fold(rng.randint(2, 5)))))


# --- errors


def failures(arena: Arena) -> str:
    """Errors made of objects with a text of a megabyte, caught and made again."""
    made = called(arena, "json", "obj", '"error_code" 7 "message" s', "e")
    body = arena.rng.choice(
        (
            "(xor (fail e) (ap :error: $errors))",
            "(xor (fail e) (xor (fail :error:) (ap %last_error% $errors)))",
            "(xor (fail e) (ap :error:.$.message $errors))",
            "(xor (xor (fail e) (fail :error:)) (match :error:.$.error_code 7 (ap :error: $errors)))",
        )
    )
    return sequence(*text(arena, 14), made, kept(arena, _each(900, body, arena)))


def wrong_calls(arena: Arena) -> str:
    """Calls with arguments of a megabyte that are of the wrong kind: the error shows them."""
    call = arena.rng.choice(
        (
            called(arena, "math", "add", "v v", "y"),
            called(arena, "array", "sum", "v", "y"),
            called(arena, "array", "slice", "v s s", "y"),
            called(arena, "json", "put", "v s s", "y"),
            called(arena, "sig", "verify", "v v", "y"),
            called(arena, "op", "bytes_to_b58", "v", "y"),
            called(arena, "json", "obj_pairs", "v", "y"),
        )
    )
    return sequence(*text(arena, 14), *tree(arena, 14, "v"), _each(900, call, arena))


# --- texts


def unclosed_texts(arena: Arena) -> str:
    """JSON with a text of escaped quotes that is never closed, and so many signs in it that it seems to be heavy."""
    signs = {"q": '"', "b": arena.rng.choice(('\\":', '\\"[', '\\":["')), "e": arena.rng.choice(("", "\\"))}
    made = [
        called(arena, "op", "string_from_b58", f'"{base58_encode(one.encode())}"', name) for name, one in signs.items()
    ]
    steps = [
        called(arena, "op", "concat_strings", f"{one} {one}", f"s{at}") for at, one in enumerate(_doubled("b", 17))
    ]
    parts = " ".join(["s16"] * arena.rng.choice((1, 7)))
    whole = called(arena, "op", "concat_strings", f"q {parts} e", "json")
    return sequence(*made, *steps, whole, _each(20, called(arena, "json", "parse", "json", "y"), arena))


def _doubled(first: str, times: int) -> list[str]:
    return [first, *(f"s{step}" for step in range(times - 1))]


def controls(arena: Arena) -> str:
    """Control characters, of which each takes six in JSON, and hundreds of thousands of arrays in a text."""
    sign = arena.rng.choice(("\x01", "[],"))
    made = called(arena, "op", "string_from_b58", f'"{base58_encode(sign.encode())}"', "b")
    steps = [
        called(arena, "op", "concat_strings", f"{one} {one}", f"s{at}") for at, one in enumerate(_doubled("b", 20))
    ]
    if sign == "\x01":
        return sequence(made, *steps, _each(20, called(arena, "json", "stringify", "s19", "y"), arena))
    whole = called(arena, "op", "concat_strings", '"[" s18 "0]"', "json")
    return sequence(made, *steps, whole, _each(20, called(arena, "json", "parse", "json", "y"), arena))


async def _by(arena: Arena, make: Make, *, many: bool) -> None:
    async def throw() -> None:
        keys = arena.stranger()
        while True:
            await arena.give(arena.stranger() if many else keys, make(arena))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


SHAPES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    make.__name__.replace("_", "-"): partial(_by, make=make, many=False)
    for make in (
        empty_calls,
        endless_calls,
        endless_hops,
        short_timers,
        questions_about_peers,
        many_streams,
        many_names,
        huge_keys,
        wide_maps,
        origins,
        lenses,
        long_lenses,
        comparisons,
        literals,
        folds_of_folds,
        failures,
        wrong_calls,
        many_calls,
        unclosed_texts,
        controls,
    )
} | {
    f"{make.__name__.replace('_', '-')}-of-many": partial(_by, make=make, many=True)
    for make in (empty_calls, endless_calls, endless_hops, many_calls, origins, wide_maps, failures, comparisons)
}
"""By name."""
