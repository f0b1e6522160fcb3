"""The outbox: everything arrives, and a peer that is away is left in peace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.air.data.wire import encode_data
from fluvial.assembly.switchboard import Switchboard
from fluvial.errors import Unreachable
from fluvial.identity import PeerId
from fluvial.particle import Delivery, ParticleKey, decode_delivery
from fluvial.particles import room
from fluvial.particles.delivery import lane, places, schedule
from fluvial.particles.delivery.carrier import Carrier
from fluvial.particles.delivery.row_memory import ROW_BYTES
from fluvial.particles.inbox import Inbox
from fluvial.particles.keeper import Keeper
from fluvial.particles.receipt import PROTOCOL
from fluvial.seats import ContinuingAnswer
from fluvial.storage import open_store

from tests.support.deliveries import make_particle
from tests.support.nodes import Peer, Work, chain, id_of, keys_of, peer, until
from tests.support.processes import free_port

MANY = 50
EMPTY = encode_data((), {})


async def submit(to: str, on: Peer, number: int) -> None:
    await on.node.submit(on.node.particle(chain([to]), ttl_ms=60_000, particle_id=f"p{number}"))


def tries(of: Peer) -> float:
    return of.metric("fluvial_deliveries_total", outcome="unreachable")


async def test_a_peer_that_is_away_is_tried_with_one_particle_at_a_time(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        for number in range(MANY):
            await submit(id_of("b"), a, number)
        await until(lambda: tries(a) > 0)
        before = tries(a)
        await anyio.sleep(1)
        assert tries(a) - before < 8, "pauses of 0.1, 0.2, 0.4 … seconds"
        assert a.metric("fluvial_outbox_lanes") == 1


async def test_when_it_comes_it_gets_everything(tmp_path: Path) -> None:
    work = Work()
    async with peer("a", tmp_path) as a:
        for number in range(MANY):
            await submit(id_of("b"), a, number)
        await until(lambda: tries(a) > 0)
        async with peer("b", tmp_path, listen=None, relays=[a], serves=[work]) as b:
            await until(lambda: len(work.done) == MANY)
            assert b.outcomes("accepted") == MANY
            await until(lambda: a.metric("fluvial_outbox_lanes") == 0)
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        assert await store.particles.outbox_rows(0) == []


async def test_a_bug_costs_a_delivery_a_pause_and_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel, broken = Keeper.parcel, ["p0", "p3"]

    async def sometimes(self: Keeper, key: ParticleKey, to: PeerId) -> Any:
        found = await parcel(self, key, to)
        if found is not None and found.delivery.header.id in broken:
            broken.remove(found.delivery.header.id)
            raise ZeroDivisionError
        return found

    monkeypatch.setattr(Keeper, "parcel", sometimes)
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for number in range(5):
            await submit(b.peer_id, a, number)
        await until(lambda: len(work.done) == 5)
        await until(lambda: a.metric("fluvial_outbox_lanes") == 0)
        assert not broken
        assert {event["reason"] for event in a.events("delivery_broken")} == {"ZeroDivisionError"}


async def test_what_comes_while_one_is_handed_over_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, gate, begun = Work(), anyio.Event(), anyio.Event()
    carry = Carrier.carry

    async def held_up(self: Carrier, delivery: Delivery) -> Any:
        if delivery.header.id == "p0":
            begun.set()
            await gate.wait()
        return await carry(self, delivery)

    monkeypatch.setattr(Carrier, "carry", held_up)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        await submit(b.peer_id, a, 0)
        await begun.wait()
        for number in range(1, MANY):
            await submit(b.peer_id, a, number)
        await until(lambda: len(work.done) == MANY - 1)
        assert a.metric("fluvial_outbox_lanes") == 1
        gate.set()
        await until(lambda: len(work.done) == MANY)
        await until(lambda: a.metric("fluvial_outbox_lanes") == 0)


async def test_one_that_a_peer_does_not_answer_holds_up_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer is there, as the answers to others show: only this one is tried again later."""
    work, gate, begun, carry = Work(), anyio.Event(), anyio.Event(), Carrier.carry

    async def not_answered(self: Carrier, delivery: Delivery) -> Any:
        if delivery.header.id == "p0" and not begun.is_set():
            begun.set()
            await gate.wait()
            raise Unreachable("no answer")
        return await carry(self, delivery)

    monkeypatch.setattr(Carrier, "carry", not_answered)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        await submit(b.peer_id, a, 0)
        await begun.wait()
        await submit(b.peer_id, a, 1)
        await until(lambda: len(work.done) == 1)
        monkeypatch.setattr(lane, "PAUSE_S_FIRST", 3600.0)
        gate.set()
        for number in range(2, MANY):
            await submit(b.peer_id, a, number)
        await until(lambda: len(work.done) == MANY - 1)


