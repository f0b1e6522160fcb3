"""The attacks: each does what a stranger can do, at full speed, until it is cancelled or raises what is in ``arena.GONE``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

import anyio
from fluvial.identity import PeerId

from tests.attacks.arena import AT_ONCE, Arena
from tests.attacks.claims import CLAIMS
from tests.attacks.connections import CONNECTIONS
from tests.attacks.crowds import CROWDS
from tests.attacks.handshakes import HANDSHAKES
from tests.attacks.hoards import HOARDS
from tests.attacks.ledgers import LEDGERS
from tests.attacks.messages import MESSAGES
from tests.attacks.mixtures import MIXTURES
from tests.attacks.neighbours import NEIGHBOURS
from tests.attacks.questions import QUESTIONS
from tests.attacks.receivers import RECEIVERS
from tests.attacks.refusals import REFUSALS
from tests.attacks.relays import RELAYS
from tests.attacks.scripts import SCRIPTS
from tests.attacks.shapes import SHAPES
from tests.attacks.surfaces import SURFACES
from tests.attacks.tls import TLS
from tests.attacks.twisted import TWISTED
from tests.attacks.values import VALUES
from tests.attacks.writes import WRITES

Attack: TypeAlias = Callable[[Arena], Awaitable[None]]


async def _flood(arena: Arena, script: Callable[[], str]) -> None:
    """One stranger hands over scripts."""
    keys = arena.stranger()

    async def throw() -> None:
        while True:
            await arena.give(keys, script())

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def calm(arena: Arena) -> None:
    """Nothing is attacked: what honest flows take on this machine now."""
    await anyio.sleep_forever()


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
        await arena.give(arena.stranger(), scattered(peers))
    await anyio.sleep_forever()


async def pauses(arena: Arena) -> None:
    """Particles that only wait."""
    here = arena.target.peer_id
    await _flood(arena, lambda: f'(call "{here}" ("peer" "timeout") [{arena.rng.randint(50_000, 100_000)}])')


async def pauses_of_many(arena: Arena) -> None:
    """The same, each of another initiator: their places for timers are their own, those of the peer are not."""
    here = arena.target.peer_id

    async def throw() -> None:
        while True:
            await arena.give(
                arena.stranger(), f'(call "{here}" ("peer" "timeout") [{arena.rng.randint(50_000, 100_000)}])'
            )

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def hundreds_of_pauses_of_many(arena: Arena) -> None:
    """Each initiator has as many pauses at one time as it may: a few dozen of them have all that there are."""
    here = arena.target.peer_id
    elements = " ".join(["1"] * 500)

    async def throw() -> None:
        while True:
            pause = f'(call "{here}" ("peer" "timeout") [{arena.rng.randint(50_000, 100_000)}])'
            made = f'(call "{here}" ("op" "array") [{elements}] xs)'
            await arena.give(arena.stranger(), f"(seq {made} (fold xs i (par {pause} (next i))))")

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def nobodies_of_many(arena: Arena) -> None:
    """Many initiators, each of whom names a few peers that do not exist."""

    async def throw() -> None:
        while True:
            calls = '(call "{}" ("a" "b") [])'
            peers = [PeerId.from_public_key(arena.rng.randbytes(32)) for _ in range(8)]
            script = calls.format(peers[0])
            for peer in peers[1:]:
                script = f"(par {calls.format(peer)} {script})"
            await arena.give(arena.stranger(), script)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


async def odd_names(arena: Arena) -> None:
    """Peers whose names are no peer ids, and services and functions of a hundred kilobytes, line ends and control characters."""
    rng, here = arena.rng, arena.target.peer_id

    def text() -> str:
        length = rng.choice([1, 50, 100_000])
        return "".join(rng.choice("\u202e\x1b\n\r\tß😀a/.{}%") for _ in range(min(length, 64))) + "n" * (length // 2)

    def script() -> str:
        names = [text().replace('"', "").replace("\\", "") for _ in range(3)]
        return (
            f'(par (call "{names[0]}" ("a" "b") []) '
            f'(xor (call "{here}" ("{names[1]}" "{names[2]}") []) (fail :error:)))'
        )

    await _flood(arena, script)


async def questions(arena: Arena) -> None:
    """A stranger asks about neighbours and services, and must not be told."""
    here, other = arena.target.peer_id, arena.other.peer_id
    keys = arena.attacker.peer_id
    for _ in range(3):
        for question in (
            f'("peer" "is_connected") ["{other}"]',
            f'("peer" "get_contact") ["{other}"]',
            '("stat" "service_stat") ["op"]',
        ):
            async with arena.attacker.run(
                f'(xor (seq (call "{here}" {question} x) (call "{keys}" ("return" "") [x "told"])) '
                f'(call "{keys}" ("return" "") [:error:.$.message "not told"]))',
                ttl_s=30,
            ) as flow:
                answer = await flow.result()
            arena.receipts[str(answer[1])] += 1
            if answer[1] != "not told":
                arena.violations.append(f"a stranger was told: {question} is {answer[0]}")
    await _flood(arena, lambda: f'(call "{here}" ("peer" "get_contact") ["{arena.stranger().peer_id}"])')


async def large_scripts(arena: Arena) -> None:
    """A quarter of a megabyte of instructions in each script, none like another."""

    def script() -> str:
        return (
            "(seq (null) " * 64
            + f'(call "{arena.target.peer_id}" ("op" "noop") ["{"y" * 250_000}{arena.rng.random()}"])'
            + ")" * 64
        )

    keys = arena.stranger()
    while True:
        await arena.give(keys, script(), ttl_ms=5_000)


ATTACKS: Final[Mapping[str, Attack]] = {
    "calm": calm,
    "folds": folds,
    "nobodies": nobodies,
    "pauses": pauses,
    "timers-of-many": pauses_of_many,
    "hundreds-of-timers-of-many": hundreds_of_pauses_of_many,
    "nobody-of-many": nobodies_of_many,
    "odd-names": odd_names,
    "questions": questions,
    "large-scripts": large_scripts,
    **HOARDS,
    **CONNECTIONS,
    **HANDSHAKES,
    **TLS,
    **MESSAGES,
    **CLAIMS,
    **REFUSALS,
    **WRITES,
    **VALUES,
    **QUESTIONS,
    **SCRIPTS,
    **RELAYS,
    **LEDGERS,
    **MIXTURES,
    **SHAPES,
    **TWISTED,
    **RECEIVERS,
    **SURFACES,
    **CROWDS,
    **NEIGHBOURS,
}
