"""A peer's disk against strangers, over real connections and on both kinds of database."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.air.data.batch import Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.partial import Content, Level, Mask, Partial, cut
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.air.syntax import parse
from fluvial.clock import ManualClock, SystemClock
from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.identity import KeyPair, PeerId
from fluvial.memory.network import LinkQuality, Memory
from fluvial.particle import Delivery, Particle, ParticleKey
from fluvial.particles import keeper
from fluvial.particles.quota import DiskQuota
from fluvial.storage import open_store
from fluvial.story.condensed import read_condensed
from fluvial.testing.nodes import nodes
from fluvial.virtual.loop import BACKEND

from tests.support.deliveries import SENDER, answered, make_particle, script_for, without_contents
from tests.support.nodes import Peer, Work, chain, keys_of, peer, until

BYTES_MAX = 16 * 2**20
BYTES = "fluvial_disk_bytes"
WASTED = "fluvial_transport_wasted_seconds_total"


def delivery(particle: Particle, to: Peer, data: bytes = b"") -> Delivery:
    return Delivery(to.peer_id.public_key, 1, particle.header, particle.signature, particle.script, data)


def doubling(here: str, seed: str, times: int, then: str = "(null)") -> str:
    """A script that makes a large value of a small one, on its own."""
    script = then
    for step in reversed(range(times)):
        script = f'(seq (call "{here}" ("op" "concat_strings") [s{step} s{step}] s{step + 1}) {script})'
    return f'(seq (call "{here}" ("op" "identity") ["{seed}"] s0) {script})'


def waiting(here: str) -> str:
    return f'(call "{here}" ("work" "hold") [1])'


def large(name: str) -> str:
    return f'(call "nobody" ("op" "noop") ["{name}{"y" * 100_000}"])'


# --- rate


async def test_whoever_writes_too_fast_waits_and_nobody_else_does(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url, "initiator_burst_bytes": 200_000, "initiator_bytes_per_s": 20_000}
    async with peer("b", tmp_path, storage=storage) as b, peer("a", tmp_path) as a:
        receipts = [
            await a.deliver(delivery(make_particle(large(f"{n}"), particle_id=f"p{n}"), b), b) for n in range(4)
        ]
        assert [receipt.reason for receipt in receipts] == ["", "", "quota", "quota"]
        assert receipts[-1].temporary
        assert 0 < receipts[-1].retry_ms <= 10_000
        assert "20000 bytes a second" in receipts[-1].explanation
        other = make_particle("(null)", keys=keys_of("other"))
        assert (await a.deliver(delivery(other, b), b)).reason == ""
        assert b.outcomes("quota") == 2
        assert b.watcher.refused[-1][2] == "quota"


async def test_who_hands_over_what_has_no_room_yet_does_not_pay_for_it(tmp_path: Path) -> None:
    """It passes on what others have written; what will never be taken it need not have passed on."""
    storage = {"url": "sqlite:///b.db", "initiator_burst_bytes": 1_000, "initiator_bytes_per_s": 1_000}
    async with peer("b", tmp_path, storage=storage) as b, peer("a", tmp_path) as a:
        reasons = [
            (await a.deliver(delivery(make_particle(large(f"{n}"), particle_id=f"p{n}"), b), b)).reason
            for n in range(20)
        ]
        assert reasons[1:] == ["quota"] * 19
        assert b.metric(WASTED) == 0
        expired = make_particle("(null)", keys=keys_of("other"), timestamp_ms=1)
        assert (await a.deliver(delivery(expired, b), b)).reason == "expired"
        assert b.metric(WASTED) > 0


@pytest.mark.parametrize("anyio_backend", [BACKEND], ids=["virtual"])
async def test_a_sender_tries_again_when_it_was_told_to_and_hands_over_the_rest_at_once(tmp_path: Path) -> None:
    """From two initiators through one peer: the first one's particles overdraw what it may write, and wait there."""
    storage = {"url": "sqlite:///b.db", "initiator_burst_bytes": 1_000, "initiator_bytes_per_s": 4_000}
    memory = Memory(quality=LinkQuality(latency_s=0.001))
    async with nodes("a", "fast", "slow", base_dir=tmp_path, memory=memory) as network:
        work = Work()
        b = await network.start("b", storage=storage, serves=[work])
        network.introduce()
        a, fast, slow = (network[name] for name in ("a", "fast", "slow"))
        script = f'(seq (call "{a.peer_id}" ("op" "noop") []) (call "{b.peer_id}" ("work" "step") [0] x))'
        began = anyio.current_time()
        for _ in range(3):
            await fast.node.submit(fast.node.particle(script, ttl_ms=60_000))
        refused = partial(b.metric, "fluvial_particles_total", outcome="quota")
        await until(refused)
        other = slow.node.particle(script, ttl_ms=60_000)
        await slow.node.submit(other)
        await until(lambda: len(work.done) == 4)
        came = [event["particle"] for event in b.events("particle_accepted")]
        assert came.index(other.header.id) < 3, "it did not wait for what was put off"
        assert anyio.current_time() - began < 5, "the rest followed as soon as it might"
        # Three times two at most: what the first one writes later is not in the pause that the others are told.
        assert refused() <= 6, "it was not tried all the time"


