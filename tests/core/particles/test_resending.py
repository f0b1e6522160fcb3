"""Between real peers: who waits in vain for what another one has promised to send somewhere sends it there itself; and where all is well nobody does."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from fluvial.addresses import Contact
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.air.syntax import parse
from fluvial.clock import ManualClock
from fluvial.errors import Refused
from fluvial.particle import Delivery, Particle, decode_delivery, encode_delivery
from fluvial.particles.actor import Actor
from fluvial.particles.journal import RESENT
from fluvial.particles.promises import Look, Promise, Promises
from fluvial.particles.receipt import PROTOCOL, Receipt, encode_receipt
from fluvial.particles.resender import RESENDS_AT_ONCE_MAX, Resender
from fluvial.particles.workplace import Workplace
from fluvial.storage import open_store
from fluvial.story.story import tell
from prometheus_client import CollectorRegistry

from tests.plugins.transport_tcp.peers import StartPeer
from tests.support.deliveries import make_particle
from tests.support.nodes import NETWORK, WAIT_S, Peer, Work, id_of, keys_of, peer, until

NOW_MS = 1_700_000_000_000
AFTER_MS = 10_000
SWEPT_S = 1.3
"""Long enough for a sweep."""

NEED = f"""
    (seq (call "{id_of("l")}" ("work" "step") [0] x)
         (seq (par (call "{id_of("q")}" ("work" "step") [x] y)
                   (call %init_peer_id% ("work" "step") [10] z))
              (call %init_peer_id% ("work" "step") [y] w)))"""
"""What ``l`` makes goes to ``q`` and to the initiator; the initiator waits for what comes of it at ``q``."""


def resends(*peers: Peer) -> float:
    return sum(one.metric("fluvial_resends_total") for one in peers)


def quiet(*peers: Peer) -> bool:
    """Whether nobody has refused anything, or complained."""
    names = ("particle_refused", "delivery_refused", "failure_reported", "failure_not_reported", "storage_failed")
    return not any(one.events(name) for one in peers for name in names)


@asynccontextmanager
async def liar(folder: Path, *, tells: Peer) -> AsyncIterator[None]:
    """A peer ``l`` that makes its call and signs that it has sent the particle everywhere, but sends it to one peer only."""
    told: list[Delivery] = []

    async def receive(sender: Any, protocol: str, payload: bytes) -> bytes:
        told.append(decode_delivery(payload))
        return encode_receipt(Receipt())

    async with anyio.create_task_group() as tasks:
        stranger = await StartPeer(tasks, folder)(keys=keys_of("l"), receive=receive, network=NETWORK, listen=())
        stranger.transport.keep(Contact.parse(tells.address))

        async def lie() -> None:
            await until(lambda: told)
            delivery = told[0]
            particle, data = delivery.particle, lies(delivery)
            back = Delivery(tells.peer_id.public_key, 2, particle.header, particle.signature, particle.script, data)
            contact = Contact.parse(tells.address)
            await stranger.transport.request(contact, PROTOCOL, encode_delivery(back), timeout_s=WAIT_S)

        tasks.start_soon(lie)
        yield
        tasks.cancel_scope.cancel()


def lies(delivery: Delivery) -> bytes:
    particle, header = delivery.particle, delivery.header
    machine = Machine(
        parse(particle.script),
        particle.key,
        id_of("l"),
        initiator=particle.initiator,
        timestamp_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
    )
    effects = machine.merge(decode_data(particle.key, delivery.data))
    effects = machine.resolve({request.instance: Answered(1) for request in effects.requests})
    assert id_of("q") in effects.next_peers
    machine.seal(keys_of("l").sign)
    return encode_data(machine.batches(), machine.contents())


async def submit(on: Peer, script: str, *, particle_id: str = "p", **fields: int) -> Particle:
    particle = make_particle(
        script,
        keys=on.node.keys,
        particle_id=particle_id,
        **{"timestamp_ms": NOW_MS, "ttl_ms": 120_000, **fields},
    )
    await on.node.submit(particle)
    return particle


async def wait_in_vain(a: Peer, work: Work, folder: Path, script: str = NEED, **fields: int) -> Particle:
    """Until ``l`` has lied to ``a`` and is gone for good."""
    async with liar(folder, tells=a):
        await until(lambda: id_of("l") in a.node.transport.connected())
        particle = await submit(a, script, **fields)
        await until(lambda: a.outcomes("accepted") == 1)
        await until(lambda: 10 in work.done)
    return particle


# --- where a promise is not kept


@pytest.mark.parametrize("small", [True, False])
async def test_the_promises_of_a_large_flow_are_looked_at_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    look, loop, threads = Promises.look, threading.current_thread(), list[threading.Thread]()

    def noted(self: Promises, *arguments: Any, **others: Any) -> Look:
        threads.append(threading.current_thread())
        return look(self, *arguments, **others)

    monkeypatch.setattr(Promises, "look", noted)
    monkeypatch.setattr(Workplace, "machine_is_small", small)
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
    ):
        await wait_in_vain(a, at_a, tmp_path)
        clock.time_ms += AFTER_MS
        await until(lambda: at_a.done == [10, 2])
    assert {thread is loop for thread in threads} == {small}


async def test_a_lie_holds_back_a_delivery_for_a_time_only(tmp_path: Path) -> None:
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
    ):
        particle = await wait_in_vain(a, at_a, tmp_path)
        clock.time_ms += AFTER_MS - 1
        await anyio.sleep(SWEPT_S)
        assert (at_q.done, resends(a)) == ([], 0)
        clock.time_ms += 1
        await until(lambda: at_a.done == [10, 2])
        assert at_q.done == [1]
        (event,) = a.events("particle_resent")
        assert (event["to"], event["promised_by"], event["after_ms"]) == (id_of("q"), id_of("l"), AFTER_MS)
        assert resends(a) == 1
        assert quiet(a, q)
        stored = await a.node.stored(particle)
        assert stored is not None
        (again,) = [event for event in tell(stored, a.peer_id).events if event.kind == "hop" and not event.signed]
        assert (again.peer, again.to, again.function) == (a.peer_id, q.peer_id, "step")


async def test_who_cannot_reach_a_peer_is_helped_by_others(tmp_path: Path) -> None:
    """The peer that promised is honest, but knows no way to ``q``; its own delivery, much later, does no harm."""
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
        peer("l", tmp_path, serves=[Work()], clock=clock, knows=[a]) as promised,
    ):
        a.node.routing.learn(Contact.parse(promised.address))
        await submit(a, NEED)
        await until(lambda: 10 in at_a.done)
        await until(lambda: promised.events("delivery_failed"))
        clock.time_ms += AFTER_MS
        await until(lambda: at_a.done == [10, 2])
        promised.node.routing.learn(Contact.parse(q.address))
        await until(lambda: q.outcomes("repeated") + q.outcomes("accepted") == 2)
        assert at_q.done == [1]
        assert quiet(a, q)
        assert promised.events("delivery_refused") == promised.events("particle_refused") == []


async def submit_when_there_is_room(on: Peer, particle_id: str) -> None:
    """Those before it may still be at work."""
    while True:
        with suppress(Refused):
            await submit(on, NEED, particle_id=particle_id)
            return
        await anyio.sleep(0.01)


async def test_particles_that_left_the_memory_are_seen_to_as_well(tmp_path: Path) -> None:
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q], particles={"live_max": 2}) as a,
        peer("l", tmp_path, serves=[Work()], clock=clock, knows=[a]) as promised,
    ):
        a.node.routing.learn(Contact.parse(promised.address))
        for number in range(5):
            await submit_when_there_is_room(a, f"p{number}")
            await until(lambda n=number: a.outcomes("accepted") == n + 1 and at_a.done == [10] * (n + 1))
        clock.time_ms += AFTER_MS
        await until(lambda: at_a.done == [10] * 5 + [2] * 5)
        assert resends(a) == 5


# --- where it ends


async def test_nothing_is_sent_when_the_particle_is_dead(tmp_path: Path) -> None:
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
    ):
        await wait_in_vain(a, at_a, tmp_path, ttl_ms=AFTER_MS + 1)
        clock.time_ms += AFTER_MS + 1
        await until(lambda: a.events("particle_expired"))
        await anyio.sleep(SWEPT_S)
        assert resends(a) == 0
        assert q.outcomes("accepted") == q.outcomes("expired") == 0


async def test_nothing_is_sent_that_may_make_no_more_hops(tmp_path: Path) -> None:
    """Else an honest peer would refuse it, and the initiator would hear of that."""
    clock, at_a = ManualClock(NOW_MS), Work()
    async with (
        peer("q", tmp_path, serves=[Work()], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
    ):
        await wait_in_vain(a, at_a, tmp_path, max_hops=2)
        clock.time_ms += AFTER_MS
        await anyio.sleep(SWEPT_S)
        assert resends(a) == 0
        assert quiet(a, q)


async def test_switched_off_promises_are_relied_on_for_ever(tmp_path: Path) -> None:
    clock, at_a = ManualClock(NOW_MS), Work()
    async with (
        peer("q", tmp_path, serves=[Work()], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q], particles={"resend_after_ms": 0}) as a,
    ):
        await wait_in_vain(a, at_a, tmp_path)
        clock.time_ms += 10 * AFTER_MS
        await anyio.sleep(SWEPT_S)
        assert (resends(a), q.outcomes("accepted")) == (0, 0)


async def test_what_dies_waits_for_no_run_of_a_particle_whose_promises_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, at_a, looked = ManualClock(NOW_MS), Work(), anyio.Event()

    async def takes_long(self: Actor, **_: int) -> Look:
        looked.set()
        await anyio.sleep_forever()
        raise AssertionError("nobody wakes it")

    async with peer("a", tmp_path, serves=[at_a], clock=clock) as a:
        await wait_in_vain(a, at_a, tmp_path)
        other = make_particle(NEED, keys=a.node.keys, particle_id="other", timestamp_ms=NOW_MS, ttl_ms=AFTER_MS + 1_000)
        await a.node.submit(other)
        monkeypatch.setattr(Actor, "resend", takes_long)
        clock.time_ms += AFTER_MS
        await looked.wait()
        clock.time_ms += 1_000
        await until(lambda: a.events("particle_expired"))


async def test_a_particle_that_is_at_work_is_looked_at_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, at_q, at_a, met, resend = ManualClock(NOW_MS), Work(), Work(), list[str](), Actor.resend

    async def at_work(self: Actor, **named: int) -> Look:
        if met:
            return await resend(self, **named)
        async with self._turn():
            with pytest.raises(Refused) as refused:
                await resend(self, **named)
        met.append(refused.value.reason)
        raise refused.value

    monkeypatch.setattr(Actor, "resend", at_work)
    async with (
        peer("q", tmp_path, serves=[at_q], clock=clock) as q,
        peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a,
    ):
        await wait_in_vain(a, at_a, tmp_path)
        clock.time_ms += AFTER_MS
        await until(lambda: at_a.done == [10, 2])
    assert met == ["busy"]


# --- restarts


async def test_a_restart_forgets_no_promise_and_starts_no_time_anew(tmp_path: Path) -> None:
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with peer("q", tmp_path, serves=[at_q], clock=clock) as q:
        async with peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a:
            await wait_in_vain(a, at_a, tmp_path)
            clock.time_ms += AFTER_MS - 1
        async with peer("a", tmp_path, serves=[at_a], clock=clock, knows=[q]) as a:
            await anyio.sleep(SWEPT_S)
            assert resends(a) == 0
            clock.time_ms += 1
            await until(lambda: at_a.done == [10, 2])
            assert (resends(a), at_q.done) == (1, [1])


async def test_what_was_to_be_sent_is_sent_after_a_restart_and_is_not_asked_for_again(tmp_path: Path) -> None:
    """The peer that was promised the particle is away; what was found about that is in the outbox, and in the journal."""
    clock, at_q, at_a = ManualClock(NOW_MS), Work(), Work()
    async with peer("a", tmp_path, serves=[at_a], clock=clock) as a:
        particle = await wait_in_vain(a, at_a, tmp_path)
        clock.time_ms += AFTER_MS
        await until(lambda: a.events("delivery_failed"))
    async with peer("a", tmp_path, serves=[at_a], clock=clock) as a:
        await until(lambda: a.events("delivery_failed"))
        await anyio.sleep(SWEPT_S)
        assert resends(a) == 0
        async with peer("q", tmp_path, serves=[at_q], clock=clock, relays=[a]):
            await until(lambda: at_a.done == [10, 2])
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        stored = await store.particles.load(particle.key)
        assert stored is not None
        assert [entry.kind for entry in stored.journal].count(RESENT) == 1
    assert at_q.done == [1]


# --- where all is well


@pytest.mark.long
async def test_an_honest_flow_sends_nothing_twice(tmp_path: Path) -> None:
    """Three branches that all come back to the initiator, one of them late: its peer was asked by the initiator itself."""
    clock, work, late = ManualClock(NOW_MS), Work(), Work()
    names = ("b", "c", "d")
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(
                peer(name, tmp_path, clock=clock, serves=[late if name == "d" else Work()]),
            )
            for name in names
        ]
        a = await stack.enter_async_context(peer("a", tmp_path, clock=clock, serves=[work], knows=peers))
        branches = [
            f'(call "{id_of(name)}" ("work" "{"hold" if name == "d" else "step"}") [0] {name})' for name in names
        ]
        await submit(
            a,
            f'(seq (par {branches[0]} (par {branches[1]} {branches[2]})) (call %init_peer_id% ("work" "step") [d] e))',
        )
        await until(lambda: late.held == 1 and a.outcomes("accepted") == 2)
        for _ in range(3):
            clock.time_ms += 2 * AFTER_MS
            await anyio.sleep(SWEPT_S)
        late.open.set()
        await until(lambda: work.done == [1])
        everybody = (a, *peers)
        assert resends(*everybody) == 0
        assert sum(one.outcomes("repeated") for one in everybody) == 0
        assert quiet(*everybody)


def fan(names: Sequence[str]) -> str:
    """A relay hands a message to all, and nobody asks for an answer."""
    text = "(null)"
    for name in names:
        text = f'(par (call "{id_of(name)}" ("work" "step") [1] {name}) {text})'
    return f'(seq (call "{id_of("relay")}" ("work" "step") [0] x) {text})'


@pytest.mark.long
async def test_those_of_whom_nobody_hears_again_are_asked_little_and_do_nothing_twice(tmp_path: Path) -> None:
    """Each of them has done its part, and waits for the others as far as it knows."""
    clock, names = ManualClock(NOW_MS), ("b", "c", "d", "e")
    works = {name: Work() for name in names}
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(peer(name, tmp_path, clock=clock, serves=[works[name]])) for name in names
        ]
        relay = await stack.enter_async_context(
            peer("relay", tmp_path, clock=clock, serves=[Work()], knows=members),
        )
        a = await stack.enter_async_context(peer("a", tmp_path, clock=clock, knows=[relay]))
        for one in members:
            for other in members:
                one.node.routing.learn(Contact.parse(other.address))
        await submit(a, fan(names))
        await until(lambda: all(work.done == [1] for work in works.values()))
        everybody = (a, relay, *members)
        clock.time_ms += AFTER_MS
        await until(lambda: sum(one.outcomes("repeated") for one in members) == 4)
        assert [one.outcomes("repeated") for one in members] == [1] * 4
        await anyio.sleep(SWEPT_S)
        assert resends(*members) == 4
        clock.time_ms += AFTER_MS
        await until(lambda: resends(*members) >= 6)
        for _ in range(2):
            clock.time_ms += 2 * AFTER_MS
            await anyio.sleep(SWEPT_S)
        assert 6 <= resends(*everybody) <= 8, (
            "of two of them that wait for each other one asks, or both at the same time"
        )
        assert [work.done for work in works.values()] == [[1]] * 4
        assert quiet(*everybody)
        sizes = [event["bytes"] for one in members for event in one.events("particle_sent")]
        assert max(sizes) < 2_000


# --- how much at once


async def test_a_sweep_asks_for_so_many_deliveries_and_no_more() -> None:
    clock = ManualClock(NOW_MS)
    resender = Resender(after_ms=1, clock=clock, metrics=CollectorRegistry(), log=structlog.get_logger())
    asked: list[int] = []

    class Waiting:
        """A particle that waits for eleven peers."""

        particle = make_particle("(null)")

        async def resend(self, *, after_ms: int, room: int) -> Look:
            asked.append(min(room, 11))
            return Look((Promise("q", (b"", 1), "l", (), NOW_MS),) * min(room, 11))  # type: ignore[arg-type]

    async def find(key: object) -> Waiting:
        return Waiting()

    for number in range(5):
        resender.watch(make_particle("(null)", particle_id=f"p{number}", timestamp_ms=NOW_MS), NOW_MS)
    clock.time_ms += 1
    await resender.sweep(find)
    assert asked == [11, 11, RESENDS_AT_ONCE_MAX - 22]
    asked.clear()
    await resender.sweep(find)
    assert asked == [11, 11], "those that had no room, and only those"
