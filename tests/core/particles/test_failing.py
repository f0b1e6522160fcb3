"""When a peer cannot go on, the initiator hears of it: over real connections, through relays, once, and not too often."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.air.data.wire import encode_data
from fluvial.air.machine.machine import Machine
from fluvial.client import Flow, PreparedRun, connect
from fluvial.clock import SystemClock
from fluvial.errors import ServiceError, Unreachable
from fluvial.identity import KeyPair
from fluvial.particle import Delivery, ParticleKey
from fluvial.particles.notice import (
    KEPT_OF_PEER_MAX,
    PROTOCOL,
    Notice,
    SignedNotice,
    encode_notice,
    make_notice,
)
from fluvial.particles.receipt import Receipt, decode_receipt
from fluvial.storage import open_store
from fluvial.story.story import tell

from tests.support.deliveries import make_particle
from tests.support.nodes import NETWORK, WAIT_S, Peer, Work, id_of, keys_of, peer, until

OFF = {"failure_notices": False}


def failing(at: str) -> str:
    """A script whose call at another peer fails, and nothing catches that."""
    return (
        f'(seq\n (null)\n (seq (call "{at}" ("work" "fail") ["no tea"] x)\n  (call %init_peer_id% ("return" "") [x])))'
    )


def run(on: Peer, script: str, *, ttl_s: float = 30) -> Flow:
    return Flow(on.node, on.node.particle(script, ttl_ms=int(ttl_s * 1000)), PreparedRun(script=script))


def heard(flow: Flow) -> list[Notice]:
    """What was heard, but for this peer's own notice that a peer is away: the scripts here call one that is nowhere."""
    return [notice for notice in flow.notices if notice.kind != "unreachable"]


async def first_notice(flow: Flow) -> Notice:
    """The first one of a peer that cannot go on."""
    with anyio.fail_after(WAIT_S):
        async for notice in flow.listen():
            if notice.kind != "unreachable":
                return notice
    raise AssertionError("it listens for ever")


def delivery(flow: Flow, to: Peer) -> Delivery:
    """The particle as the initiator would hand it over again."""
    particle, data = flow.particle, encode_data([], {})
    return Delivery(to.peer_id.public_key, 1, particle.header, particle.signature, particle.script, data)


def sent(by: Peer, outcome: str) -> float:
    return by.metric("fluvial_failure_notices_sent_total", outcome=outcome)


def received(by: Peer, outcome: str) -> float:
    return by.metric("fluvial_failure_notices_received_total", outcome=outcome)


def about(particle: ParticleKey, keys: KeyPair, *, message: str = "no tea", **fields: Any) -> Notice:
    return make_notice(particle, keys.peer_id, "failed", message, at_ms=SystemClock().now_ms(), **fields)


async def hand(by: Peer, to: Peer, signed: SignedNotice | bytes) -> Receipt:
    """Hand a notice over as any peer could that speaks the protocol."""
    payload = signed if isinstance(signed, bytes) else encode_notice(signed)
    contact = Contact.parse(to.address)
    return decode_receipt(await by.node.transport.request(contact, PROTOCOL, payload, timeout_s=WAIT_S))


# --- what is told


async def test_a_client_behind_a_relay_hears_what_failed_and_where(tmp_path: Path) -> None:
    """The client dials nobody but its relay; the worker knows the client from the particle alone."""
    async with (
        peer("relay", tmp_path) as relay,
        peer("worker", tmp_path, serves=[Work()]) as worker,
        connect(relay.address, network=NETWORK) as client,
    ):
        relay.node.routing.learn(Contact.parse(worker.address))
        script = f'(seq (call "{relay.peer_id}" ("op" "noop") [])\n{failing(worker.peer_id)})'
        async with client.run(script, ttl_s=20) as flow:
            notice = await first_notice(flow)
            assert (notice.peer_id, notice.kind, notice.code) == (worker.peer_id, "failed", 10000)
            assert "418" in notice.message
            assert "no tea" in notice.message
            assert notice.instruction == f'call "{worker.peer_id}" ("work" "fail") ["no tea"] x'
            assert notice.position == "4:7"
            assert heard(flow) == [notice]
        await until(lambda: sent(worker, "accepted") == 1)
        assert received(relay, "relayed") == 1
        (event,) = worker.events("failure_reported")
        assert (event["particle"], event["to"]) == (flow.particle_id, client.peer_id)


