"""What particles hold in memory is bounded on a peer: for one, for an initiator, for all; and it is given back."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.air.data.content import Json
from fluvial.air.data.wire import WireData
from fluvial.air.machine.machine import Machine
from fluvial.client import Flow, PreparedRun
from fluvial.encoding import encode
from fluvial.fairness import Payer
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.delivery.outbox import UNCOUNTED_BYTES
from fluvial.particles.memory import COPIES, MemoryBudget, Reservation
from fluvial.particles.receipt import Receipt
from fluvial.story.story import tell

from tests.core.particles.test_handing_over import scattered
from tests.plugins.transport_tcp.peers import stranger
from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, Work, chain, id_of, keys_of, peer, until

IN_MEMORY = "fluvial_particles_in_memory"
HELD = "fluvial_particles_memory_bytes"
SUSPENDED = "fluvial_particles_suspended"
HEAVY, LIGHT = keys_of("heavy"), keys_of("light")
NOBODY = id_of("nobody")


def delivery(particle: Particle, to: Peer, data: bytes = b"") -> Delivery:
    return Delivery(to.peer_id.public_key, 1, particle.header, particle.signature, particle.script, data)


def hoard(to: PeerId, count: int, *, beside: str = "(null)") -> str:
    """Calls that are never answered, so many times so many."""
    listed = " ".join(["1"] * count)
    inner = f'(call "{NOBODY}" ("a" "b") [i j])'
    folds = f"(fold xs i (par (fold xs j (par {inner} (next j))) (next i)))"
    return f'(seq (call "{to}" ("op" "array") [{listed}] xs) (par {beside} {folds}))'


def hold(to: PeerId) -> str:
    """A call of a service that ends when the test wants."""
    return f'(call "{to}" ("work" "hold") [1])'


async def give(a: Peer, b: Peer, keys: KeyPair, script: str, name: str, data: bytes = b"") -> Receipt:
    return await a.deliver(delivery(make_particle(script, keys=keys, particle_id=name), b, data), b)


async def patiently(a: Peer, b: Peer, particle: Particle) -> Receipt:
    """As a sender does: try again as long as those before it are still being worked on."""
    for _ in range(500):
        receipt = await a.deliver(delivery(particle, b), b)
        if receipt.reason != "memory":
            return receipt
        await anyio.sleep(0.02)
    return receipt


# --- one particle


async def test_a_particle_that_holds_too_much_fails_and_leaves_and_its_initiator_hears_of_it(tmp_path: Path) -> None:
    limits = {"memory_bytes_max": 1_000_000}
    async with peer("b", tmp_path, particles=limits) as b, peer("a", tmp_path, knows=[b]) as a:
        particle = a.node.particle(hoard(b.peer_id, 60), ttl_ms=30_000)
        async with Flow(a.node, particle, PreparedRun(script=particle.script)) as flow:
            async for notice in flow.listen():
                if notice.peer_id == b.peer_id:
                    break
        assert notice.code == 20102
        assert "1,000,000 bytes of memory" in notice.message
        await until(lambda: b.metric(IN_MEMORY) == 0)
        assert b.metric(HELD) < 100_000
        [failed] = b.events("flow_failed")
        assert failed["code"] == 20102
        again = await a.deliver(delivery(particle, b), b)
        assert (again.reason, again.settled, again.temporary) == ("failed", False, False)
        assert "20102" in again.explanation


async def test_what_has_failed_is_not_rebuilt_after_a_restart(tmp_path: Path) -> None:
    limits = {"memory_bytes_max": 1_000_000}
    particle = make_particle(hoard(id_of("b"), 60, beside=hold(id_of("b"))))
    work = Work()
    async with peer("a", tmp_path) as a:
        async with peer("b", tmp_path, serves=[work], particles=limits) as b:
            await a.deliver(delivery(particle, b), b)
            await until(lambda: b.events("flow_failed"))
            await until(lambda: b.metric(IN_MEMORY) == 0)
        async with peer("b", tmp_path, serves=[work], particles=limits) as b:
            await anyio.sleep(0.1)
            assert (b.metric(IN_MEMORY), b.metric(SUSPENDED)) == (0, 0)
            assert (await a.deliver(delivery(particle, b), b)).reason == "failed"
            assert b.metric(IN_MEMORY) == 0
            stored = await b.node.stored(particle)
            assert stored is not None
            story = tell(stored, b.peer_id)
            assert story.error.startswith("20102: ")
            assert [event.error for event in story.events if event.kind == "notice"] == [story.error]


async def test_calls_of_a_flow_that_has_failed_are_ended(tmp_path: Path) -> None:
    work = Work()
    async with (
        peer("b", tmp_path, serves=[work], particles={"memory_bytes_max": 1_000_000}) as b,
        peer("a", tmp_path) as a,
    ):
        script = f'(par {hold(b.peer_id)} (seq (call "{b.peer_id}" ("peer" "timeout") [50]) {hoard(b.peer_id, 60)}))'
        assert (await give(a, b, HEAVY, script, "p")).reason == ""
        await until(lambda: work.held == 1)
        await until(lambda: b.events("flow_failed"))
        await until(lambda: work.ended_early == 1)
        assert b.metric(IN_MEMORY) == 0


async def test_data_that_would_take_too_much_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    value: Json = [[] for _ in range(100_000)]
    async with peer("b", tmp_path, particles={"memory_bytes_max": 1_000_000}) as b, peer("a", tmp_path) as a:
        receipt = await give(a, b, HEAVY, hold(b.peer_id), "p", encode(WireData((value,))))
        assert (receipt.reason, receipt.temporary) == ("size", False)
        assert "1,000,000 bytes of memory" in receipt.explanation


async def test_what_has_finished_leaves(tmp_path: Path) -> None:
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        particle = make_particle(f'(call "{b.peer_id}" ("op" "noop") [])')
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: b.metric(IN_MEMORY) == 0)
        assert (await a.deliver(delivery(particle, b), b)).reason == "replay"
        assert b.metric(IN_MEMORY) == 0


# --- all particles


def small_node(**limits: int) -> dict[str, int]:
    return {"memory_bytes_max": 4_000_000, "node_memory_bytes_max": 8_000_000, **limits}


async def test_idle_machines_leave_when_memory_is_short_and_come_back(tmp_path: Path) -> None:
    work = Work()
    work.open.set()
    async with peer("b", tmp_path, serves=[work], particles=small_node()) as b, peer("a", tmp_path) as a:
        particles = [make_particle(hoard(b.peer_id, 28), keys=HEAVY, particle_id=f"p{number}") for number in range(10)]
        for particle in particles:
            assert (await patiently(a, b, particle)).reason == ""
        assert b.events("flow_failed") == []
        assert 0 < b.metric(IN_MEMORY) < 10
        assert b.metric("fluvial_particles_put_off_total") > 0
        # It is known still: a repetition, no new particle.
        assert (await patiently(a, b, particles[0])).reason == ""
        assert b.outcomes("repeated") == 1


async def test_who_sends_many_small_particles_is_never_refused_for_those_that_are_idle(tmp_path: Path) -> None:
    async with (
        peer("b", tmp_path, particles=small_node(node_memory_bytes_max=4_000_000)) as b,
        peer("a", tmp_path) as a,
    ):
        script = f'(seq (call "{b.peer_id}" ("op" "noop") []) (call "{NOBODY}" ("a" "b") []))'
        assert (
            await give(a, b, LIGHT, script, "light")
        ).reason == ""  # one of somebody else, as small and idle for longer
        for number in range(400):
            assert (await give(a, b, HEAVY, script, f"p{number}")).reason == ""
        assert b.metric("fluvial_particles_put_off_total") > 0
        assert b.metric(HELD) <= 4_000_000
        assert 0 < b.metric(IN_MEMORY) < 400


async def test_a_heavy_stranger_is_refused_and_others_are_served(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work], particles=small_node()) as b, peer("a", tmp_path) as a:
        receipts = []
        for number in range(12):
            script = hoard(b.peer_id, 28, beside=hold(b.peer_id))
            receipts.append(await give(a, b, HEAVY, script, f"heavy {number}"))
            await anyio.sleep(0.1)
        refused = [receipt for receipt in receipts if receipt.reason]
        assert {receipt.reason for receipt in refused} == {"memory"}
        assert all(receipt.temporary and "try again" in receipt.explanation for receipt in refused)
        assert b.outcomes("memory") == len(refused) > 0
        assert (await give(a, b, LIGHT, f'(call "{b.peer_id}" ("op" "noop") [])', "light")).reason == ""
        assert b.metric(HELD) <= 8_000_000
        work.open.set()


async def test_after_a_restart_particles_go_on_a_few_at_a_time_and_new_ones_at_once(tmp_path: Path) -> None:
    work = Work()
    count = 60
    async with peer("a", tmp_path) as a:
        async with peer("b", tmp_path, serves=[work]) as b:
            for number in range(count):
                await give(a, b, HEAVY, hold(b.peer_id), f"p{number}")
            await until(lambda: work.held == count)
        again = Work()
        async with peer("b", tmp_path, serves=[again]) as b:
            # Those of the stranger are restored later: the one that comes now does not wait for them.
            waiting = b.metric(SUSPENDED)
            assert (await give(a, b, LIGHT, hold(b.peer_id), "new")).reason == ""
            assert waiting > count / 2
            await until(lambda: again.held == count + 1)
            assert b.metric(SUSPENDED) == 0


async def test_a_suspended_particle_that_is_needed_is_restored_before_its_turn(tmp_path: Path) -> None:
    work = Work()
    async with peer("a", tmp_path) as a:
        particles = [make_particle(hold(id_of("b")), particle_id=f"p{number}") for number in range(40)]
        async with peer("b", tmp_path, serves=[work]) as b:
            for particle in particles:
                await a.deliver(delivery(particle, b), b)
            await until(lambda: work.held == len(particles))
        again = Work()
        async with peer("b", tmp_path, serves=[again]) as b:
            assert (await a.deliver(delivery(particles[-1], b), b)).reason == ""
            await until(lambda: again.held == len(particles))
            assert b.outcomes("repeated") == 1


async def test_what_comes_back_uses_the_share_of_whoever_brought_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, payers, reserved = Work(), list[PeerId](), MemoryBudget.reserved

    def noted(self: MemoryBudget, payer: Payer, size: int) -> Reservation:
        payers.append(payer.upstream.sender)
        return reserved(self, payer, size)

    async with (
        peer("b", tmp_path, serves=[work]) as b,
        peer("a", tmp_path, knows=[b], serves=[work]) as a,
        peer("c", tmp_path, knows=[a]) as c,
    ):
        monkeypatch.setattr(MemoryBudget, "reserved", noted)
        await c.node.submit(c.node.particle(chain([a.peer_id, b.peer_id, a.peer_id]), ttl_ms=60_000))
        await until(lambda: len(work.done) == 3)
        # Taken in by each of them; and handed over by c and by a to peers that are not connected yet.
        assert payers[:5] == [*[c.peer_id] * 3, a.peer_id, c.peer_id]


async def test_what_is_handed_over_is_counted_where_it_is_not_known_that_the_peer_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script can name hundreds, and whoever stands on the way to them need not answer."""
    script, nobodies = f"; {'x' * (UNCOUNTED_BYTES // 2)}\n", [id_of(f"nobody {number}") for number in range(10)]
    script += scattered(nobodies)

    async def carry(carrier: Carrier, delivery: Delivery) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr(Carrier, "carry", carry)
    async with peer("a", tmp_path) as a:
        await a.node.submit(a.node.particle(script, ttl_ms=60_000))
        await until(lambda: a.metric("fluvial_particles_memory_bytes") > len(nobodies) * COPIES * len(script))


