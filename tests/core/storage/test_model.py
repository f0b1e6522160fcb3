"""Any sequence of calls: the store agrees with a few dictionaries."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal
from fluvial.errors import StorageError
from fluvial.identity import PeerId
from fluvial.particle import ParticleKey
from fluvial.storage import JournalEntry, ParticleState, ParticleStore, Store, open_store
from fluvial.storage.in_memory import InMemoryParticles
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.core.storage.samples import NOW_MS, TTL_MS, make_particle, peer

PARTICLES = [make_particle(f"p{number}", script=f"({number % 2})", timestamp_ms=NOW_MS + number) for number in range(4)]
PEERS = [peer(number) for number in (2, 3, 4)]

particle_numbers = st.integers(0, len(PARTICLES) - 1)
peer_sets = st.sets(st.sampled_from(PEERS), max_size=2)


@dataclass
class Modelled:
    """What the model knows of a particle: payloads, and per peer how often it was asked for in all."""

    finished: bool = False
    payloads: list[bytes] = field(default_factory=list)
    waiting: dict[PeerId, int] = field(default_factory=dict)
    attempts: dict[PeerId, int] = field(default_factory=dict)


class ParticleStoreMachine(RuleBasedStateMachine):
    """Runs the calls on both."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        self.portal = self.closing.enter_context(start_blocking_portal())
        self.particles = self.opened()
        self.model: dict[ParticleKey, Modelled] = {}

    def opened(self) -> ParticleStore:
        """An empty store."""
        opening = open_store("sqlite://", base_dir=Path())
        store: Store = self.closing.enter_context(self.portal.wrap_async_context_manager(opening))
        return store.particles

    def teardown(self) -> None:
        self.closing.close()

    @rule(number=particle_numbers, payloads=st.lists(st.binary(max_size=3), max_size=2), peers=peer_sets)
    def admit(self, number: int, payloads: list[bytes], peers: set[PeerId]) -> None:
        particle = PARTICLES[number]
        known = self.model.setdefault(particle.key, Modelled())
        is_new = known == Modelled() and self.portal.call(self.particles.status, particle.key) is None
        admission = self.portal.call(
            lambda: self.particles.admit(
                particle,
                sender=PEERS[0],
                hops=number,
                now_ms=NOW_MS,
                entries=self.entries(known, payloads),
                peers=peers,
            )
        )
        assert admission.is_new == is_new
        if payloads or peers:
            known.finished = False
        self.note(known, payloads, peers, admission.version)

    @rule(
        number=particle_numbers,
        payloads=st.lists(st.binary(max_size=3), max_size=3),
        peers=peer_sets,
        finished=st.booleans(),
        shift=st.sampled_from([0, 0, 0, -1, 1]),
    )
    def record(self, number: int, payloads: list[bytes], peers: set[PeerId], finished: bool, shift: int) -> None:
        key = PARTICLES[number].key
        known = self.model.get(key)
        entries = self.entries(known or Modelled(), payloads, shift)

        async def call() -> int:
            return await self.particles.record(key, now_ms=NOW_MS, entries=entries, peers=peers, finished=finished)

        if known is None or (entries and shift):
            with pytest.raises(StorageError):
                self.portal.call(call)
        else:
            version = self.portal.call(call)
            known.finished = finished
            self.note(known, payloads, peers, version)

    @rule(number=particle_numbers, to=st.sampled_from(PEERS), age=st.integers(0, 2))
    def delivered(self, number: int, to: PeerId, age: int) -> None:
        key = PARTICLES[number].key
        known = self.model.get(key, Modelled())
        version = known.waiting.get(to, 5) - age
        self.portal.call(self.particles.delivered, key, to, version)
        if version >= known.waiting.get(to, 0):
            known.waiting.pop(to, None)
        known.attempts.pop(to, None)

    @rule(number=particle_numbers, to=st.sampled_from(PEERS))
    def attempt_failed(self, number: int, to: PeerId) -> None:
        key = PARTICLES[number].key
        self.portal.call(self.particles.attempt_failed, key, to, "unreachable")
        if key in self.model and to in self.model[key].waiting:
            self.model[key].attempts[to] = self.model[key].attempts.get(to, 0) + 1

    @rule(after_ms=st.integers(-1, len(PARTICLES) + 1), limit=st.integers(1, 3))
    def purge(self, after_ms: int, limit: int) -> None:
        now_ms = NOW_MS + TTL_MS + after_ms
        gone = [p.key for p in PARTICLES if p.key in self.model and p.deadline_ms < now_ms][:limit]
        assert self.portal.call(
            lambda: self.particles.retention.forget(now_ms, keep_ms=0, skew_ms=0, limit=limit)
        ).count == len(gone)
        for key in gone:
            del self.model[key]

    @rule(limit=st.integers(1, 2))
    def make_room(self, limit: int) -> None:
        ended = [
            key
            for key in (particle.key for particle in PARTICLES)
            if key in self.model and self.model[key].finished and not self.model[key].waiting
        ]
        removed = self.portal.call(lambda: self.particles.retention.make_room(NOW_MS, skew_ms=0, limit=limit))
        assert removed.keys == ended[:limit]
        for key in removed.keys:
            del self.model[key]

    @invariant()
    def agrees(self) -> None:
        self.portal.call(self.compare)

    async def compare(self) -> None:
        live = {key for key, known in self.model.items() if not known.finished}
        assert set(await self.particles.live(NOW_MS)) == live
        rows = await self.particles.outbox_rows(NOW_MS)
        assert {(row.key, row.peer): (row.version, row.attempts) for row in rows} == {
            (key, to): (version, known.attempts.get(to, 0))
            for key, known in self.model.items()
            for to, version in known.waiting.items()
        }
        for particle in PARTICLES:
            stored, known = await self.particles.load(particle.key), self.model.get(particle.key)
            assert (stored is None) == (known is None)
            if stored is not None and known is not None:
                assert stored.particle == particle
                assert stored.state is (ParticleState.FINISHED if known.finished else ParticleState.LIVE)
                assert [entry.payload for entry in stored.journal] == known.payloads
                assert [entry.seq for entry in stored.journal] == list(range(len(known.payloads)))

    @staticmethod
    def entries(known: Modelled, payloads: list[bytes], shift: int = 0) -> list[JournalEntry]:
        first = len(known.payloads) + shift
        return [JournalEntry(first + i, NOW_MS, "batch", payload) for i, payload in enumerate(payloads)]

    @staticmethod
    def note(known: Modelled, payloads: list[bytes], peers: set[PeerId], version: int) -> None:
        known.payloads += payloads
        for to in peers:
            assert version > known.waiting.get(to, 0), "versions grow"
            known.waiting[to] = version


class InMemoryMachine(ParticleStoreMachine):
    """The same with a store that has no database."""

    def opened(self) -> ParticleStore:
        """An empty store."""
        return InMemoryParticles()


TestParticleStore = ParticleStoreMachine.TestCase
TestInMemoryParticles = InMemoryMachine.TestCase
TestParticleStore.settings = settings(max_examples=12, stateful_step_count=20, deadline=None, derandomize=True)
TestInMemoryParticles.settings = TestParticleStore.settings
