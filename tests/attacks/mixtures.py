"""Attacks by data and by mixtures: values, facts and batches of every odd shape in deliveries, and scripts at random out of all instructions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Final

import anyio
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import ContentId, content_id
from fluvial.air.data.facts import (
    Argument,
    CallFailure,
    CanonFact,
    Closed,
    Element,
    Item,
    Result,
    Step,
    Taken,
)
from fluvial.air.data.partial import Level, Mask, cut
from fluvial.air.data.wire import encode_data
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL
from fluvial_transport_tcp.framing import Kind, Message

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.hoards import PAUSE_MS, flood, kept, nested, numbers
from tests.attacks.values import called, sequence, text
from tests.support.deliveries import answered

NOTHING: Final = bytes(32)
"""An id of nothing."""
KINDS: Final = 20_000
"""Facts of a delivery: many, and not more than may come."""


# --- scripts


def large_canons(arena: Arena) -> str:
    """Half a million numbers, and parts of them, fixed again and again."""
    here = f'"{arena.target.peer_id}"'
    steps = [called(arena, "op", "array", " ".join(str(arena.rng.randrange(200)) for _ in range(100)), "a0")]
    steps += [called(arena, "op", "concat", f"a{step} a{step}", f"a{step + 1}") for step in range(12)]
    body = f"(seq (new $s (seq (ap a12 $s) (seq (ap i $s) (canon {here} $s #c)))) (next i))"
    return sequence(*steps, numbers(arena, 50, f"(fold xs i {body})"))


def escapes(arena: Arena) -> str:
    """Megabytes of control characters, each of which takes six in JSON, written as JSON again and again."""
    body = arena.rng.choice(
        (
            called(arena, "json", "stringify", "s", "y"),
            called(arena, "debug", "stringify", "s s s s", "y"),
            called(arena, "json", "obj", "s s s s", "y"),
            called(arena, "run-console", "print", "s s s", "y"),
        )
    )
    return sequence(*text(arena, 15, of="\x01" * 60), numbers(arena, 300, f"(fold xs i (par {body} (next i)))"))


def mixed(arena: Arena) -> str:
    """Streams, maps, canons, folds, scopes, errors and calls inside each other at random, over a hundred numbers."""
    rng, here = arena.rng, f'"{arena.target.peer_id}"'
    count = 0

    def body(depth: int, iterator: str) -> str:
        nonlocal count
        count += 1
        name = f"n{count}"
        if depth == 0:
            return rng.choice(
                (
                    f"(ap {iterator} $s)",
                    f'(ap ("k" {iterator}) %m)',
                    f"(canon {here} $s #c{name})",
                    f"(canon {here} %m #%m{name})",
                    f"(match {iterator} 1 (ap {iterator} $t))",
                    f'(xor (fail 7 "{name}") (ap :error: $t))',
                    called(arena, "op", "array", f"{iterator} {iterator}", f"y{name}"),
                    called(arena, "op", f"no{name}", f"{iterator}", f"y{name}"),
                )
            )
        inner = partial(body, depth - 1)
        kind = rng.choice(("seq", "par", "xor"))
        return rng.choice(
            (
                lambda: f"({kind} {inner(iterator)} {inner(iterator)})",
                lambda: f"(new $s (new %m {inner(iterator)}))",
                lambda: f"(fold $s {name} (par {inner(name)} (next {name})))",
                lambda: f"(fold xs {name} (par {inner(name)} (next {name})))",
                lambda: f"(seq (canon {here} $s #c{name}) (fold #c{name} {name} (seq {inner(name)} (next {name}))))",
                lambda: f"(fold %m {name} (par {inner(iterator)} (next {name})))",
            )
        )()

    whole = f"(fold xs i (par (xor {body(rng.randint(3, 7), 'i')} (null)) (next i)))"
    made = sequence("(ap 1 $s)", '(ap ("k" 1) %m)', "(ap 1 $t)", kept(arena, whole))
    return numbers(arena, rng.choice((10, 100)), made)


# --- deliveries


def _waiting(arena: Arena, keys: KeyPair) -> Particle:
    """A particle of these keys that waits for their call, which is instruction 3."""
    here, me = arena.target.peer_id, keys.peer_id
    script = f'(par (call "{here}" ("peer" "timeout") [{PAUSE_MS}]) (seq (call "{me}" ("a" "b") [] x) (call "{here}" ("op" "noop") [x])))'
    return arena.particle(keys, script)


CALL: Final = 3


def _large_arrays(arena: Arena) -> tuple[list[Item], list[object]]:
    value, key = _array(arena.rng.choice((10_000, 200_000, 700_000)))
    return [Step(), Result(b"", CALL, "a", "b", (), key)], [value]


@cache
def _array(length: int) -> tuple[list[int], ContentId]:
    """Naming it takes the attacker a second as well."""
    value = [7] * length
    return value, content_id(value)


def _odd_facts(arena: Arena) -> tuple[list[Item], list[object]]:
    rng = arena.rng
    first = rng.randrange(2**31)
    items: list[Item] = rng.choice(
        (
            [Step()] * (3 * KINDS),
            [Step(), *(Taken(rng.randbytes(16), first + number) for number in range(KINDS))],
            [Step(), *(Result(b"", CALL, "a", "b", (), number.to_bytes(32, "big")) for number in range(KINDS))],  # type: ignore[arg-type]
            [Step(), Closed(b"", tuple(range(first, first + 5 * KINDS)), NOTHING)],
            [Step(), Result(b"", CALL, "a", "b", (Argument(NOTHING),) * KINDS, NOTHING)],  # type: ignore[arg-type]
            [Step(), CanonFact(b"", CALL, tuple(Element(NOTHING, b"", number) for number in range(KINDS)))],  # type: ignore[arg-type]
            [Step(), CallFailure(b"", CALL, "a", "b", (), 1, "\x01" * 3_000_000)],
            [Step(), CallFailure(b"", CALL, "a" * 1_000_000, "b" * 1_000_000, (), 2**40, "c")],
        )
    )
    return items, []


def _tiny_values(arena: Arena) -> tuple[list[Item], list[object]]:
    values: list[object] = [arena.rng.randrange(2**60) for _ in range(KINDS // 2)]
    items = [
        Result(arena.rng.randbytes(16), number, "a", "b", (), content_id(one)) for number, one in enumerate(values)
    ]
    return [Step(), *items], values


async def _delivered(arena: Arena, make: Callable[[Arena], tuple[list[Item], list[object]]]) -> None:
    """Deliveries of initiators who have signed what they like."""

    async def throw() -> None:
        while True:
            keys = arena.stranger()
            particle = _waiting(arena, keys)
            items, values = make(arena)
            batch = Batch.seal(particle.key, keys.peer_id, items, keys.sign)
            await arena.hand(particle, encode_data([batch], {content_id(value): value for value in values}))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE // 2):
            tasks.start_soon(throw)


async def many_signatures(arena: Arena) -> None:
    """Thousands of batches in each delivery, each signed by somebody else."""
    while True:
        keys = arena.stranger()
        particle = _waiting(arena, keys)
        batches = []
        for number in range(2_000):
            one = arena.stranger()
            batches.append(Batch.seal(particle.key, one.peer_id, [Step(), Taken(b"", number)], one.sign))
        for begin in range(0, len(batches), 500):
            await arena.hand(particle, encode_data(batches[: begin + 500], {}))


async def part_by_part(arena: Arena) -> None:
    """A value of thousands of parts, of which each delivery shows one more."""
    while True:
        keys = arena.stranger()
        particle = _waiting(arena, keys)
        value = [f"{arena.rng.random()}" * 20 for _ in range(2_000)]
        batch = Batch.seal(
            particle.key, keys.peer_id, [Step(), Result(b"", CALL, "a", "b", (), content_id(value))], keys.sign
        )
        for place in range(200):
            mask = Mask()
            mask.add((place,), Level.WHOLE)
            await arena.hand(particle, encode_data([batch], {content_id(value): cut(value, mask)}))


async def repeats_by_many(arena: Arena) -> None:
    """The same delivery over and over, each time by another sender."""
    keys = arena.stranger()
    particle = _waiting(arena, keys)
    data = answered(particle, keys, [f"{arena.rng.random()}" for _ in range(2_000)])
    header, signature, script = particle.header, particle.signature, particle.script
    delivery = encode_delivery(Delivery(arena.target.peer_id.public_key, 1, header, signature, script, data))
    while True:
        async with arena.link() as link:
            await link.say(Message(Kind.REQUEST, 1, PROTOCOL, delivery))
            while (message := await link.hear()) is not None and message.kind is not Kind.ANSWER:
                pass
            arena.receipts["answer" if message else "closed"] += 1


async def short_lived(arena: Arena) -> None:
    """Long runs, and searches for what the next peer must have, in the middle of which the particle dies."""
    here, there, rng = arena.target.peer_id, arena.other.peer_id, arena.rng

    def script() -> str:
        fill = "(fold xs i (seq (ap i $s) (next i)))"
        sends = f'(fold $s e (par (call "{there}" ("op" "noop") [e.$.[0]] y) (next e)))'
        wait = f'(call "{here}" ("peer" "timeout") [{rng.randint(1, 1_500)}])'
        body = rng.choice(
            (
                nested(rng.randint(2, 3)),
                f"(seq {fill} (par {sends} (null)))",
                f"(seq {fill} (seq {wait} (par {sends} {nested(2)})))",
                f'(par {wait} (fold xs i (par (xor (call "{here}" ("op" "concat") [xs xs] z) (null)) (next i))))',
            )
        )
        return numbers(arena, rng.randint(50, 900), body)

    async def throw() -> None:
        while True:
            await arena.give(arena.stranger(), script(), ttl_ms=rng.randint(100, 4_000))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def _of_one(arena: Arena, make: Callable[[Arena], str]) -> None:
    keys = arena.stranger()
    await flood(arena, lambda: make(arena), lambda: keys)


async def _of_many(arena: Arena, make: Callable[[Arena], str]) -> None:
    await flood(arena, lambda: make(arena), arena.stranger)


MIXTURES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "large-canons": partial(_of_one, make=large_canons),
    "large-canons-of-many": partial(_of_many, make=large_canons),
    "escapes": partial(_of_one, make=escapes),
    "mixed": partial(_of_many, make=mixed),
    "large-arrays": partial(_delivered, make=_large_arrays),
    "odd-facts": partial(_delivered, make=_odd_facts),
    "tiny-values": partial(_delivered, make=_tiny_values),
    "many-signatures": many_signatures,
    "part-by-part": part_by_part,
    "repeats-by-many": repeats_by_many,
    "short-lived": short_lived,
}
"""By name."""
