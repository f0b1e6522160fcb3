"""Attacks on everything that a peer answers: each function of each service, and each protocol, with every odd argument."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import anyio
from fluvial.blobs.wire import PROTOCOL as BLOBS
from fluvial.encoding import encode
from fluvial.health import PROTOCOL as HEALTH
from fluvial.hosting.host import PROTOCOL as CONSENSUS
from fluvial.identity import KeyPair
from fluvial.particles.life_signs import PROTOCOL as LIFE_SIGNS
from fluvial.particles.notice import PROTOCOL as NOTICES
from fluvial.particles.receipt import PROTOCOL as PARTICLES
from fluvial.particles.refusals import PROTOCOL as REFUSALS
from fluvial.relaying.room import PROTOCOL as LEASES
from fluvial.services.builtin import BUILTINS, PING_PROTOCOL
from fluvial.services.service import describe
from fluvial_dht_kademlia.shell.reachability import PROTOCOL as REACH
from fluvial_dht_kademlia.shell.service import DhtService
from fluvial_dht_kademlia.wire import PROTOCOL as TABLE
from fluvial_fce_wasm.seat.builtin import Dist, Srv
from fluvial_fce_wasm.seat.vault_access import VaultService
from fluvial_trust_graph.gossip.exchange import DIGESTS, FETCH, IDS, PUSH
from fluvial_trust_graph.service import TrustService

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.questions import ask
from tests.attacks.values import called, sequence, text

PROTOCOLS: Final = (
    *(PARTICLES, NOTICES, REFUSALS, LIFE_SIGNS, LEASES, BLOBS, CONSENSUS, HEALTH, PING_PROTOCOL),
    *(REACH, TABLE, DIGESTS, FETCH, IDS, PUSH),
)
FUNCTIONS: Final = tuple(
    (interface.service_id, function)
    for interface in map(describe, (*BUILTINS, DhtService, TrustService, Dist, Srv, VaultService))
    for function in interface.functions
)
ABSENT: Final = (
    ("ledger", "submit"),
    ("licence", "buy"),
    ("kv", "get"),
    ("op", "nothing"),
    ("nobody", "nothing"),
    ("", ""),
)
"""What this peer has not."""


# --- functions


def every_function(arena: Arena) -> str:
    """A hundred calls of functions at random, with numbers, texts, arrays and objects at random, small and large."""
    rng = arena.rng
    names = ("s", "a", "o", "n", "deep", "bytes")
    literals = (
        "0",
        "-1",
        "9223372036854775807",
        "0.001",
        '""',
        '"0"',
        "true",
        "[]",
        '"\\u0000"',
        "%ttl%",
        "%timestamp%",
    )
    made = [
        *text(arena, rng.choice((1, 6, 14))),
        called(arena, "op", "array", "s 1 -1 [] s", "a"),
        called(arena, "json", "obj", '"k" a s s "" 7', "o"),
        called(arena, "json", "parse", '"' + "[" * 90 + "]" * 90 + '"', "deep"),
        called(
            arena,
            "json",
            "parse",
            '"' + str([rng.randrange(256) for _ in range(rng.choice((0, 32, 64)))]) + '"',
            "bytes",
        ),
        called(arena, "math", "sub", "0 9223372036854775807", "n"),
    ]
    calls = "(null)"
    for _ in range(100):
        service, function = rng.choice((*FUNCTIONS, *ABSENT))
        arguments = " ".join(rng.choice((*names, *literals)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 40))))
        call = called(arena, service, function, arguments, "$r")
        calls = f"(par (xor {call} (ap :error: $errors)) {calls})"
    return sequence(*made, calls)


async def _thrown(arena: Arena, make: Callable[[Arena], str], *, many: bool) -> None:
    async def throw() -> None:
        keys = arena.stranger()
        while True:
            await arena.give(arena.stranger() if many else keys, make(arena), ttl_ms=30_000)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


# --- protocols


def _odd(arena: Arena, depth: int) -> Any:
    """A value of any shape that can be written."""
    rng = arena.rng
    if depth == 0:
        return rng.choice(
            (
                None,
                True,
                0,
                -1,
                2**63 - 1,
                -(2**63),
                1.5,
                float("inf"),
                b"",
                b"\x00" * 32,
                rng.randbytes(32),
                "",
                "x" * 300,
                "\u202e\x1b",
                rng.randbytes(64),
                b"\xff" * 5000,
                arena.target.peer_id.public_key,
                str(arena.target.peer_id),
            )
        )
    size = rng.choice((0, 1, 2, 3, 5, 9))
    if rng.random() < 0.8:
        return [_odd(arena, rng.randrange(depth)) for _ in range(size)]
    return {str(number): _odd(arena, rng.randrange(depth)) for number in range(size)}


def odd_payloads(arena: Arena, keys: KeyPair) -> Iterator[bytes]:
    """Values of odd shapes, also cut off, deeper than anybody needs, and wider."""
    rng = arena.rng
    deep: bytes = b"\x91" * 100_000 + b"\xc0"
    wide = b"\xdd\x00\x04\x00\x00" + b"\x90" * 262_144
    lying = b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"
    made: Sequence[bytes] = [encode(_odd(arena, 4)) for _ in range(200)]
    while True:
        one = rng.choice(made)
        chance = rng.random()
        if chance < 0.02:
            yield rng.choice((deep, wide))
        elif chance < 0.2:
            yield rng.choice(lying) + one
        elif chance < 0.4:
            yield one[: rng.randrange(len(one) + 1)]
        else:
            yield one


async def every_protocol(arena: Arena) -> None:
    """Each protocol is asked odd things, on connections of its own."""
    async with anyio.create_task_group() as tasks:
        for protocol in PROTOCOLS:
            tasks.start_soon(partial(ask, connections=2), arena, protocol, odd_payloads)


SURFACES: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    "every-function": partial(_thrown, make=every_function, many=False),
    "every-function-of-many": partial(_thrown, make=every_function, many=True),
    "every-protocol": every_protocol,
}
"""By name."""