async def test_what_a_peer_has_no_memory_for_does_not_hold_up_what_others_send_there(tmp_path: Path) -> None:
    work, elsewhere = Work(), Work()
    async with (
        peer("b", tmp_path, serves=[work], particles=small_node()) as b,
        peer("a", tmp_path, serves=[elsewhere], knows=[b]) as a,
        peer("sender", tmp_path) as sender,
    ):
        for number in range(8):
            there = hoard(b.peer_id, 28, beside=hold(b.peer_id))
            script = f'(seq (call "{a.peer_id}" ("op" "noop") ["{number}"]) {there})'
            assert (await give(sender, a, HEAVY, script, f"heavy {number}")).reason == ""
        await until(lambda: b.outcomes("memory") > 0)
        elsewhere.open.set()
        for number in range(5):
            script = (
                f'(seq (call "{a.peer_id}" ("op" "noop") [{number}]) (call "{b.peer_id}" ("work" "step") [{number}]))'
            )
            assert (await give(sender, a, LIGHT, script, f"light {number}")).reason == ""
        await until(lambda: len(work.done) == 5)
        assert b.metric("fluvial_particles_total", outcome="memory") > 0
        # They are still refused, and tried again.
        assert a.metric("fluvial_outbox_lanes") >= 1
        work.open.set()


