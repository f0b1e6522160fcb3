"""Attacks by deliveries that are nearly right: good data that were spoiled somewhere, ids that are used twice, times that are over at once."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import anyio
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import Result, Step
from fluvial.air.data.wire import encode_data
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL

from tests.attacks.arena import AT_ONCE, Arena
from tests.support.deliveries import answered, without_contents

CALLS: Final = 40
"""Calls of the initiator, each with a value that somebody else uses."""
MOMENTS_MS: Final = (1, 5, 20, 100, 500)


def _flow(arena: Arena) -> str:
    """A flow in which the initiator gives many values, the target uses them and waits."""
    here = arena.target.peer_id
    script = f'(call "{here}" ("peer" "timeout") [100000])'
    for number in range(CALLS):
        given = f'(call %init_peer_id% ("load" "v{number}") [] v{number})'
        script = f'(seq {given} (par (call "{here}" ("op" "identity") [v{number}]) {script}))'
    return script


def _good(arena: Arena) -> tuple[Particle, KeyPair, bytes]:
    keys = arena.stranger()
    particle = arena.particle(keys, _flow(arena))
    return particle, keys, answered(particle, keys, *(arena.rng.randbytes(400).hex() for _ in range(CALLS)))


def flipped_bytes(arena: Arena) -> list[tuple[Particle, bytes]]:
    """Good data in which a few bytes are others, cut off, or there twice."""
    particle, _, data = _good(arena)
    spoiled = []
    for _ in range(60):
        at, more = arena.rng.randrange(len(data)), arena.rng.randint(1, 40)
        middle = arena.rng.choice((arena.rng.randbytes(more), b"", data[at : at + 2 * more], b"\xdd\xff\xff\xff\xff"))
        spoiled.append((particle, data[:at] + middle + data[at + more :]))
    return spoiled


def missing_values(arena: Arena) -> list[tuple[Particle, bytes]]:
    """Facts whose values never come, or come in the thirtieth delivery."""
    particle, _, data = _good(arena)
    bare = without_contents(data)
    return [(particle, bare)] * 30 + [(particle, data)]


def data_of_others(arena: Arena) -> list[tuple[Particle, bytes]]:
    """Good data of one particle with another one of the same script."""
    (particle, _, _), (_, _, data) = _good(arena), _good(arena)
    return [(particle, data)] * 10


def contradictions(arena: Arena) -> list[tuple[Particle, bytes]]:
    """The initiator says of one call first this, then that, each well signed."""
    particle, keys, data = _good(arena)
    said = [(particle, data)]
    for _ in range(40):
        values = [arena.rng.random() for _ in range(CALLS)]
        said.append((particle, answered(particle, keys, *values)))
    return said


def results_of_nothing(arena: Arena) -> list[tuple[Particle, bytes]]:
    """A hundred thousand results of calls that the script does not have."""
    keys = arena.stranger()
    particle = arena.particle(keys, _flow(arena))
    value = arena.rng.random()
    items = [Result(arena.rng.randbytes(16), number, "a", "b", (), content_id(value)) for number in range(40_000)]
    batch = Batch.seal(particle.key, keys.peer_id, [Step(), *items], keys.sign)
    return [(particle, encode_data([batch], {content_id(value): value}))] * 3


def same_ids(arena: Arena) -> list[tuple[Particle, bytes]]:
    """One id for particles of others, of other scripts, and of other times."""
    keys, other, name = arena.stranger(), arena.stranger(), arena.rng.randbytes(8).hex()
    made = []
    for number in range(30):
        script = f'(call "{arena.target.peer_id}" ("op" "identity") [{number % 3}] x)'
        now_ms = int(time.time() * 1_000) + number % 5
        owner = keys if number % 2 else other
        made.append(
            Particle.create(
                owner,
                script,
                particle_id=name,
                ttl_ms=60_000,
                timestamp_ms=now_ms,
                max_hops=64,
                network=_network(arena),
            )
        )
    return [(one, b"") for one in made]


def _network(arena: Arena) -> str:
    return arena.particle(arena.stranger(), "(null)").header.network


def moments(arena: Arena) -> list[tuple[Particle, bytes]]:
    """Particles that live for a few milliseconds, and have much to do."""
    here = arena.target.peer_id
    script = f"""
        (seq (call "{here}" ("op" "array") [{" ".join(["1"] * 60)}] xs)
             (fold xs i (fold xs j (par (par (call "{here}" ("op" "identity") [i] $s) (next j)) (next i)))))"""
    return [(arena.particle(arena.stranger(), script, ttl_ms=arena.rng.choice(MOMENTS_MS)), b"") for _ in range(10)]


def many_versions(arena: Arena) -> list[tuple[Particle, bytes]]:
    """Deliveries of formats that there are not, beside good ones."""
    particle, _, data = _good(arena)
    return [(particle, bytes((arena.rng.randrange(256),)) + data[1:]) for _ in range(20)]


Make = Callable[[Arena], list[tuple[Particle, bytes]]]


async def _delivered(arena: Arena, make: Make) -> None:
    to = arena.target.peer_id.public_key

    async def throw() -> None:
        while True:
            for particle, data in make(arena):
                hops = arena.rng.choice((1, 2, 63))
                delivery = Delivery(to, hops, particle.header, particle.signature, particle.script, data)
                await arena.hand_over(PROTOCOL, encode_delivery(delivery))

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(throw)


TWISTED: Final[Mapping[str, Callable[[Arena], Awaitable[None]]]] = {
    make.__name__.replace("_", "-"): partial(_delivered, make=make)
    for make in (
        flipped_bytes,
        missing_values,
        data_of_others,
        contradictions,
        results_of_nothing,
        same_ids,
        moments,
        many_versions,
    )
}
"""By name."""