# --- share and room


async def test_what_comes_back_is_held_to_the_share_of_whoever_brought_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to that of the peer that brings it back, for which the door is closed: it has brought much else."""
    work, check = Work(), DiskQuota.check

    def closed(self: DiskQuota, initiator: PeerId, upstream: Upstream) -> None:
        if upstream.sender == b.peer_id:
            raise Refused("it has brought too much", reason="quota", retry_ms=1_000)
        check(self, initiator, upstream)

    monkeypatch.setattr(DiskQuota, "check", closed)
    async with (
        peer("b", tmp_path, serves=[work]) as b,
        peer("a", tmp_path, knows=[b], serves=[work]) as a,
        peer("c", tmp_path, knows=[a]) as c,
    ):
        await c.node.submit(c.node.particle(chain([a.peer_id, b.peer_id, a.peer_id]), ttl_ms=60_000))
        await until(lambda: len(work.done) == 3)
        assert a.outcomes("quota") == 0


async def test_one_stranger_leaves_room_for_others(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url, "bytes_max": BYTES_MAX, "initiator_burst_bytes": 2**40, "keep_bytes_max": BYTES_MAX}
    work = Work()
    async with (
        peer("b", tmp_path, serves=[work], storage=storage) as b,
        peer("a", tmp_path) as a,
        peer("c", tmp_path) as c,
    ):
        reasons = []
        for number in range(8):
            script = doubling(b.peer_id, f"{number:064}", 15, then=waiting(b.peer_id))
            receipt = await a.deliver(delivery(make_particle(script, particle_id=f"p{number}"), b), b)
            reasons.append(receipt.reason)
            # Heavy arguments are worked with in turns, after the receipt.
            await until(lambda: work.held == reasons.count("") or bool(b.events("particle_over_quota")))
        assert reasons[:2] == ["", ""]
        assert "quota" in reasons
        assert b.metric(BYTES) <= BYTES_MAX
        for name in ("new", "other"):
            for sender, reason in ((c, ""), (a, "quota")):  # names are free
                particle = make_particle(script_for(b.peer_id), keys=keys_of(name), particle_id=f"of {sender.peer_id}")
                data = answered(particle, keys_of(name), "v" * 100_000)
                assert (await sender.deliver(delivery(particle, b, data), b)).reason == reason


async def test_a_flow_that_writes_without_end_ends_and_its_initiator_is_told(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url, "particle_bytes_max": 300_000}
    work = Work()
    async with peer("b", tmp_path, serves=[work], storage=storage) as b, peer("from", tmp_path, knows=[b]) as sender:
        # Behind a call that takes its time, so that it is accepted before it grows.
        rest = doubling(b.peer_id, "x" * 64, 14)
        particle = make_particle(f"(seq {waiting(b.peer_id)} {rest})", keys=keys_of("from"), reply_to=(sender.address,))
        async with open_own(sender, particle):
            assert (await sender.deliver(delivery(particle, b), b)).reason == ""
            await until(lambda: work.held == 1)
            work.open.set()
            await until(lambda: any("300000 are allowed" in one[3] for one in sender.watcher.noticed))
        await until(lambda: bool(b.events("particle_over_quota")))
        assert (await sender.deliver(delivery(particle, b), b)).reason == "replay", "it is over here"
    async with peer("b", tmp_path, serves=[work], storage=storage) as b, peer("from", tmp_path) as sender:
        assert b.events("particle_resumed") == []
        assert (await sender.deliver(delivery(particle, b), b)).reason == "replay"


def open_own(sender: Peer, particle: Particle) -> Any:
    """The sender has the particle as its own, so that it takes notices about it."""

    class Opened:
        async def __aenter__(self) -> None:
            await sender.node.submit(particle)

        async def __aexit__(self, *_: object) -> None:
            return None

    return Opened()


async def test_what_is_too_large_at_once_is_refused_and_nothing_is_left_of_it(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url, "particle_bytes_max": 100_000}
    async with peer("b", tmp_path, storage=storage) as b, peer("a", tmp_path) as a:
        particle = make_particle(doubling(b.peer_id, "x" * 64, 12))
        receipt = await a.deliver(delivery(particle, b), b)
        assert (receipt.reason, receipt.retry_ms) == ("quota", 0)
        assert b.metric(BYTES) == 0
        assert b.metric("fluvial_particles_in_memory") == 0


# --- what has ended


async def test_large_flows_that_ended_are_stories_and_are_not_run_again(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url}
    async with peer("b", tmp_path, storage=storage) as b, peer("a", tmp_path) as a:
        particle = make_particle(doubling(b.peer_id, "x" * 64, 11), particle_id="large")
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        before = b.metric(BYTES)
        assert before > 250_000
        await until(lambda: b.metric(BYTES) < 40_000)
        assert (await a.deliver(delivery(particle, b), b)).reason == "replay"
    async with open_store(storage_url, base_dir=tmp_path, read_only=True) as store:
        assert [one.id for one in await store.particles.recent()] == ["large"]
        story = await store.particles.story(particle.key)
        assert story is not None
        assert len(story) <= 16_384
    async with peer("b", tmp_path, storage=storage) as b, peer("a", tmp_path) as a:
        assert (await a.deliver(delivery(particle, b), b)).reason == "replay", "after a restart, too"


async def test_what_comes_again_and_again_of_a_particle_that_is_over_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def noted(key: ParticleKey, data: bytes) -> Known:
        decoded.append(len(data))
        return decode_data(key, data)

    monkeypatch.setattr("fluvial.particles.inbox.decode_data", noted)
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        particle = make_particle(
            f'(seq (call %init_peer_id% ("load" "given") [] x) (call "{b.peer_id}" ("op" "identity") [x]))'
        )
        again = delivery(particle, b, answered(particle, SENDER, "y" * 40_000))
        assert (await a.deliver(again, b)).reason == ""
        await until(lambda: b.metric(BYTES) < 20_000)  # it is a story
        for _ in range(3):
            assert (await a.deliver(again, b)).reason == "replay"
        assert len(decoded) == 2


async def test_of_what_took_long_only_that_it_was_here_is_kept(tmp_path: Path) -> None:
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        folds = "(fold xs i (par (fold xs j (par (null) (next j))) (next i)))"
        script = f'(seq (call "{b.peer_id}" ("op" "array") ["{"y" * 40_000}" {"1 " * 70}] xs) {folds})'
        particle = make_particle(script, particle_id="long")
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: b.metric(BYTES) < 40_000)
    async with open_store("sqlite:///b.db", base_dir=tmp_path, read_only=True) as store:
        data = await store.particles.story(particle.key)
        assert data is not None
        story = read_condensed(data)
        assert (story.particle_id, story.state, story.events) == ("long", "finished", [])
        assert story.shortened
        assert story.left_out > 0


async def test_a_particle_whose_story_cannot_be_told_costs_nobody_else_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def condense(*_: object, **__: object) -> bytes:
        raise ValueError("a bug")

    monkeypatch.setattr("fluvial.assembly.assembly.condense", condense)
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        particle = make_particle(doubling(b.peer_id, "x" * 64, 11), particle_id="large")
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: b.events("particle_broken"))
        assert (await a.deliver(delivery(make_particle("(null)"), b), b)).reason == ""
        assert b.metric(BYTES) > 250_000


async def test_what_was_removed_before_its_last_call_ended_is_no_failure_of_the_store(
    tmp_path: Path, storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all that waits to go on would have a pause for each such particle."""
    monkeypatch.setattr(keeper, "SWEEP_S", 1_000.0)
    clock, work = ManualClock(SystemClock().now_ms()), Work()
    storage = {"url": storage_url, "keep_bytes_max": 0}
    async with peer("b", tmp_path, serves=[work], clock=clock, storage=storage) as b, peer("a", tmp_path) as a:
        particle = make_particle(waiting(b.peer_id), timestamp_ms=clock.now_ms())
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: work.held == 1)
        clock.time_ms = particle.deadline_ms + 1
        await until(lambda: b.metric(BYTES) < 500)
        work.open.set()
        await until(lambda: b.metric("fluvial_particles_in_memory") == 0)
        assert b.metric("fluvial_particles_suspended") == 0
        assert b.events("storage_failed") == []