async def test_what_others_do_not_read_is_counted_while_it_is_under_way(tmp_path: Path) -> None:
    limits = {"memory_bytes_max": 8_000_000, "node_memory_bytes_max": 16_000_000}
    deaf = [keys_of(f"deaf {number}") for number in range(12)]
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(peer("b", tmp_path, particles=limits))
        a = await stack.enter_async_context(peer("a", tmp_path))
        for keys in deaf:
            await stack.enter_async_context(stranger(Contact.parse(b.address), keys=keys))
        sends = "(null)"
        for keys in deaf:
            sends = f'(par (call "{keys.peer_id}" ("a" "b") [text]) {sends})'
        script = f'(seq (call "{b.peer_id}" ("op" "identity") ["{"x" * 900_000}"] text) {sends})'
        assert (await give(a, b, HEAVY, script, "p")).reason == ""
        await until(lambda: b.metric(HELD) > 7_000_000)
        for _ in range(20):
            await anyio.sleep(0.02)
            assert b.metric(HELD) < 16_000_000, "further deliveries wait"
        light = f'(call "{b.peer_id}" ("op" "noop") [])'
        assert (await give(a, b, LIGHT, light, "q")).reason == "", "others are served"


# --- what has ended


async def test_a_flow_that_goes_nowhere_is_out_of_memory_when_it_has_its_result_and_leaves_no_garbage(
    tmp_path: Path,
) -> None:
    script = '(seq (call %init_peer_id% ("op" "identity") ["tea"] x) (call %init_peer_id% ("return" "") [x]))'
    async with peer("a", tmp_path) as a:

        async def run() -> Particle:
            particle = a.node.particle(script, ttl_ms=30_000)
            async with Flow(a.node, particle, PreparedRun(script=script)) as flow:
                assert await flow.result() == ("tea",)
                assert a.metric(IN_MEMORY) == 0
            return particle

        before = await run()
        gc.collect()
        machines = _machines()
        gc.disable()
        try:
            await run()
            assert _machines() == machines
        finally:
            gc.enable()
        stored = await a.node.stored(before)
        assert stored is not None
        assert tell(stored, a.peer_id).error == ""


def _machines() -> int:
    return sum(type(one) is Machine for one in gc.get_objects())
