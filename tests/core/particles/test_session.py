"""A particle's life without I/O: what is written before it is sent, what a journal restores, and where a session ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.facts import Instance
from fluvial.air.data.wire import decode_data
from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Answered
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.slices import SLICE_STEPS
from fluvial.air.syntax import parse
from fluvial.air.syntax.tree import Position
from fluvial.effectors import Tetraplet
from fluvial.errors import Refused
from fluvial.fairness import Payer, Upstream
from fluvial.particle import Delivery, Particle, decode_delivery, encode_delivery
from fluvial.particles.calling import _call_of
from fluvial.particles.notice import SignedNotice, make_notice
from fluvial.particles.promises import Look
from fluvial.particles.session import ParticlePhase, ParticleSession
from fluvial.particles.session_outputs import Parcel, Writes
from fluvial.particles.sliced import SlicedInput
from fluvial.stored import JournalEntry, ParticleState, StoredParticle

from tests.support.nodes import id_of, keys_of
from tests.support.tracing import taken

NOW_MS = 1_700_000_000_000
STEP_MS = 7
GOLDEN = "16e6dd4a"
"""Of all journal entries and deliveries of the flow below. It changes only with the format of journals or data."""

SCRIPT = f"""
    (seq (call %init_peer_id% ("load" "names") [] names)
         (seq (par (call "{id_of("b")}" ("work" "one") [names.$.[0]] $got)
                   (call "{id_of("c")}" ("work" "two") [names.$.[1]] $got))
              (seq (canon "{id_of("b")}" $got #got)
                   (xor (call "{id_of("c")}" ("work" "last") [#got.$.[0]] end)
                        (call %init_peer_id% ("return" "") [:error:])))))"""
ANSWERS: Mapping[str, Any] = {
    "names": [{"for": "b", "text": "x" * 200}, {"for": "c"}],
    "one": [1],
    "two": {"two": 2.5},
    "last": None,
    "": None,
}


def particle(script: str = SCRIPT, **fields: Any) -> Particle:
    defaults = {"particle_id": "p", "timestamp_ms": NOW_MS, "ttl_ms": 60_000, "max_hops": 30, "network": "test"}
    return Particle.create(keys_of("a"), script, **{**defaults, **fields})


@dataclass
class Peer:
    """A session, and what a store would hold of it."""

    name: str
    session: ParticleSession
    journal: list[JournalEntry] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, one: Particle, *, sender: str = "a", hops: int = 0) -> Peer:
        script, me = parse(one.script), id_of(name)
        return cls(name, ParticleSession.new(one, script, me, upstream=Upstream(id_of(sender)), hops=hops))

    def write(self, at_ms: int = NOW_MS) -> Writes:
        writes = self.session.commit(at_ms, keys_of(self.name).sign)
        if writes.needed:
            self.journal += writes.entries()
            self.session.durable(writes)
        return writes

    def stored(self) -> StoredParticle:
        return StoredParticle(
            particle=self.session.particle,
            sender=self.session.upstream.sender,
            hops=self.session.hops,
            received_at_ms=NOW_MS,
            state=ParticleState.FINISHED if self.session.finished else ParticleState.LIVE,
            journal=tuple(self.journal),
            outbox=(),
        )

    def restored(self) -> ParticleSession:
        return ParticleSession.restore(self.stored(), parse(self.session.particle.script), id_of(self.name))

    def notice(self, message: str) -> SignedNotice:
        notice = make_notice(self.session.particle.key, id_of("q"), "failed", message, at_ms=NOW_MS)
        return SignedNotice.sign(id_of(self.name), notice, keys_of("q"))


class Network:
    """Plays a particle over peers whose runs are written one by one, as a node does it."""

    def __init__(self, one: Particle, *, slice_steps: int = SLICE_STEPS) -> None:
        self._particle = one
        self._slice_steps = slice_steps
        self._names = {id_of(name): name for name in "abc"}
        self.peers: dict[str, Peer] = {}
        self.sent: list[bytes] = []
        self.slices = 0
        self.now_ms = NOW_MS
        self.after_each_write: Callable[[Peer], None] = lambda peer: None

    def play(self) -> None:
        first = self.peers["a"] = Peer.of("a", self._particle)
        queue = self._run(first, self._advance(first.session.beginning()))
        while queue:
            sender, to, parcel = queue.pop(0)
            self.now_ms += STEP_MS
            hops = parcel.delivery.hops
            peer = self.peers.setdefault(to, Peer.of(to, self._particle, sender=sender, hops=hops))
            known = decode_data(self._particle.key, parcel.delivery.data)
            queue += self._run(
                peer, self._advance(peer.session.merging(known, upstream=Upstream(id_of(sender)), hops=hops))
            )

    def _advance(self, run: SlicedInput[Effects, Effects]) -> Effects:
        while (effects := run.advance(self._slice_steps)) is None:
            self.slices += 1
        return effects

    def _run(self, peer: Peer, effects: Effects) -> list[tuple[str, str, Parcel]]:
        parcels = self._write(peer)
        while effects.requests:
            self.now_ms += STEP_MS
            outcomes = {one.instance: Answered(ANSWERS[one.function]) for one in effects.requests}
            effects = self._advance(peer.session.resolving(outcomes))
            parcels += self._write(peer)
        return parcels

    def _write(self, peer: Peer) -> list[tuple[str, str, Parcel]]:
        writes = peer.write(self.now_ms)
        self.after_each_write(peer)
        parcels = []
        for to in writes.peers:
            parcel = peer.session.parcel(to)
            peer.session.handed_over(to, parcel)
            self.sent.append(encode_delivery(parcel.delivery))
            parcels.append((peer.name, self._names[to], parcel))
        return parcels


def looks(session: ParticleSession) -> tuple[object, ...]:
    """What tells two sessions apart, seen from outside."""
    parcel = session.parcel(id_of("stranger"))
    waits = [(wait.instance, wait.reason) for wait in session.waits()]
    return session.phase, session.hops, session.upstream, session.relies_since_ms, parcel, waits, session.error


def broken_by(session: ParticleSession) -> list[Callable[[], object]]:
    return [
        session.begin,
        lambda: session.merge(Known((), {}), upstream=Upstream(id_of("b")), hops=1),
        lambda: session.resolve({}),
        lambda: session.note(Peer("a", session).notice("no")),
        lambda: session.look(on_way=lambda peer: False, now_ms=NOW_MS, after_ms=1, room=1),
        lambda: session.looked(Look()),
        lambda: session.parcel(id_of("b")),
        session.check,
    ]


# --- bytes


def test_journals_and_deliveries_of_a_flow_are_always_the_same_bytes() -> None:
    network = Network(particle())
    network.play()
    digest = hashlib.sha256()
    for name, peer in sorted(network.peers.items()):
        for entry in peer.journal:
            digest.update(f"{name} {entry.seq} {entry.at_ms} {entry.kind} ".encode() + entry.payload)
    for data in network.sent:
        digest.update(data)
    kinds = [entry.kind for entry in network.peers["b"].journal]
    assert kinds == ["arrived", "merged", "stepped", "stepped", "sealed", "arrived", "merged"]
    assert (len(network.sent), digest.hexdigest()[:8]) == (4, GOLDEN)


def test_entries_are_numbered_one_after_another() -> None:
    network = Network(particle())
    network.play()
    for peer in network.peers.values():
        assert [entry.seq for entry in peer.journal] == list(range(len(peer.journal)))


# --- restoring


def test_a_session_that_is_restored_after_any_write_is_the_same() -> None:
    network, seen = Network(particle()), []

    def compare(peer: Peer) -> None:
        again = peer.restored()
        assert looks(again) == looks(peer.session)
        seen.append(peer.name)

    network.after_each_write = compare
    network.play()
    assert len(seen) > 8


def test_a_restored_session_asks_again_for_calls_whose_outcome_was_not_written() -> None:
    peer = Peer.of("a", particle())
    effects = peer.session.begin()
    peer.write()
    again = peer.restored().begin()
    assert [one.instance for one in again.requests] == [one.instance for one in effects.requests] != []
    assert again.records == ()


def test_a_restored_session_remembers_notices() -> None:
    peer = Peer.of("a", particle())
    peer.session.begin()
    peer.write()
    notice = peer.notice("it broke")
    assert peer.session.note(notice)
    peer.write()
    assert [entry.kind for entry in peer.journal][-1] == "noticed"
    again = peer.restored()
    assert not again.note(notice)
    assert again.note(peer.notice("it broke again"))


# --- written before it is sent


def test_nothing_is_handed_out_that_is_not_written() -> None:
    peer = Peer.of("a", particle())
    peer.session.begin()
    with pytest.raises(AssertionError, match="not written"):
        peer.session.parcel(id_of("b"))
    writes = peer.session.commit(NOW_MS, keys_of("a").sign)
    with pytest.raises(AssertionError, match="not written"):
        peer.session.parcel(id_of("b"))
    peer.session.durable(writes)
    assert peer.session.parcel(id_of("b")).delivery.hops == 1


def test_where_nothing_is_to_be_written_parcels_leave_at_once() -> None:
    peer = Peer.of("a", particle())
    peer.session.begin()
    peer.write()
    effects = peer.session.merge(Known((), {}), upstream=Upstream(id_of("b")), hops=1)
    writes = peer.session.commit(NOW_MS, keys_of("a").sign)
    assert (effects.records, writes.needed, writes.entries()) == ((), False, [])
    assert peer.session.parcel(id_of("b"))


def test_what_leaves_is_signed_in_the_same_write() -> None:
    peer = Peer.of("a", particle())
    effects = peer.session.begin()
    assert "sealed" not in [entry.kind for entry in peer.write().entries()]
    peer.session.resolve({one.instance: Answered(ANSWERS[one.function]) for one in effects.requests})
    writes = peer.session.commit(NOW_MS, keys_of("a").sign)
    assert [entry.kind for entry in writes.entries()] == ["stepped", "sealed"]
    assert writes.peers == [id_of("b"), id_of("c")]


def test_next_peers_that_are_no_peer_ids_are_named_and_not_written() -> None:
    peer = Peer.of("a", particle('(par (call "nobody" ("s" "f") []) (call "{b}" ("s" "f") []))'.format(b=id_of("b"))))
    peer.session.begin()
    writes = peer.write()
    assert (writes.peers, writes.lost) == ([id_of("b")], ["nobody"])


# --- phases


def test_a_particle_is_new_then_live_then_finished_where_nothing_is_left_to_do() -> None:
    script = f"""(par (call "{id_of("a")}" ("load" "names") [] x)
                      (seq (call "{id_of("b")}" ("work" "one") [] y) (call "{id_of("a")}" ("work" "two") [y])))"""
    network, phases = Network(particle(script)), {"a": [ParticlePhase.NEW], "b": [ParticlePhase.NEW]}

    def remember(peer: Peer) -> None:
        if phases[peer.name][-1] is not peer.session.phase:
            phases[peer.name].append(peer.session.phase)

    network.after_each_write = remember
    network.play()
    assert phases == {
        "a": [ParticlePhase.NEW, ParticlePhase.LIVE, ParticlePhase.FINISHED],
        "b": [ParticlePhase.NEW, ParticlePhase.LIVE],
    }, "b waits for a"
    assert network.peers["a"].session.relies_since_ms is None


def test_data_that_do_not_fit_change_nothing() -> None:
    network = Network(particle())
    network.play()
    known = network.peers["b"].session.known
    late = Peer.of("c", particle(), sender="b", hops=2)
    with pytest.raises(MissingError):
        late.session.merge(Known(known.batches[-1:], {}), upstream=Upstream(id_of("b")), hops=2)
    assert late.session.phase is ParticlePhase.NEW
    assert late.session.merge(known, upstream=Upstream(id_of("b")), hops=2).records
    assert [entry.kind for entry in late.write().entries()][:2] == ["arrived", "merged"]


def test_a_new_particle_keeps_no_notices() -> None:
    peer = Peer.of("a", particle())
    assert not peer.session.note(peer.notice("too early"))


def test_a_session_that_breaks_while_it_is_written_stays_broken() -> None:
    peer = Peer.of("b", particle())
    peer.session.begin()
    writes = peer.session.commit(NOW_MS, keys_of("b").sign)
    peer.session.fail()
    peer.session.durable(writes)
    assert peer.session.phase is ParticlePhase.BROKEN
    with pytest.raises(Refused, match="read from the store again"):
        peer.session.commit(NOW_MS, keys_of("b").sign)


@pytest.mark.parametrize("number", range(7))
def test_a_broken_session_takes_nothing_and_gives_nothing(number: int) -> None:
    peer = Peer.of("a", particle())
    peer.session.begin()
    peer.session.fail()
    assert peer.session.phase is ParticlePhase.BROKEN
    with pytest.raises(Refused) as caught:
        broken_by(peer.session)[number]()
    assert caught.value.reason == "busy"


def test_an_arrival_that_brings_nothing_new_is_not_written_but_counts_for_hops() -> None:
    network = Network(particle())
    network.play()
    peer = network.peers["c"]
    before, hops = len(peer.journal), peer.session.hops
    peer.session.merge(peer.session.known, upstream=Upstream(id_of("b")), hops=hops + 3)
    assert not peer.write().needed
    assert (len(peer.journal), peer.session.hops) == (before, hops + 3)
    assert peer.session.parcel(id_of("b")).delivery.hops == hops + 4


@pytest.mark.parametrize("slice_steps", [1, 2, 3, 7, 50])
def test_slices_change_neither_journals_nor_what_is_sent(slice_steps: int) -> None:
    whole, sliced = Network(particle()), Network(particle(), slice_steps=slice_steps)
    whole.play()
    sliced.play()
    assert [peer.journal for peer in sliced.peers.values()] == [peer.journal for peer in whole.peers.values()]
    assert sliced.sent == whole.sent
    assert (whole.slices, sliced.slices > 0) == (0, slice_steps < 50)


def test_what_a_header_carries_is_counted() -> None:
    """As long as the particle lives, and a peer has thousands."""
    carried = {
        "reply_to": tuple(f"/dns4/{'a' * 60}.{'b' * 60}.c{number}/tcp/7000" for number in range(8)),
        "credentials": tuple(bytes([number]) * 341 for number in range(24)),
    }
    data = encode_delivery(_delivery(particle(**carried)))
    plain = encode_delivery(_delivery(particle()))

    def held(of: bytes) -> tuple[int, int]:
        peer, truth = taken(lambda: Peer.of("b", decode_delivery(of).particle))
        return peer.session.held, truth

    held(plain)
    (counted, truth), (counted_plain, truth_plain) = held(data), held(plain)
    assert truth - truth_plain > 10_000
    assert counted - counted_plain == pytest.approx(truth - truth_plain, rel=0.1)


def test_where_arguments_come_from_takes_no_memory_while_a_call_waits() -> None:
    """A canon has as many tetraplets as elements, and hundreds of calls may wait for a place at a service."""
    origins = tuple(Provenance("peer", "service", f"f{number}") for number in range(4_500))
    instance, nowhere = Instance(b"", 1), Position(1, 1)
    request = Request(instance, nowhere, "s", "f", ([1], [1]), (origins, origins), ())
    one = particle()
    payer = Payer(Upstream(one.initiator), one.initiator)
    call, truth = taken(lambda: _call_of(one, request, payer))
    assert truth < 2_000
    assert [len(origins) for origins in call.tetraplets] == [4_500, 4_500]
    assert call.tetraplets[1][7] == list(call.tetraplets[0])[7] == Tetraplet("peer", "service", "f7")
    assert list(call.tetraplets[0][1:3]) == [Tetraplet("peer", "service", "f1"), Tetraplet("peer", "service", "f2")]


def _delivery(one: Particle) -> Delivery:
    return Delivery(id_of("b").public_key, 1, one.header, one.signature, one.script, b"")