async def test_what_was_removed_for_room_is_not_run_again(tmp_path: Path, storage_url: str) -> None:
    storage = {"url": storage_url, "keep_bytes_max": 0}
    work = Work()
    script = '(call "{}" ("work" "step") [1] x)'
    async with peer("b", tmp_path, serves=[work], storage=storage) as b, peer("a", tmp_path) as a:
        particle = make_particle(script.format(b.peer_id))
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: work.done == [1])
        await until(lambda: b.metric(BYTES) < 500)
        assert (await a.deliver(delivery(particle, b), b)).reason == "replay"
    async with peer("b", tmp_path, serves=[work], storage=storage) as b, peer("a", tmp_path) as a:
        assert (await a.deliver(delivery(particle, b), b)).reason == "replay"
        assert work.done == [1]


async def test_the_story_is_told_by_the_command(tmp_path: Path) -> None:
    keys = keys_of("b")
    (tmp_path / "fluvial.toml").write_text('[storage]\nurl = "sqlite:///b.db"\n[telemetry]\nlog_level = "info"\n')
    keys.save(tmp_path / "secrets" / "peer.key")
    async with peer("b", tmp_path) as b, peer("a", tmp_path) as a:
        particle = make_particle(doubling(b.peer_id, "x" * 64, 11), particle_id="large")
        assert (await a.deliver(delivery(particle, b), b)).reason == ""
        await until(lambda: b.metric(BYTES) < 40_000)
    command = [sys.executable, "-m", "fluvial", "particle", "show", "large", "--config", tmp_path / "fluvial.toml"]
    shown = await anyio.run_process(command)
    text = shown.stdout.decode()
    assert "particle large, finished" in text
    assert "shortened" in text
    assert "op.concat_strings" in text
    assert "xxxx" in text
    assert max(map(len, text.splitlines())) < 400