async def test_it_ends_nothing_and_other_branches_go_on(tmp_path: Path) -> None:
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b, peer("a", tmp_path, knows=[b], serves=[Work()]) as a:
        script = f"""
            (seq (par (call "{b.peer_id}" ("work" "hold") [1] x)
                      (call "{id_of("nobody")}" ("a" "b") [] y))
                 (call %init_peer_id% ("return" "") [x]))"""
        async with run(a, script) as flow:
            await until(lambda: work.held == 1)
            forged_by_b = SignedNotice.sign(a.peer_id, about(flow.particle.key, b.node.keys), b.node.keys)
            assert (await hand(b, a, forged_by_b)).reason == ""
            work.open.set()
            assert await flow.result() == (2,)
            assert [notice.message for notice in heard(flow)] == ["no tea"]


async def test_a_run_without_a_result_says_what_was_heard(tmp_path: Path) -> None:
    """It ends with its time if the initiator cannot judge the notice: here it does not know whose call it is about."""
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        script = f"""(seq (call "{b.peer_id}" ("op" "identity") ["{b.peer_id}"] who)
            (seq (call who ("work" "fail") ["no tea"] x)
                 (call %init_peer_id% ("return" "") [x])))"""
        with pytest.raises(Unreachable) as caught:
            async with run(a, script, ttl_s=1) as flow:
                await flow.result()
        message = caught.value.message
        assert f"{b.peer_id} has not answered yet (line 1), for " in message
        assert f"{b.peer_id} cannot go on: 10000: Local service error" in message
        assert 'at line 2:18 (call who ("work" "fail") ["no tea"] x)' in message


