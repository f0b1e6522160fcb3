"""What a peer keeps in memory and for how long, and how it goes on after its store has failed."""

from __future__ import annotations

import gc
import resource
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from fluvial.addresses import Contact
from fluvial.air.data.content import content_id
from fluvial.air.machine.machine import Machine
from fluvial.clock import ManualClock
from fluvial.particle import Delivery, Particle, ParticleKey
from fluvial.particles import turns
from fluvial.particles.actor import Actor
from fluvial.particles.keeper import Keeper
from fluvial.particles.session import ParticleSession
from fluvial.storage import ParticleState, open_store
from fluvial.storage.writer import DEFERRED_S

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, Work, chain, id_of, peer, until

NOW_MS = 1_700_000_000_000
IN_MEMORY = "fluvial_particles_in_memory"
HELD = "fluvial_particles_memory_bytes"
NOBODY = id_of("nobody")
STREAMED = '(seq (fold xs i (seq (ap i $s) (next i))) (canon "HERE" $s #c))'


def held(to: str, particle_id: str, **fields: int) -> Particle:
    """A particle of the sender's whose call of ``hold`` ends when the test wants, and which goes on to a third peer then."""
    return make_particle(chain([to, id_of("third")], function="hold"), particle_id=particle_id, **fields)


def delivery(particle: Particle, to: Peer) -> Delivery:
    return Delivery(to.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")


def machinery() -> list[object]:
    """All that the process has of what a particle needs."""
    return [one for one in gc.get_objects() if isinstance(one, Actor | ParticleSession | Machine)]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow, as on a full disk; what was opened before can still be read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # Python ignores the signal, so that writing fails with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- time


async def test_expiry_ends_calls_in_flight_and_frees_memory(tmp_path: Path) -> None:
    work, clock = Work(), ManualClock(NOW_MS)
    async with peer("b", tmp_path, serves=[work], clock=clock) as b, peer("a", tmp_path) as a:
        particle = held(b.peer_id, "dying", timestamp_ms=NOW_MS, ttl_ms=10_000)
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: work.held == 1)
        assert b.metric(IN_MEMORY) == 1
        clock.time_ms += 9_999
        await anyio.sleep(1.2)
        assert (work.ended_early, b.metric(IN_MEMORY)) == (0, 1)
        clock.time_ms += 1
        await until(lambda: b.metric(IN_MEMORY) == 0)
        await until(lambda: work.ended_early == 1)
        assert work.done == []
        assert [event["particle"] for event in b.events("particle_expired")] == ["dying"]
        assert (await a.deliver(delivery(particle, b), b)).reason == "expired"


@pytest.mark.parametrize(
    ("script", "waits"), [('(call %init_peer_id% ("" "") [] x)', 1), ('(call "{b}" ("op" "identity") [1] x)', 0)]
)
async def test_what_leaves_is_in_no_circle(tmp_path: Path, script: str, waits: int) -> None:
    clock = ManualClock(NOW_MS)
    async with peer("b", tmp_path, clock=clock) as b, peer("a", tmp_path) as a:
        script = f'(seq {script.format(b=b.peer_id)} (call "{b.peer_id}" ("op" "identity") [x]))'
        particle = make_particle(script, timestamp_ms=NOW_MS, ttl_ms=10_000)
        gc.disable()
        before = machinery()
        try:
            assert (await a.deliver(delivery(particle, b), b)).reason == ""
            assert b.metric(IN_MEMORY) == waits, "what is finished, and goes nowhere, leaves at once"
            clock.time_ms += 10_000
            await until(lambda: b.metric(IN_MEMORY) == 0)
            left = [one for one in machinery() if not any(one is other for other in before)]
        finally:
            gc.enable()
    assert left == [], "thousands of them would stay until the garbage collector comes, which stops the peer"


async def test_everybody_else_has_turns_while_many_die_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    work, clock, many = Work(), ManualClock(NOW_MS), 20
    async with peer("b", tmp_path, serves=[work], clock=clock) as b, peer("a", tmp_path) as a:
        for number in range(many):
            particle = held(b.peer_id, f"dying {number}", timestamp_ms=NOW_MS, ttl_ms=10_000)
            assert (await a.deliver(delivery(particle, b), b)).reason == ""
        clock.time_ms += 10_000
        seen = set[float]()
        while b.metric(IN_MEMORY):
            seen.add(b.metric(IN_MEMORY))
            await anyio.lowlevel.checkpoint()
    assert len(seen) >= many // 2, "they do not leave all in one round of the loop"


