"""The particles of a peer that keeps nothing, such as a client: in dictionaries, without a database.

It does what the database does, and forgets all of it when the process ends.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import TypeAlias

import anyio.lowlevel
import msgspec

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.account import GUARD_BYTES, NOBODY, STORY_BYTES, entries_bytes, particle_bytes, row_bytes
from fluvial.storage.entries import ERROR_CHARACTERS_MAX, not_here, not_next
from fluvial.storage.holdings import Holdings, Removed, Written
from fluvial.storage.particles import LISTED_MAX, ParticleStore
from fluvial.storage.retention import Retention
from fluvial.storage.ways import hand_overs, longer, told
from fluvial.stored import HandOver, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import plain_text


@dataclass(slots=True)
class _Kept:
    """A particle; its script counts with it."""

    particle: Particle
    sender: PeerId
    hops: int
    received_at_ms: int
    size: int
    state: ParticleState = ParticleState.LIVE
    revision: int = 0
    journal: list[JournalEntry] = field(default_factory=list)
    outbox: dict[PeerId, OutboxRow] = field(default_factory=dict)
    ways: dict[PeerId, str] = field(default_factory=dict)
    story: bytes | None = None
    listed: bool = False  # among those that have finished

    @property
    def has_finished(self) -> bool:
        return self.state is ParticleState.FINISHED and not self.outbox

    def has_ended(self, now_ms: int) -> bool:
        return self.has_finished or self.particle.deadline_ms < now_ms

    def written(self, *, is_new: bool = False) -> Written:
        header = self.particle.header
        return Written(self.revision, header.initiator, self.size, self.particle.deadline_ms, is_new=is_new)


_Ages: TypeAlias = list[tuple[int, ParticleKey]]
"""A heap: keys by their deadlines, the oldest first. Some may be gone."""


class _Table(dict[ParticleKey, _Kept]):
    """What is kept, and the keys of what is gone and must not be run again. What is to be removed is found without a look at all the others.

    Attributes:
        guards: the latter.
        ages: all that is kept.
        finished: of these, those that have finished, and some that live again.
        guard_ages: of the guards.
    """

    def __init__(self) -> None:
        super().__init__()
        self.guards: set[ParticleKey] = set()
        self.ages: _Ages = []
        self.finished: _Ages = []
        self.guard_ages: _Ages = []

    def changed(self, kept: _Kept) -> None:
        """A particle has perhaps finished."""
        if kept.has_finished and not kept.listed:
            kept.listed = True
            heappush(self.finished, (kept.particle.deadline_ms, kept.particle.key))

    def dead(self, end_ms: int, most: int) -> list[ParticleKey]:
        """The oldest of those that died before a time; each is named once."""
        return list(_before(self.ages, end_ms, most, self))

    def ended(self, most: int) -> list[ParticleKey]:
        """The oldest of those that have finished; each is named once, unless it lives again."""
        found: list[ParticleKey] = []
        while self.finished and len(found) < most:
            _, key = heappop(self.finished)
            if (kept := self.get(key)) is not None:
                kept.listed = False
                if kept.has_finished:
                    found.append(key)
        return found


def _before(ages: _Ages, end_ms: int, most: int, there: Container[ParticleKey]) -> dict[ParticleKey, None]:
    """Take the oldest keys out of a heap, so many at most that are not gone, with deadlines before a time."""
    found: dict[ParticleKey, None] = {}
    while ages and ages[0][0] < end_ms and len(found) < most:
        if (key := heappop(ages)[1]) in there:
            found[key] = None
    return found


class InMemoryParticles(ParticleStore):
    """See :class:`ParticleStore`."""

    def __init__(self) -> None:
        holdings = Holdings()
        self._table = _Table()
        super().__init__(holdings, _InMemoryRetention(self._table, holdings))

    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """See :class:`ParticleStore`: there is nothing to remember."""
        self._holdings.fill(keys=(), large=(), rows=(), since_ms=0)

    async def load(self, key: ParticleKey) -> StoredParticle | None:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        kept = self._table.get(key)
        if kept is None or kept.story is not None:
            return None
        return StoredParticle(
            particle=kept.particle,
            sender=kept.sender,
            hops=kept.hops,
            received_at_ms=kept.received_at_ms,
            state=kept.state,
            journal=tuple(kept.journal),
            outbox=tuple(kept.outbox[peer] for peer in sorted(kept.outbox)),
        )

    async def status(self, key: ParticleKey) -> ParticleState | None:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        return None if (kept := self._table.get(key)) is None else kept.state

    async def live(self, now_ms: int) -> dict[ParticleKey, tuple[PeerId, PeerId]]:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        found = [
            (kept.received_at_ms, key)
            for key, kept in self._table.items()
            if kept.state is ParticleState.LIVE and kept.story is None and kept.particle.deadline_ms > now_ms
        ]
        return {key: (self._table[key].particle.initiator, self._table[key].sender) for _, key in sorted(found)}

    async def outbox_rows(self, now_ms: int, *, peer: PeerId | None = None) -> list[OutboxRow]:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        rows = [row for kept in self._table.values() for row in kept.outbox.values() if row.deadline_ms > now_ms]
        wanted = rows if peer is None else [row for row in rows if row.peer == peer]
        return sorted(wanted, key=lambda row: (row.since_ms, row.key, row.peer))

    async def handed(self, key: ParticleKey) -> list[HandOver]:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        kept = self._table.get(key)
        texts = kept.ways.items() if kept is not None else ()
        return sorted((one for peer, text in texts for one in hand_overs(peer, text)), key=lambda one: one.at_ms)

    def delivered(
        self,
        key: ParticleKey,
        peer: PeerId,
        version: int,
        handed: HandOver | None = None,
        *,
        failed: bool = True,
    ) -> None:
        """See :class:`ParticleStore`."""
        if (kept := self._table.get(key)) is None:
            return
        if handed is not None:
            kept.ways[peer] = longer(kept.ways[peer], told(handed)) if peer in kept.ways else told(handed)
        if (row := kept.outbox.get(peer)) is None:
            return
        if row.version <= version:
            del kept.outbox[peer]
            self._table.changed(kept)
        else:
            kept.outbox[peer] = msgspec.structs.replace(row, attempts=0, last_error="")

    def attempt_failed(self, key: ParticleKey, peer: PeerId, error: str) -> None:
        """See :class:`ParticleStore`."""
        if (kept := self._table.get(key)) is not None and (row := kept.outbox.get(peer)) is not None:
            why = plain_text(error, ERROR_CHARACTERS_MAX)
            kept.outbox[peer] = msgspec.structs.replace(row, attempts=row.attempts + 1, last_error=why)

    async def find(self, id_prefix: str, *, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """See :class:`ParticleStore`."""
        prefix = plain_text(id_prefix, ID_CHARACTERS_MAX)
        found = await self.recent(len(self._table))
        return [one for one in found if plain_text(one.id, ID_CHARACTERS_MAX).startswith(prefix)][:limit]

    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        kept = sorted(self._table.items(), key=lambda one: (-one[1].received_at_ms, one[0]))
        return [_summary(key, one) for key, one in kept[:limit]]

    async def story(self, key: ParticleKey) -> bytes | None:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        return None if (kept := self._table.get(key)) is None else kept.story

    async def is_spent(self, key: ParticleKey) -> bool:
        """See :class:`ParticleStore`."""
        await anyio.lowlevel.checkpoint()
        return key in self._table.guards

    async def _admit(
        self,
        particle: Particle,
        *,
        sender: PeerId,
        hops: int,
        now_ms: int,
        entries: Sequence[JournalEntry],
        peers: Sequence[PeerId],
        finished: bool,
        added: int,
    ) -> Written:
        kept = self._table.get(particle.key)
        if (is_new := kept is None) or kept is None:
            size = particle_bytes(particle) + len(particle.script)
            kept = self._table[particle.key] = _Kept(particle, sender, hops, now_ms, size)
            heappush(self._table.ages, (particle.deadline_ms, particle.key))
        if entries or peers or finished:
            _append(kept, now_ms, entries, peers, finished=finished)
            self._table.changed(kept)
        await anyio.lowlevel.checkpoint()
        return kept.written(is_new=is_new)

    async def _record(
        self,
        key: ParticleKey,
        *,
        now_ms: int,
        entries: Sequence[JournalEntry],
        peers: Sequence[PeerId],
        finished: bool,
        stays: bool,
        added: int,
    ) -> Written:
        kept = self._table.get(key)
        if kept is None or kept.story is not None:
            raise not_here(key)
        _append(kept, now_ms, entries, peers, finished=finished)
        self._table.changed(kept)
        await anyio.lowlevel.checkpoint()
        return kept.written()


class _InMemoryRetention(Retention):
    """See :class:`Retention`; what a step frees is not bounded in bytes, since nobody waits for it."""

    def __init__(self, table: _Table, holdings: Holdings) -> None:
        super().__init__(holdings)
        self._table = table

    async def measure(self) -> None:
        """See :class:`Retention`: there is no file."""

    async def _forget(self, end_ms: int, guarded_ms: int, most: int) -> Removed:
        await anyio.lowlevel.checkpoint()
        removed, table = Removed(), self._table
        if dead := table.dead(end_ms, most):
            removed.oldest_ms = end_ms - self._table[dead[0]].particle.deadline_ms
        for key in dead:
            self._remove(key, removed)
        for key in _before(table.guard_ages, guarded_ms, most, table.guards):
            table.guards.discard(key)
            removed.change.append((NOBODY, -GUARD_BYTES))
        return removed

    async def _make_room(self, now_ms: int, guarded_ms: int, most: int) -> Removed:
        await anyio.lowlevel.checkpoint()
        removed, table = Removed(), self._table
        dead = table.dead(now_ms, most)
        for key in [*dead, *table.ended(most - len(dead))]:
            self._guard(key, guarded_ms, removed)
            self._remove(key, removed)
        return removed

    async def _shrink(self, key: ParticleKey, story: bytes, now_ms: int, guarded_ms: int) -> Removed:
        await anyio.lowlevel.checkpoint()
        removed, kept = Removed(), self._table.get(key)
        if kept is None or kept.story is not None or not kept.has_ended(now_ms):
            return removed
        self._guard(key, guarded_ms, removed)
        self._remove(key, removed)
        size = row_bytes(len(story), STORY_BYTES)
        short = Particle(kept.particle.header, kept.particle.signature, "")
        self._table[key] = replace(
            kept, particle=short, journal=kept.journal, outbox={}, ways={}, size=size, story=story
        )
        self._table[key].journal = [msgspec.structs.replace(entry, payload=b"") for entry in kept.journal]
        removed.change.append((kept.particle.header.initiator, size))
        return removed

    def _guard(self, key: ParticleKey, guarded_ms: int, removed: Removed) -> None:
        deadline_ms = self._table[key].particle.deadline_ms
        if deadline_ms >= guarded_ms and key not in self._table.guards:
            self._table.guards.add(key)
            heappush(self._table.guard_ages, (deadline_ms, key))
            removed.change.append((NOBODY, GUARD_BYTES))

    def _remove(self, key: ParticleKey, removed: Removed) -> None:
        kept = self._table.pop(key)
        removed.change.append((kept.particle.header.initiator, -kept.size))
        removed.keys.append(key)
        removed.count += 1


def _append(
    kept: _Kept, now_ms: int, entries: Sequence[JournalEntry], peers: Sequence[PeerId], *, finished: bool
) -> None:
    key = kept.particle.key
    if entries and entries[0].seq != len(kept.journal):
        raise not_next(key, entries[0].seq, len(kept.journal))
    kept.journal.extend(entries)
    kept.size += entries_bytes(entries, len(peers))
    kept.state = ParticleState.FINISHED if finished else ParticleState.LIVE
    kept.revision += 1
    for peer in peers:
        old = kept.outbox.get(peer)
        kept.outbox[peer] = OutboxRow(
            key=key,
            peer=peer,
            version=kept.revision,
            since_ms=now_ms if old is None else old.since_ms,
            attempts=0 if old is None else old.attempts,
            last_error="" if old is None else old.last_error,
            deadline_ms=kept.particle.deadline_ms,
            initiator=kept.particle.initiator,
            sender=kept.sender,
        )


def _summary(key: ParticleKey, kept: _Kept) -> ParticleSummary:
    return ParticleSummary(
        key=key,
        id=kept.particle.id,
        initiator=kept.particle.initiator,
        sender=kept.sender,
        hops=kept.hops,
        received_at_ms=kept.received_at_ms,
        deadline_ms=kept.particle.deadline_ms,
        state=kept.state,
        entries=len(kept.journal),
        waiting=len(kept.outbox),
    )
