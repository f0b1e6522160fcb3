"""Attacks by scripts: services with arguments that are as bad as can be, and instructions that grow, nest, wait or fail."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import anyio
from fluvial.identity import KeyPair
from fluvial_trust_graph.statements import (
    RevocationStatement,
    TrustStatement,
    encode_statement,
    sign_revocation,
    sign_trust,
)

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.hoards import kept, numbers
from tests.attacks.values import called, sequence, text, tree
from tests.support.processes import NETWORK

Make = Callable[[Arena], str]


def _each(arena: Arena, number: int, body: str) -> str:
    """The same for each of so many elements, side by side."""
    return numbers(arena, number, f"(fold xs i (par (xor {body} (null)) (next i)))")


# --- services


def vaults(arena: Arena) -> str:
    """Files of a megabyte without end."""
    return sequence(*text(arena, 15), _each(arena, 200, called(arena, "vault", "put", "s", "name")))


def small_vaults(arena: Arena) -> str:
    """Hundreds of files without anything in them."""
    return _each(arena, 300, called(arena, "vault", "put", '""', "name"))


def vault_reads(arena: Arena) -> str:
    """A file of two megabytes, read nine hundred times."""
    put = called(arena, "vault", "put", 's "x"', "name")
    return sequence(*text(arena, 16), put, _each(arena, 900, called(arena, "vault", "cat", '"x"', "y")))


def lookups(arena: Arena) -> str:
    """Peers and providers that are nowhere, looked for in the network."""
    nobody = arena.stranger().peer_id
    call = arena.rng.choice(
        (
            called(arena, "dht", "resolve", f'"{nobody}"', "y"),
            called(arena, "dht", "providers", f'"service:{arena.rng.random()}"', "y"),
            called(arena, "dht", "neighbourhood", f'"{arena.rng.random()}" 64', "y"),
        )
    )
    return _each(arena, 60, call)


def trust_questions(arena: Arena) -> str:
    """Why somebody counts, asked hundreds of times."""
    one, other = arena.stranger().peer_id, arena.target.peer_id
    call = arena.rng.choice(
        (
            called(arena, "trust", "get_certificates", f'"{other}"', "y"),
            called(arena, "trust", "explain", f'"{one}"', "y"),
            called(arena, "trust", "get_weight_from", f'"{one}" "{other}"', "y"),
            called(arena, "trust", "is_certified", f'"{one}" "{other}" 16', "y"),
            called(arena, "trust", "list_statements", f'"{other}"', "y"),
        )
    )
    return _each(arena, 900, call)


def trust_gifts(arena: Arena) -> str:
    """Statements of strangers, handed over and verified by flows; some are megabytes of nothing."""
    issuer, now = arena.stranger(), int(time.time())
    made = RevocationStatement(network=NETWORK, issuer=issuer.peer_id, subject=arena.target.peer_id, issued_at=now)
    one = base64.b64encode(encode_statement(sign_revocation(made, issuer))).decode()
    if arena.rng.random() < 0.5:
        call = called(arena, "trust", arena.rng.choice(("verify", "add")), "s", "y")
        return sequence(*text(arena, 15), _each(arena, 900, call))
    call = called(arena, "trust", arena.rng.choice(("verify", "add")), f'"{one}"', "y")
    return _each(arena, 900, call)


def closed_doors(arena: Arena) -> str:
    """What changes the peer, with arguments that are long."""
    call = arena.rng.choice(
        (
            called(arena, "dist", "add_module", 's "x"', "y"),
            called(arena, "dist", "add_blueprint", "o", "y"),
            called(arena, "srv", "create", "s", "y"),
            called(arena, "srv", "info", "s", "y"),
            called(arena, "srv", "resolve_alias_opt", "s", "y"),
            called(arena, "dist", "make_blueprint", "s a", "y"),
            called(arena, "dht", "add_provider", 's "v"', "y"),
            called(arena, "vault", "fetch", "s", "y"),
        )
    )
    listed = called(arena, "op", "array", " ".join(["s"] * 50), "a")
    return sequence(
        *text(arena, 14),
        listed,
        called(arena, "json", "obj", '"name" s "dependencies" a', "o"),
        _each(arena, 300, call),
    )


def base58(arena: Arena) -> str:
    """As much as base58 takes at once, nine hundred times."""
    steps = text(arena, 7, of="y" * 32)
    back = called(arena, "op", "string_from_b58", "b", "z")
    call = called(arena, "op", "string_to_b58", "s", "z")
    return sequence(
        *steps,
        called(arena, "op", "string_to_b58", "s", "b"),
        _each(arena, 900, arena.rng.choice((call, back))),
    )


def bytes_as_numbers(arena: Arena) -> str:
    """Arrays of a hundred thousand bytes, checked one by one."""
    steps = [called(arena, "op", "array", " ".join(str(arena.rng.randrange(256)) for _ in range(100)), "a0")]
    steps += [called(arena, "op", "concat", f"a{step} a{step}", f"a{step + 1}") for step in range(10)]
    call = arena.rng.choice(
        (
            called(arena, "sig", "verify", "a10 a10", "y"),
            called(arena, "op", "bytes_to_b58", "a10", "y"),
            called(arena, "array", "sum", "a10", "y"),
            called(arena, "sig", "sign", "a10", "y"),
        )
    )
    return sequence(*steps, _each(arena, 900, call))


def long_numbers(arena: Arena) -> str:
    """Numbers of a hundred thousand digits, and exponents that are too large."""
    digits = arena.rng.choice(("7" * 32, "0." + "7" * 30, "1e999999", "-" + "9" * 31))
    call = arena.rng.choice(
        (
            called(arena, "json", "parse", "s", "y"),
            called(arena, "peer", "timeout", "s", "y"),
            called(arena, "math", "add", "s s", "y"),
            called(arena, "math", "fmul", "99999999.5 s", "y"),
        )
    )
    return sequence(*text(arena, 12, of=digits), _each(arena, 900, call))


def many_keys(arena: Arena) -> str:
    """Objects of tens of thousands of keys, copied with one more, again and again."""
    pairs = " ".join(f'"{arena.rng.random()}" {number}' for number in range(2_000))
    call = arena.rng.choice(
        (
            called(arena, "json", "put", 'o "k" 1', "y"),
            called(arena, "json", "puts", 'o "k" 1 "l" 2', "y"),
            called(arena, "json", "stringify", "o", "y"),
        )
    )
    return sequence(called(arena, "json", "obj", pairs, "o"), _each(arena, 900, call))


# --- instructions


def endless_streams(arena: Arena) -> str:
    """Folds over streams that grow by what they do."""
    body = arena.rng.choice(
        (
            "(seq (ap i $s) (next i))",
            "(par (ap i $s) (next i))",
            "(seq (ap i $s) (seq (ap i $s) (next i)))",
            "(seq (par (ap i $t) (fold $t j (par (ap j $s) (next j)))) (next i))",
        )
    )
    return kept(arena, f'(seq (ap "{arena.rng.random()}" $s) (fold $s i {body}))')


def scopes(arena: Arena) -> str:
    """Streams and maps that are new at each turn of a fold, inside each other."""
    body = "(null)"
    for level in range(arena.rng.randint(1, 40)):
        body = f'(new $s (seq (ap i $s) (new %m (seq (ap ("k{level}" i) %m) {body}))))'
    return kept(arena, _each(arena, 900, body))


def nested_instructions(arena: Arena) -> str:
    """Instructions inside each other, as deep as a script may be, and deeper."""
    depth = arena.rng.choice((50, 100, 250, 1_000, 30_000))
    opened = arena.rng.choice(
        ("(xor (null) ", "(seq (null) ", "(par (null) ", "(new $s ", '(match "a" "a" ', '(xor (fail 1 "x") ')
    )
    return opened * depth + "(null)" + ")" * depth


def branches(arena: Arena) -> str:
    """As many branches side by side as a script may have, each of which waits for what never comes."""
    here, nobody = arena.target.peer_id, arena.stranger().peer_id

    def split(number: int) -> str:
        if number == 1:
            return arena.rng.choice((f'(call "{here}" ("op" "noop") [nothing])', "(never)", "(ap nothing $s)"))
        return f"(par {split(number // 2)} {split(number - number // 2)})"

    return kept(arena, f'(par (call "{nobody}" ("x" "y") [] nothing) {split(arena.rng.choice((1_000, 8_000)))})')


def errors_of_errors(arena: Arena) -> str:
    """Each error is told in the next one."""
    here, body = arena.target.peer_id, "(null)"
    for level in reversed(range(arena.rng.randint(10, 60))):
        body = f'(seq (ap :error: e{level}) (xor (call "{here}" ("op" "no{level}") [e{level} e{level}.$.message] y) {body}))'
    grown = f'(xor (call "{here}" ("json" "parse") [e.$.message] y) (par (ap :error: $errors) (next i)))'
    return (
        kept(arena, f'(xor (fail 1 "{"z" * 1_000}") {body})')
        if arena.rng.random() < 0.5
        else numbers(arena, 900, f'(xor (fail 1 "{"z" * 1_000}") (seq (ap :error: e) (fold xs i {grown})))')
    )


def long_paths(arena: Arena) -> str:
    """Lenses of thousands of steps, and of names that are values."""
    steps = ".[0]" * arena.rng.choice((10, 15, 1_000, 20_000))
    return sequence(*tree(arena, 15, "v"), _each(arena, 300, f"(ap v.${steps} $s)"))


def canons_of_canons(arena: Arena) -> str:
    """Streams that are fixed into streams that are fixed, each of which holds all before it."""
    here = f'"{arena.target.peer_id}"'
    steps = []
    for level in range(20):
        steps += [
            f"(canon {here} $s{level} #c{level})",
            f"(ap #c{level} $s{level + 1})",
            f"(ap #c{level} $s{level + 1})",
        ]
    return kept(arena, sequence("(ap 1 $s0)", "(ap 2 $s0)", *steps, called(arena, "debug", "stringify", "#c19", "y")))


def generations(arena: Arena) -> str:
    """A stream that hundreds of branches fold over while they write to it."""
    inner = "(fold $s j (par (xor (match i j (ap i $s)) (null)) (next j)))"
    return kept(arena, numbers(arena, 99, f"(fold xs i (par (seq (ap i $s) {inner}) (next i)))"))


def hops(arena: Arena) -> str:
    """The flow goes to and fro between the target and another peer as long as it may."""
    here, there = arena.target.peer_id, arena.other.peer_id
    back = f'(seq (call "{there}" ("op" "identity") [i] y) (seq (call "{here}" ("op" "identity") [y] z) (next i)))'
    way = arena.rng.choice(("seq", "par"))
    if way == "par":
        back = f'(par (seq (call "{there}" ("op" "identity") [i] y) (call "{here}" ("op" "identity") [y] z)) (next i))'
    return numbers(arena, 99, f"(fold xs i (new $n {back}))")


def to_strangers(arena: Arena) -> str:
    """What the initiator never asked for goes to many: each element is sent to the other peer and comes back grown."""
    here, there = arena.target.peer_id, arena.other.peer_id
    steps = text(arena, 12)
    body = f'(seq (call "{there}" ("op" "concat_strings") [s s] y) (call "{here}" ("op" "sha256_string") [y] z))'
    return sequence(*steps, numbers(arena, 40, f"(fold xs i (par (new $n {body}) (next i)))"))


# --- headers


def _chain(arena: Arena, keys: KeyPair, length: int) -> tuple[bytes, ...]:
    people, now = [*(arena.stranger() for _ in range(length)), keys], int(time.time())
    return tuple(
        encode_statement(
            sign_trust(
                TrustStatement(
                    network=NETWORK, issuer=one.peer_id, subject=other.peer_id, issued_at=now, expires_at=now + 9_999
                ),
                one,
            )
        )
        for one, other in itertools.pairwise(people)
    )


async def credentials(arena: Arena) -> None:
    """Particles with as many credentials as they can carry: long chains that are well signed, and noise."""

    async def throw() -> None:
        keys = arena.stranger()
        chain = _chain(arena, keys, 20)
        while True:
            shown = chain if arena.rng.random() < 0.7 else tuple(arena.rng.randbytes(341) for _ in range(24))
            await arena.hand(arena.particle(keys, "(null)", ttl_ms=5_000, credentials=shown))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def odd_headers(arena: Arena) -> None:
    """Times at the ends of what fits, ids of all kinds, no hops, and many reply addresses."""
    rng = arena.rng

    async def throw() -> None:
        keys = arena.stranger()
        while True:
            fields = rng.choice(
                (
                    {"timestamp_ms": 0},
                    {"timestamp_ms": 2**62},
                    {"timestamp_ms": int(time.time() * 1_000) + rng.randint(-70_000, 70_000)},
                    {"max_hops": rng.choice((0, 1, 2**63))},
                    {"network": "a" * 64},
                    {"reply_to": tuple(f"/dns4/{'a' * 60}.{number}/tcp/1" for number in range(8))},
                )
            )
            await arena.hand(arena.particle(keys, "(null)", ttl_ms=rng.choice((1, 1_000, 119_000, 2**61)), **fields))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def _flood(arena: Arena, make: Make) -> None:
    async def throw() -> None:
        keys = arena.stranger()
        while True:
            await arena.give(keys, make(arena), ttl_ms=60_000)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


SCRIPTS: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    make.__name__.replace("_", "-"): partial(_flood, make=make)
    for make in (
        vaults,
        small_vaults,
        vault_reads,
        lookups,
        trust_questions,
        trust_gifts,
        closed_doors,
        base58,
        bytes_as_numbers,
        long_numbers,
        many_keys,
        endless_streams,
        scopes,
        nested_instructions,
        branches,
        errors_of_errors,
        long_paths,
        canons_of_canons,
        generations,
        hops,
        to_strangers,
    )
} | {"credentials": credentials, "odd-headers": odd_headers}
"""By name."""