async def test_the_dead_are_not_resumed(tmp_path: Path) -> None:
    work, clock = Work(), ManualClock(NOW_MS)
    async with peer("a", tmp_path) as a:
        async with peer("b", tmp_path, serves=[work], clock=clock) as b:
            particle = held(b.peer_id, "dead", timestamp_ms=NOW_MS, ttl_ms=10_000)
            await a.deliver(delivery(particle, b), b)
            await until(lambda: work.held == 1)
        clock.time_ms += 10_000
        async with peer("b", tmp_path, serves=[work], clock=clock) as b:
            assert b.metric(IN_MEMORY) == 0
            assert work.held == 1


async def test_what_waits_for_an_unreachable_peer_is_given_up_with_the_particle(tmp_path: Path) -> None:
    work, clock = Work(), ManualClock(NOW_MS)
    work.open.set()
    async with peer("b", tmp_path, serves=[work], clock=clock) as b, peer("a", tmp_path) as a:
        particle = held(b.peer_id, "stuck", timestamp_ms=NOW_MS, ttl_ms=10_000)
        await a.deliver(delivery(particle, b), b)
        await until(lambda: b.events("delivery_failed"))
        assert b.metric("fluvial_outbox_lanes") == 1
        clock.time_ms += 10_000
        await until(lambda: b.metric("fluvial_outbox_lanes") == 0)


# --- memory


async def test_idle_particles_make_room_and_come_back_when_they_are_needed(tmp_path: Path) -> None:
    work = Work()
    work.open.set()
    async with (
        peer("b", tmp_path, serves=[work], particles={"live_max": 3}) as b,
        peer("a", tmp_path) as a,
    ):
        particles = [held(b.peer_id, f"p{number}") for number in range(8)]
        for particle in particles:
            assert (await a.deliver(delivery(particle, b), b)).reason == ""
            assert b.metric(IN_MEMORY) <= 3
            await until(lambda: len(work.done) == b.outcomes("accepted"))
        assert work.done == [0] * 8
        # The third peer comes: every particle goes there from the store, with b's result in it.
        async with peer("third", tmp_path, serves=[work], relays=[b]) as third:
            await until(lambda: third.outcomes("accepted") == 8)
            await until(lambda: work.done == [0] * 8 + [1] * 8)
            assert b.metric(IN_MEMORY) <= 3
        # A copy for one that was evicted is a repetition and not a new particle: nothing is called again.
        assert (await a.deliver(delivery(particles[0], b), b)).reason == ""
        assert b.outcomes("repeated") == 1
        assert len(work.done) == 16


async def test_particles_with_calls_in_flight_are_not_evicted(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work], particles={"live_max": 2}) as b, peer("a", tmp_path) as a:
        for number in range(2):
            await a.deliver(delivery(held(b.peer_id, f"p{number}"), b), b)
        await until(lambda: work.held == 2)
        third = held(b.peer_id, "p2")
        receipt = await a.deliver(delivery(third, b), b)
        assert (receipt.reason, receipt.temporary) == ("busy", True)
        work.open.set()
        await until(lambda: len(work.done) == 2)
        await anyio.sleep(0.05)
        assert (await a.deliver(delivery(third, b), b)).reason == ""


async def test_a_particle_that_comes_many_times_at_once_is_one(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path) as a:
        particle = held(b.peer_id, "one")
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(a.deliver, delivery(particle, b), b)
        assert (b.outcomes("accepted"), b.outcomes("repeated")) == (1, 19)
        await until(lambda: work.held == 1)
        assert b.metric(IN_MEMORY) == 1


async def test_a_sender_that_goes_away_does_not_undo_what_it_began(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b:
        for number in range(10):
            async with peer("a", tmp_path) as a, anyio.create_task_group() as tasks:
                tasks.start_soon(a.deliver, delivery(held(b.peer_id, f"p{number}"), b), b)
                await anyio.sleep(0.001 * number)
                tasks.cancel_scope.cancel()
        await until(lambda: work.held == b.outcomes("accepted"))
        assert b.events("particle_broken") == []


# --- a failing store


async def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, storage={"url": "sqlite://"}) as a:
        particle = held(b.peer_id, "unlucky")
        with full_disk():
            receipt = await a.deliver(delivery(particle, b), b)
            assert (receipt.reason, receipt.temporary) == ("storage", True)
            assert "sqlite" not in receipt.explanation.lower()
            assert b.outcomes("storage") == 1
            assert b.watcher.refused == [(a.peer_id, "unlucky", "storage")]
            assert b.metric(IN_MEMORY) == 0
        assert work.held == 0
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: work.held == 1)