async def test_a_peer_that_takes_little_at_a_time_is_handed_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All turns are used, though two that the peer takes long for have most of the places: none waits in longer and longer pauses since there was no room."""
    work, gate, begun = Work(), anyio.Event(), list[bytes]()
    monkeypatch.setattr(room, "DELIVERIES_PER_SENDER", 3)
    answer = Inbox.answer

    async def held_up(self: Inbox, sender: PeerId, payload: bytes) -> bytes:
        if decode_delivery(payload).header.id in ("p0", "p1"):
            begun.append(payload)
            await gate.wait()
        return await answer(self, sender, payload)

    monkeypatch.setattr(Inbox, "answer", held_up)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for number in range(2):
            await submit(b.peer_id, a, number)
        await until(lambda: len(begun) == 2)
        for number in range(2, 2 + MANY):
            await submit(b.peer_id, a, number)
        await until(lambda: len(work.done) == MANY)
        gate.set()
        assert b.metric("fluvial_messages_total", protocol=PROTOCOL, outcome="refused") < MANY


async def test_what_waits_for_peers_that_are_not_there_is_counted(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        before = a.metric("fluvial_particles_memory_bytes")
        await a.node.submit(a.node.particle(scattered(nobodies(200)), ttl_ms=60_000, particle_id="p"))
        await until(lambda: a.metric("fluvial_particles_memory_bytes") >= before + 200 * ROW_BYTES)


async def test_as_soon_as_a_peer_takes_something_again_the_rest_goes_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, gate, is_back, handed = Work(), anyio.Event(), anyio.Event(), 0
    carry = Carrier.carry

    async def away_at_first(self: Carrier, delivery: Delivery) -> Any:
        nonlocal handed
        if not is_back.is_set():
            raise Unreachable("away")
        handed += 1
        if handed == 2:
            await gate.wait()
        return await carry(self, delivery)

    monkeypatch.setattr(Carrier, "carry", away_at_first)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for number in range(MANY):
            await submit(b.peer_id, a, number)
        await until(lambda: tries(a) >= 2)
        is_back.set()
        await until(lambda: len(work.done) == MANY - 1)
        gate.set()
        await until(lambda: len(work.done) == MANY)


async def test_after_a_restart_nothing_is_handed_over_of_a_particle_before_it_has_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with peer("a", tmp_path) as a:
        await submit(id_of("b"), a, 0)
        await until(lambda: tries(a) > 0)
    go_on, turn = Keeper.go_on, anyio.Event()

    async def when_told(self: Keeper) -> None:
        await turn.wait()
        await go_on(self)

    monkeypatch.setattr(Keeper, "go_on", when_told)
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        await submit(b.peer_id, a, 1)
        await until(lambda: "p1" in b.watcher.received)
        assert b.watcher.received == ["p1"]
        turn.set()
        await until(lambda: b.watcher.received == ["p1", "p0"])


async def test_after_a_restart_what_waits_has_its_turn_by_who_brought_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has ended and must still be handed over goes on at once; the store tells whose it is."""
    strange, honest = (make_particle("(null)", keys=keys_of(name), particle_id=name) for name in ("strange", "honest"))
    now_ms = strange.header.timestamp_ms
    async with open_store("sqlite:///a.db", base_dir=tmp_path) as store:
        for particle, peers in ((strange, nobodies(200)), (honest, [id_of("client")])):
            sender = particle.initiator
            await store.particles.admit(particle, sender=sender, hops=1, now_ms=now_ms, peers=peers, finished=True)
            now_ms += 1
    tried: list[str] = []

    async def carry(carrier: Carrier, delivery: Delivery) -> Any:
        tried.append(delivery.header.id)
        await anyio.sleep(0.05)  # longer than it takes to read the other particle
        raise Unreachable("away")

    monkeypatch.setattr(Carrier, "carry", carry)
    async with peer("a", tmp_path):
        await until(lambda: "honest" in tried)
    assert tried.index("honest") < 100


