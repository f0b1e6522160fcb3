"""One run asks for hundreds of calls: they are begun a few at a time, all of them, and those that are not begun die with the particle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.clock import ManualClock
from fluvial.particle import Delivery
from fluvial.particles import actor
from fluvial.particles.actor import BEGUN_AT_ONCE, Actor
from fluvial.waiting import others_have_a_turn

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, Work, peer, until

NOW_MS = 1_700_000_000_000
MANY = 500


def many(at: Peer, function: str, **fields: int) -> Delivery:
    values = " ".join(map(str, range(MANY)))
    call = f'(call "{at.peer_id}" ("work" "{function}") [i])'
    script = f'(seq (call "{at.peer_id}" ("op" "array") [{values}] xs) (fold xs i (par {call} (next i))))'
    particle = make_particle(script, particle_id="many", **fields)
    return Delivery(at.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")


async def test_hundreds_of_calls_are_begun_a_few_in_each_turn_of_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, begin_call = Work(), Actor._begin_call
    begun = [0]

    async def count_turns() -> None:
        while True:
            await others_have_a_turn()
            begun.append(0)

    def counted(self: Actor, request: Any) -> None:
        begun[-1] += 1
        begin_call(self, request)

    monkeypatch.setattr(Actor, "_begin_call", counted)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path) as a, anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        assert (await a.deliver(many(b, "step"), b)).reason == ""
        await until(lambda: len(work.done) == MANY)
        tasks.cancel_scope.cancel()
        assert sorted(work.done) == list(range(MANY))
        assert max(begun) <= BEGUN_AT_ONCE
        assert sum(map(bool, begun)) >= MANY // BEGUN_AT_ONCE


async def test_calls_that_are_not_begun_keep_the_particle_in_memory_and_die_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, clock, make = Work(), ManualClock(NOW_MS), Actor._make
    made, actors, go_on = list[Any](), set[Actor](), anyio.Event()

    async def counted(self: Actor, request: Any) -> None:
        if request.service == "work":
            made.append(request)
            actors.add(self)
        await make(self, request)

    monkeypatch.setattr(Actor, "_make", counted)
    monkeypatch.setattr(actor, "others_have_a_turn", go_on.wait)
    async with peer("b", tmp_path, serves=[work], clock=clock) as b, peer("a", tmp_path) as a:
        assert (await a.deliver(many(b, "hold", timestamp_ms=NOW_MS, ttl_ms=10_000), b)).reason == ""
        await until(lambda: len(made) == BEGUN_AT_ONCE)
        [one] = actors
        assert not one.idle
        assert one.waiting, "it may be dropped"
        held = one.held
        clock.time_ms += 10_000
        await until(lambda: b.metric("fluvial_particles_in_memory") == 0)
        go_on.set()
        await until(lambda: one.idle)
        assert len(made) == BEGUN_AT_ONCE
        assert one.held <= held - MANY * actor.CALL_BYTES
        await until(lambda: b.metric("fluvial_particles_memory_bytes") < 131_072)