async def test_the_sender_tries_again_until_the_receiver_can_store_it(tmp_path: Path) -> None:
    work = Work()
    async with (
        peer("b", tmp_path, serves=[work]) as b,
        peer("a", tmp_path, knows=[b], storage={"url": "sqlite://"}) as a,
    ):
        with full_disk():
            await a.node.submit(a.node.particle(chain([b.peer_id]), ttl_ms=30_000))
            await until(lambda: b.outcomes("storage") >= 2)
        await until(lambda: b.outcomes("accepted") == 1)
        assert a.metric("fluvial_deliveries_total", outcome="storage") >= 2
        assert [event["reason"] for event in a.events("delivery_refused")] == ["storage"], (
            "one line, not one an attempt"
        )
        await until(lambda: work.done == [0])


async def test_a_flow_that_a_full_disk_stopped_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """The outcome of a call cannot be stored: the peer lives, and makes this call, and no other, again when it can."""
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, storage={"url": "sqlite://"}) as a:
        script = chain([b.peer_id, b.peer_id, id_of("third")]).replace('"step") [v1]', '"hold") [v1]')
        particle = make_particle(script)
        await a.deliver(delivery(particle, b), b)
        await until(lambda: work.held == 1)
        with full_disk():
            work.open.set()
            await until(lambda: b.metric(IN_MEMORY) == 0)
            assert b.events("storage_failed")
        await until(lambda: b.events("particle_resumed"))
        await until(lambda: b.events("delivery_failed"))  # on its way to the third peer
        assert work.done == [0, 1, 1]
        receipt = await a.deliver(delivery(particle, b), b)
        assert receipt.reason == ""
        assert b.outcomes("repeated") == 1


async def test_deliveries_survive_a_full_disk(tmp_path: Path) -> None:
    """What could not be noted as delivered is delivered again after a restart, which does no harm."""
    work = Work()
    async with peer("b", tmp_path, serves=[work], storage={"url": "sqlite://"}) as b:
        async with peer("a", tmp_path, listen=None) as a:
            particle = a.node.particle(chain([b.peer_id], function="hold"), ttl_ms=30_000)
            await a.node.submit(particle)
            await until(lambda: a.events("delivery_failed"))
            with full_disk():
                a.node.routing.learn(Contact.configured(b.address))
                await until(lambda: b.outcomes("accepted") == 1 and a.metric("fluvial_outbox_lanes") == 0)
                await anyio.sleep(2 * DEFERRED_S)
        async with peer("a", tmp_path, listen=None, knows=[b]) as a:
            await until(lambda: a.metric("fluvial_outbox_lanes") == 0)
        assert (b.outcomes("accepted"), work.held) == (1, 1)


# --- what is on record


async def test_a_finished_particle_is_finished_in_the_store(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        particle = a.node.particle('(call %init_peer_id% ("op" "identity") [1])', ttl_ms=30_000)
        await a.node.submit(particle)
        await until(lambda: a.events("particle_finished"))
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        assert await store.particles.status(particle.key) is ParticleState.FINISHED
        assert list(await store.particles.live(particle.header.timestamp_ms)) == []


async def test_what_a_peer_asks_for_is_counted_while_the_particle_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keepers: list[Keeper] = []
    resume = Keeper.resume

    async def noted(self: Keeper) -> Container[ParticleKey]:
        keepers.append(self)
        return await resume(self)

    async with peer("a", tmp_path) as a:
        monkeypatch.setattr(Keeper, "resume", noted)
        async with peer("b", tmp_path) as b:
            numbers = " ".join(map(str, range(200)))
            script = f'(seq (call "{b.peer_id}" ("op" "array") [{numbers}] xs) (seq {STREAMED} (call "{NOBODY}" ("a" "b") [#c])))'
            particle = make_particle(script.replace("HERE", b.peer_id))
            assert (await a.deliver(delivery(particle, b), b)).reason == ""
            [keeper] = keepers
            actor = keeper.present.get(particle.key)
            assert actor is not None
            await until(lambda: actor.idle)
            here, before = list(actor._session.known.contents), b.metric(HELD)
            assert len(here) > 200
            keeper.lacks(particle.key, NOBODY, [content_id(f"made up {number}") for number in range(1_024)])
            assert b.metric(HELD) == before
            keeper.lacks(particle.key, NOBODY, here)
            assert b.metric(HELD) >= before + 100 * len(here)
            assert b.metric(HELD) == keeper.held_bytes
            keeper.lacks(particle.key, NOBODY, [])
            assert b.metric(HELD) < before + 2_000