async def test_the_store_tells_by_which_way_each_peer_was_found(tmp_path: Path) -> None:
    work = Work()
    async with (
        peer("relay", tmp_path) as relay,
        peer("b", tmp_path, listen=None, relays=[relay], serves=[work]) as b,
        peer("a", tmp_path, listen=None, relays=[relay], serves=[work]) as a,
    ):
        for number, to in enumerate((relay.peer_id, b.peer_id)):
            await submit(to, a, number)
        await until(lambda: len(work.done) == 1 and a.metric("fluvial_outbox_lanes") == 0)
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        ways = []
        for number in range(2):
            (found,) = await store.particles.find(f"p{number}")
            ways += [(one.peer, one.way, one.via) for one in await store.particles.handed(found.key)]
    assert ways == [(relay.peer_id, "connection", ""), (b.peer_id, "relay", str(relay.peer_id))]


async def test_all_ways_that_were_tried_are_in_the_error(tmp_path: Path) -> None:
    at = f"/ip4/127.0.0.1/tcp/{free_port()}"
    async with (
        peer("relay", tmp_path) as relay,
        peer("a", tmp_path, listen=None, relays=[relay], routing={"peers": [f"{at}/p2p/{id_of('b')}"]}) as a,
    ):
        await submit(id_of("b"), a, 0)
        await until(lambda: tries(a) >= 2)
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        (row,) = await store.particles.outbox_rows(0)
        assert at in row.last_error
        assert f"relay {relay.peer_id}" in row.last_error


async def test_what_is_left_is_told_in_the_store(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        await submit(id_of("b"), a, 0)
        await until(lambda: tries(a) >= 2)
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        (row,) = await store.particles.outbox_rows(0)
        assert (row.peer, row.attempts >= 1) == (id_of("b"), True)
        assert "no way to" in row.last_error


async def test_peers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for number in range(10):
            await submit(id_of("nobody"), a, number)
        await until(lambda: tries(a) >= 3)
        began = anyio.current_time()
        await submit(b.peer_id, a, 10)
        await until(lambda: work.done == [0])
        assert anyio.current_time() - began < 1


async def test_two_copies_meet_and_each_is_taken_for_what_it_brings(tmp_path: Path) -> None:
    """Both branches end on c at about the same time; c needs what both bring, and asks for nothing twice."""
    work = Work()
    async with (
        peer("c", tmp_path, serves=[work]) as c,
        peer("b1", tmp_path, serves=[Work()], knows=[c]) as b1,
        peer("b2", tmp_path, serves=[Work()], knows=[c]) as b2,
        peer("a", tmp_path, knows=[b1, b2]) as a,
    ):
        script = f"""
            (seq (par (call "{b1.peer_id}" ("work" "step") [1] x) (call "{b2.peer_id}" ("work" "step") [2] y))
                 (seq (call "{c.peer_id}" ("math" "add") [x y] sum) (call "{c.peer_id}" ("work" "step") [sum] z)))"""
        for number in range(10):
            await a.node.submit(a.node.particle(script, ttl_ms=60_000, particle_id=f"p{number}"))
        await until(lambda: work.done == [5] * 10)
        assert c.outcomes("missing") == 0
        assert [call for call in c.watcher.calls if call[2]] == []


def nobodies(count: int) -> list[PeerId]:
    return [id_of(f"nobody {number}") for number in range(count)]


def scattered(peers: Sequence[str]) -> str:
    """One call for each of these peers, all at once."""
    if len(peers) == 1:
        return f'(call "{peers[0]}" ("work" "step") [1])'
    half = len(peers) // 2
    return f"(par {scattered(peers[:half])} {scattered(peers[half:])})"


async def test_a_particle_goes_to_a_bounded_number_of_peers_and_its_initiator_is_told(tmp_path: Path) -> None:
    async with peer("b", tmp_path, particles={"destinations_max": 20}) as b, peer("a", tmp_path, knows=[b]) as a:
        script = f'(seq (call "{b.peer_id}" ("op" "noop") []) {scattered(nobodies(30))})'
        await a.node.submit(a.node.particle(script, ttl_ms=60_000, particle_id="p"))
        await until(lambda: b.metric("fluvial_outbox_lanes") == 20)
        await until(lambda: any("does not go to 10 more" in message for *_, message in a.watcher.noticed))
        (event,) = b.events("delivery_impossible")
        assert event["reason"] == "too_many"


async def test_peers_that_do_not_exist_cost_one_line_and_one_write_each(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        await a.node.submit(a.node.particle(scattered(nobodies(100)), ttl_ms=60_000, particle_id="p"))
        await until(lambda: tries(a) >= 400)
        (event,) = a.events("delivery_failed")
        assert event["particle"] == "p"
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        assert {row.attempts for row in await store.particles.outbox_rows(0)} == {1}


async def test_a_peer_that_is_there_is_served_while_many_that_are_not_wait(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        for number in range(4):
            script = scattered([id_of(f"{number} nobody {one}") for one in range(300)])
            await a.node.submit(a.node.particle(script, ttl_ms=60_000, particle_id=f"nobodies {number}"))
        await submit(b.peer_id, a, 0)
        await until(lambda: len(work.done) == 1)
        assert a.metric("fluvial_outbox_lanes") > 1_000


async def test_peers_that_take_long_to_answer_keep_no_place_for_which_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "LANES_MAX", 4)
    monkeypatch.setattr(places, "SLOW_S", 0.01)
    deaf, work, handed, carry = nobodies(10), Work(), set[bytes](), Carrier.carry
    monkeypatch.setattr(Carrier, "is_connected", lambda self, peer: True)

    async def carried(carrier: Carrier, delivery: Delivery) -> Any:
        if PeerId.from_public_key(delivery.to) in deaf:
            handed.add(delivery.to)
            await anyio.sleep_forever()
        return await carry(carrier, delivery)

    monkeypatch.setattr(Carrier, "carry", carried)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b]) as a:
        await a.node.submit(a.node.particle(scattered(deaf), ttl_ms=60_000, particle_id="p"))
        await until(lambda: len(handed) == len(deaf))
        await submit(b.peer_id, a, 0)
        await until(lambda: len(work.done) == 1)


