"""A particle is dropped in the middle of what is done with it: whoever is at it comes to an end, and nothing is left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.air.machine import liveness
from fluvial.clock import ManualClock
from fluvial.particle import Delivery, Particle
from fluvial.particles.exclusive import ExclusiveTurns

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, id_of, peer, until

NOW_MS = 1_700_000_000_000
TTL_MS = 10_000
HELD = "fluvial_particles_memory_bytes"
VALUES = " ".join(map(str, range(400)))


def heavy(script: str) -> Particle:
    return make_particle(script, particle_id="heavy", timestamp_ms=NOW_MS, ttl_ms=TTL_MS)


def to(peer: Peer, particle: Particle) -> Delivery:
    return Delivery(peer.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")


async def test_a_particle_may_die_while_a_thread_finds_out_what_to_hand_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, may_go_on = threading.Event(), threading.Event()
    body: Callable[..., Any] = liveness._Search._body

    def held_up(self: Any, *arguments: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and not inside.is_set():
            inside.set()
            may_go_on.wait(10)
        return body(self, *arguments)

    monkeypatch.setattr(liveness._Search, "_body", held_up)
    clock = ManualClock(NOW_MS)
    async with peer("a", tmp_path) as a, peer("b", tmp_path, clock=clock) as b:
        stream = f'(seq (call "{b.peer_id}" ("op" "array") [{VALUES}] xs) (fold xs i (seq (ap xs $s) (next i))))'
        reads = f'(fold $s e (par (call "{id_of("third")}" ("x" "y") [e.$.[0]]) (next e)))'
        await a.deliver(to(b, heavy(f"(seq {stream} (par {reads} (null)))")), b)
        await until(inside.is_set)
        clock.time_ms += TTL_MS
        await until(lambda: b.metric("fluvial_particles_in_memory") == 0)
        may_go_on.set()
        await until(lambda: b.metric(HELD) < 65_536)
        assert b.events("particle_broken") == []
        again = make_particle("(null)", particle_id="next", timestamp_ms=clock.time_ms, ttl_ms=TTL_MS)
        assert (await a.deliver(to(b, again), b)).reason == ""


async def test_what_dies_in_the_middle_of_a_long_run_is_not_counted_any_more(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    async with peer("a", tmp_path) as a, peer("b", tmp_path, clock=clock) as b, anyio.create_task_group() as tasks:
        array = f'(call "{b.peer_id}" ("op" "array") [{VALUES}] xs)'
        folds = "(fold xs i (seq (fold xs j (seq (null) (next j))) (next i)))"
        receipts = []

        async def deliver() -> None:
            particle = heavy(f'(seq {array} (seq {folds} (call "nobody" ("a" "b") [])))')
            receipts.append(await a.deliver(to(b, particle), b))

        tasks.start_soon(deliver)
        await until(lambda: b.metric(HELD) > 1_100_000)
        clock.time_ms += TTL_MS
        await until(lambda: len(receipts) == 1)
        assert receipts[0].reason == "busy"
        assert b.metric(HELD) < 131_072
        assert b.metric("fluvial_particles_in_memory") == 0
        assert b.events("storage_failed") == []


async def test_whoever_waits_for_a_turn_is_counted_until_it_is_over() -> None:
    turns, over = ExclusiveTurns(), list[str]()
    go_on = anyio.Event()

    async def take(name: str) -> None:
        async with turns.turn(lambda: over.append(name)):
            await go_on.wait()

    async with anyio.create_task_group() as tasks:
        for name in ("first", "second"):
            tasks.start_soon(take, name)
        await until(lambda: turns.wanted == 2)
        with anyio.move_on_after(0.01):
            await take("gives up")
        assert (turns.wanted, over) == (2, ["gives up"])
        go_on.set()
    assert (turns.wanted, over) == (0, ["gives up", "first", "second"])