async def test_a_run_that_can_have_no_result_ends_at_once(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        with pytest.raises(ServiceError, match="no tea") as caught, anyio.fail_after(20):
            async with run(a, failing(b.peer_id), ttl_s=60) as flow:
                await flow.result()
        assert caught.value.peer == b.peer_id


async def test_an_error_that_the_script_catches_is_no_failure(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        script = f"""
            (xor (call "{b.peer_id}" ("work" "fail") ["no tea"] x)
                 (call %init_peer_id% ("return" "") [:error:.$.error_code]))"""
        async with run(a, script) as flow:
            assert await flow.result() == (10000,)
        assert b.events("failure_reported") == b.events("failure_not_reported") == []


async def test_an_error_that_undoes_a_run_is_told_too(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        script = f"""
            (seq (call "{b.peer_id}" ("work" "step") [1] x)
                 (seq (call "{b.peer_id}" ("work" "step") [1] x)
                      (call %init_peer_id% ("return" "") [x])))"""
        async with run(a, script) as flow:
            notice = await first_notice(flow)
        assert (notice.kind, notice.code, notice.position) == ("undone", 20007, "3:23")


async def test_a_peer_that_breaks_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving = Machine.resolving

    def stumble(machine: Machine, outcomes: Any) -> Any:
        if machine._me == id_of("b"):
            raise ZeroDivisionError
        return resolving(machine, outcomes)

    monkeypatch.setattr(Machine, "resolving", stumble)
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        async with run(a, failing(b.peer_id)) as flow:
            notice = await first_notice(flow)
        assert (notice.peer_id, notice.kind, notice.code) == (b.peer_id, "broken", 0)
        assert "ZeroDivisionError" in notice.message


async def test_a_damaged_journal_is_told_and_is_not_blamed_on_others(tmp_path: Path) -> None:
    work = Work()
    async with peer("a", tmp_path) as a:
        async with peer("b", tmp_path, knows=[a], serves=[work]) as b:
            a.node.routing.learn(Contact.parse(b.address))
            script = f'(seq (call "{b.peer_id}" ("work" "hold") [1] x) (call %init_peer_id% ("return" "") [x]))'
            flow = await run(a, script).__aenter__()
            await until(lambda: work.held == 1)
        with closing(sqlite3.connect(tmp_path / "b.db")) as database, database:
            database.execute("UPDATE journal SET payload = x'00' WHERE seq = 1")
        async with peer("b", tmp_path, knows=[a], serves=[work]) as b:
            notice = await first_notice(flow)
            assert (notice.peer_id, notice.kind) == (b.peer_id, "broken")
            assert notice.message.startswith("the particle's journal here is damaged: ")
            await until(lambda: sent(b, "accepted") == 1)
            assert (await a.deliver(delivery(flow, b), b)).reason == "broken"


@pytest.mark.parametrize("harm", ["particles SET header = x'00'", "scripts SET text = x'00'"])
async def test_a_damaged_row_costs_one_particle_and_neither_the_start_nor_others(tmp_path: Path, harm: str) -> None:
    """Of two flows that wait when a peer stops, one has lost what it was made of; deliveries of both were on their way."""
    work = Work()
    async with peer("a", tmp_path) as a:
        async with peer("b", tmp_path, knows=[a], serves=[work]) as b:
            a.node.routing.learn(Contact.parse(b.address))
            flows = [
                await run(
                    a,
                    f'(seq (call "{b.peer_id}" ("work" "hold") [{number}] x) (call %init_peer_id% ("return" "") [x "{number}"]))',
                ).__aenter__()
                for number in (1, 2)
            ]
            await until(lambda: work.held == 2)
        lost, kept = flows
        where = f"WHERE {'key' if 'header' in harm else 'hash'} = (SELECT {'key' if 'header' in harm else 'script_hash'} FROM particles WHERE key = ?)"
        with closing(sqlite3.connect(tmp_path / "b.db")) as database, database:
            assert database.execute(f"UPDATE {harm} {where}", (lost.particle.key,)).rowcount == 1
        work.open.set()
        async with peer("b", tmp_path, knows=[a], serves=[work]) as b:
            assert (await kept.result())[1] == "2"
            async with open_store("sqlite:///b.db", base_dir=tmp_path, read_only=True) as store:
                listed = await store.particles.recent()
            assert {one.key for one in listed} == {lost.particle.key, kept.particle.key}
            assert (await a.deliver(delivery(lost, b), b)).reason == "broken"


async def test_a_peer_that_refuses_the_particle_for_good_is_told_of(tmp_path: Path) -> None:
    async with (
        peer("c", tmp_path, particles={"script_bytes_max": 10}) as c,
        peer("b", tmp_path, serves=[Work()], knows=[c]) as b,
        peer("a", tmp_path, knows=[b]) as a,
    ):
        script = f"""
            (seq (call "{b.peer_id}" ("work" "step") [1] x)
                 (seq (call "{c.peer_id}" ("op" "identity") [x] y) (call %init_peer_id% ("return" "") [y])))"""
        async with run(a, script) as flow:
            notice = await first_notice(flow)
        assert (notice.peer_id, notice.kind, notice.code) == (b.peer_id, "refused", 0)
        assert notice.message.startswith(f"{c.peer_id} does not take the particle: size: its script has")


async def test_the_initiator_hears_of_its_own_failures_to_hand_over(tmp_path: Path) -> None:
    async with peer("b", tmp_path, particles={"script_bytes_max": 10}) as b, peer("a", tmp_path, knows=[b]) as a:
        async with run(a, failing(b.peer_id)) as flow:
            notice = await first_notice(flow)
        assert (notice.peer_id, notice.kind) == (a.peer_id, "refused")


async def test_a_next_peer_that_is_none_is_told(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path, knows=[b]) as a:
        script = f"""
            (seq (call "{b.peer_id}" ("op" "identity") ["Bob"] name)
                 (seq (call name ("a" "b") [] y) (call %init_peer_id% ("return" "") [y])))"""
        async with run(a, script) as flow:
            notice = await first_notice(flow)
        assert (notice.peer_id, notice.kind, notice.message) == (b.peer_id, "impossible", "'Bob' is no peer id")


# --- where it is kept


async def test_it_is_kept_and_part_of_the_story_and_the_particle_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Notices are in the journal, which the machine is rebuilt from: it must not see them."""
    work = Work()
    async with peer("b", tmp_path, serves=[work]) as b:
        async with peer("a", tmp_path, knows=[b]) as a:
            script = f'(seq (call "{b.peer_id}" ("work" "hold") [1] x) (call %init_peer_id% ("work" "step") [x] y))'
            particle = a.node.particle(script, ttl_ms=60_000, particle_id="kept")
            await a.node.submit(particle)
            await until(lambda: work.held == 1)
            signed = SignedNotice.sign(a.peer_id, about(particle.key, b.node.keys), b.node.keys)
            assert (await hand(b, a, signed)).reason == ""
            assert a.watcher.noticed == [("kept", b.peer_id, 0, "no tea")]
        own = Work()
        async with peer("a", tmp_path, knows=[b], serves=[own]) as a:
            assert (await hand(b, a, signed)).reason == ""
            assert (received(a, "repeated"), received(a, "accepted")) == (1, 0)
            b.node.routing.learn(Contact.parse(a.address))
            work.open.set()
            await until(lambda: own.done == [2])
            await until(lambda: a.events("particle_finished"))
            more = about(particle.key, b.node.keys, message="more")
            assert (await hand(b, a, SignedNotice.sign(a.peer_id, more, b.node.keys))).reason == ""
    async with open_store("sqlite:///a.db", base_dir=tmp_path, read_only=True) as store:
        stored = await store.particles.load(particle.key)
    assert stored is not None
    story = tell(stored, a.peer_id)
    assert story.state == "finished", "a notice does not make it live again"
    notices = [event for event in story.events if event.kind == "notice"]
    assert [(event.peer, event.error, event.signed) for event in notices] == [
        (b.peer_id, "no tea", "verified"),
        (b.peer_id, "more", "verified"),
    ]


# --- how much


async def test_each_error_is_told_once(tmp_path: Path) -> None:
    """The particle comes again and again, and is taken up after a restart; each time the run is undone with the same error."""
    async with peer("a", tmp_path) as a:
        script = f"""
            (seq (call "{id_of("b")}" ("work" "step") [1] x)
                 (seq (call "{id_of("b")}" ("work" "step") [1] x)
                      (call %init_peer_id% ("return" "") [x])))"""
        flow = run(a, script)
        async with peer("b", tmp_path, serves=[Work()], knows=[a]) as b, flow:
            a.node.routing.learn(Contact.parse(b.address))
            a.node.transport.keep(Contact.parse(b.address))
            await first_notice(flow)
            failed = len(b.events("flow_failed"))
            for _ in range(3):
                await a.deliver(delivery(flow, b), b)
            assert len(b.events("flow_failed")) >= failed + 3
            await until(lambda: sent(b, "accepted") == 1)
        async with peer("b", tmp_path, serves=[Work()], knows=[a]) as b:
            await until(lambda: sent(b, "accepted") == 1)
            assert received(a, "repeated") == 1
        assert len(heard(flow)) == 1


async def test_switched_off_nothing_is_said(tmp_path: Path) -> None:
    async with (
        peer("b", tmp_path, serves=[Work()], particles=OFF) as b,
        peer("a", tmp_path, knows=[b]) as a,
        run(a, failing(b.peer_id)) as flow,
    ):
        await until(lambda: b.events("flow_failed"))
        await anyio.sleep(0.2)
        assert heard(flow) == []
        assert b.events("failure_reported") == b.events("failure_not_reported") == []


async def test_switched_off_nothing_is_heard(tmp_path: Path) -> None:
    async with (
        peer("b", tmp_path, serves=[Work()]) as b,
        peer("a", tmp_path, knows=[b], particles=OFF) as a,
        run(a, failing(b.peer_id)) as flow,
    ):
        await until(lambda: sent(b, "off") == 1)
        assert heard(flow) == []
        assert received(a, "off") == 1


async def test_one_initiator_is_not_told_too_often(tmp_path: Path) -> None:
    few = {"failure_notices_per_minute": 3}
    async with (
        peer("b", tmp_path, serves=[Work()], particles=few) as b,
        peer("a", tmp_path, knows=[b]) as a,
        peer("other", tmp_path, knows=[b]) as other,
    ):
        for number in range(10):
            await a.node.submit(a.node.particle(failing(b.peer_id), ttl_ms=60_000, particle_id=f"p{number}"))
        await until(lambda: sent(b, "accepted") == 3 and sent(b, "limited") == 7)
        async with run(other, failing(b.peer_id)) as flow:
            assert (await first_notice(flow)).code == 10000


async def test_a_flood_is_turned_away(tmp_path: Path) -> None:
    async with (
        peer("b", tmp_path) as b,
        peer("a", tmp_path, particles={"failure_notices_per_minute": 20}) as a,
        run(a, failing(id_of("nobody"))) as flow,
    ):
        found = []
        for number in range(40):
            said = about(flow.particle.key, b.node.keys, message=f"no tea {number}")
            found.append((await hand(b, a, SignedNotice.sign(a.peer_id, said, b.node.keys))).reason)
        assert found == [""] * KEPT_OF_PEER_MAX + ["busy"] * (40 - KEPT_OF_PEER_MAX)
        assert len(heard(flow)) == KEPT_OF_PEER_MAX
        assert sum(event["other"] == b.peer_id for event in a.events("failure_noticed")) == KEPT_OF_PEER_MAX
        unsigned = SignedNotice(a.peer_id.public_key, said, bytes(64))
        assert (await hand(b, a, unsigned)).reason == "busy", "its signature is not even looked at"
        async with peer("c", tmp_path) as c:
            said = about(flow.particle.key, c.node.keys)
            assert (await hand(c, a, SignedNotice.sign(a.peer_id, said, c.node.keys))).reason == "", "others are heard"


# --- lies


async def test_what_is_no_notice_of_its_peer_about_a_living_particle_is_refused(tmp_path: Path) -> None:
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a, run(a, failing(id_of("nobody"))) as flow:
        good = SignedNotice.sign(a.peer_id, about(flow.particle.key, b.node.keys), b.node.keys)
        lies: dict[str, SignedNotice | bytes] = {
            "malformed": encode_notice(good) + b"\0",
            "signature": SignedNotice(good.to, about(flow.particle.key, keys_of("victim")), good.signature),
            "unknown": SignedNotice.sign(a.peer_id, about(ParticleKey(bytes(32)), b.node.keys), b.node.keys),
        }
        for reason, lie in lies.items():
            assert (await hand(b, a, lie)).reason == reason
            assert received(a, reason) == 1
        # A particle that is here, but that another peer began.
        script = f'(call "{a.peer_id}" ("op" "noop") [])'
        here = Flow(b.node, b.node.particle(script, ttl_ms=30_000), PreparedRun(script=script, until=()))
        b.node.routing.learn(Contact.parse(a.address))
        await b.node.submit(here.particle)
        await until(lambda: a.outcomes("accepted") == 1)
        said = SignedNotice.sign(a.peer_id, about(here.particle.key, b.node.keys), b.node.keys)
        assert (await hand(b, a, said)).reason == "unknown"
        assert heard(flow) == []
        assert (await hand(b, a, good)).reason == ""
        assert (await hand(b, a, good)).reason == ""
        assert received(a, "repeated") == 1
        assert len(heard(flow)) == 1


async def test_the_dead_are_not_spoken_of(tmp_path: Path) -> None:
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        particle = a.node.particle(failing(id_of("nobody")), ttl_ms=200)
        await a.node.submit(particle)
        await anyio.sleep(0.3)
        said = SignedNotice.sign(a.peer_id, about(particle.key, b.node.keys), b.node.keys)
        assert (await hand(b, a, said)).reason == "expired"


# --- relays


async def test_a_relay_says_that_nobody_is_there(tmp_path: Path) -> None:
    async with peer("b", tmp_path) as b, peer("relay", tmp_path) as relay:
        said = SignedNotice.sign(id_of("nobody"), about(ParticleKey(bytes(32)), b.node.keys), b.node.keys)
        assert (await hand(b, relay, said)).reason == "unreachable"


async def test_a_relay_passes_nothing_on_that_is_not_signed(tmp_path: Path) -> None:
    async with (
        peer("b", tmp_path) as b,
        peer("relay", tmp_path) as relay,
        peer("client", tmp_path, listen=None, relays=[relay]) as client,
        run(client, failing(id_of("nobody"))) as flow,
    ):
        good = SignedNotice.sign(client.peer_id, about(flow.particle.key, b.node.keys), b.node.keys)
        lie = SignedNotice(good.to, about(flow.particle.key, keys_of("victim")), good.signature)
        assert (await hand(b, relay, lie)).reason == "signature"
        assert (await hand(b, relay, good)).reason == ""
        assert len(heard(flow)) == 1
        other = SignedNotice.sign(client.peer_id, about(ParticleKey(bytes(32)), b.node.keys), b.node.keys)
        assert (await hand(b, relay, other)).reason == "unknown"


async def test_an_initiator_that_is_away_is_tried_once(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("c", tmp_path) as c:
        particle = make_particle(failing(b.peer_id))
        given = Delivery(b.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")
        assert (await c.deliver(given, b)).reason == ""
        await until(lambda: sent(b, "unreachable") == 1)
        (event,) = b.events("failure_not_reported")
        assert event["error"].startswith("unreachable: no way to")
        assert "no tea" in event["notice"]