async def test_a_peer_says_of_what_it_hands_on_whose_share_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a number: the same for all that one sender brings, under whatever names and whosever it says that it is, and another one for another."""
    work = Work()
    branches: dict[str, int] = {}
    carry = Carrier.carry

    async def seen(self: Carrier, delivery: Delivery) -> Any:
        if delivery.to == b.peer_id.public_key:
            branches[delivery.header.id] = delivery.branch
        return await carry(self, delivery)

    monkeypatch.setattr(Carrier, "carry", seen)
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b], serves=[work]) as a:
        script = chain([a.peer_id, b.peer_id])
        for name in ("c", "d"):
            async with peer(name, tmp_path, knows=[a]) as sender:
                for number in range(2):
                    mine = f"{name}{number}"
                    particle = make_particle(script, keys=keys_of(mine), particle_id=mine)
                    to = a.peer_id.public_key
                    delivery = Delivery(to, 1, particle.header, particle.signature, particle.script, EMPTY, number)
                    assert (await sender.deliver(delivery, a)).settled
        await until(lambda: len(work.done) == 8)
    assert branches["c0"] == branches["c1"] != branches["d0"] == branches["d1"]


async def test_a_peer_says_of_what_comes_back_who_has_begun_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the peer which brings it back need not pay for the flows of all; for what nobody waits for it does."""
    work, answers, receive = Work(), list[tuple[PeerId, PeerId | None]](), Switchboard.receive

    async def seen(self: Switchboard, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        answer = await receive(self, sender, protocol, payload)
        if self is a.node.switchboard and protocol == PROTOCOL:
            answers.append((sender, answer.begun_by if isinstance(answer, ContinuingAnswer) else None))
        return answer

    monkeypatch.setattr(Switchboard, "receive", seen)
    async with (
        peer("b", tmp_path, serves=[work]) as b,
        peer("a", tmp_path, knows=[b], serves=[work]) as a,
        peer("c", tmp_path, knows=[a]) as c,
    ):
        await c.node.submit(c.node.particle(chain([a.peer_id, b.peer_id, a.peer_id]), ttl_ms=60_000, particle_id="p"))
        await until(lambda: len(work.done) == 3 and len(answers) == 2)
        nobody_waits = make_particle(chain([b.peer_id, a.peer_id]), keys=keys_of("d"), particle_id="q")
        to = b.peer_id.public_key
        delivery = Delivery(to, 1, nobody_waits.header, nobody_waits.signature, nobody_waits.script, EMPTY)
        assert (await c.deliver(delivery, b)).settled
        await until(lambda: len(answers) == 3)
    assert answers == [(c.peer_id, None), (b.peer_id, c.peer_id), (b.peer_id, None)]