# --- the same again


def grouped(particle: Particle, keys: KeyPair, *values: Any) -> Known:
    """What ``answered`` makes, with a batch for each answer."""
    header = particle.header
    machine = Machine(
        parse(particle.script),
        particle.key,
        keys.peer_id,
        initiator=particle.initiator,
        timestamp_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
    )
    effects = machine.merge(Known((), {}))
    for value in values:
        effects = machine.resolve({request.instance: Answered(value) for request in effects.requests})
        machine.seal(keys.sign)
    return Known(tuple(machine.batches()), machine.contents())


async def test_the_same_delivery_again_writes_nothing_in_whatever_form(tmp_path: Path) -> None:
    async with peer("b", tmp_path, serves=[Work()]) as b, peer("a", tmp_path) as a:
        script = f"""
            (seq (call %init_peer_id% ("load" "one") [] one)
            (seq (call %init_peer_id% ("load" "two") [] two)
            (seq (call "{b.peer_id}" ("op" "noop") [one.$.small two])
            (seq (call "{b.peer_id}" ("work" "hold") [1])
                 (call "{b.peer_id}" ("op" "noop") [one.$.texts])))))"""
        particle = make_particle(script)
        value = {"small": 1, "texts": [f"{number % 10}" * 4_000 for number in range(100)]}
        whole = decode_data(particle.key, answered(particle, SENDER, value, "z" * 4_000))
        two = grouped(particle, SENDER, value, "z" * 4_000)
        assert len(two.batches) == len(whole.batches) + 1

        def in_part(known: Known, *path: str) -> dict[ContentId, Content]:
            mask = Mask()
            mask.add(path, Level.WHOLE)
            parts = {key: cut(one, mask) if isinstance(one, dict) else one for key, one in known.contents.items()}
            assert any(isinstance(one, Partial) for one in parts.values())
            return parts

        forms = [
            encode_data(known.batches, contents)
            for known in (whole, two)
            for contents in (in_part(known, "small"), in_part(known, "texts"), known.contents)
        ]
        assert max(map(len, forms)) > 400_000

        limit = anyio.CapacityLimiter(4)

        async def deliver(data: bytes) -> None:
            async with limit:
                receipt = await a.deliver(delivery(particle, b, data), b)
            assert receipt.reason in ("", "missing"), receipt

        for data in forms:
            await deliver(data)
        before = b.metric(BYTES)
        async with anyio.create_task_group() as tasks:
            for _ in range(15):
                for data in (*forms, without_contents(forms[2])):
                    tasks.start_soon(deliver, data)
        assert b.metric(BYTES) == before
        assert b.metric(BYTES) < 2 * 450_000, "a value is kept once"
