"""The particles of a peer that keeps nothing, such as a client: in dictionaries, without a database.

It does what the database does, and forgets all of it when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

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

    def has_ended(self, now_ms: int) -> bool:
        finished = self.state is ParticleState.FINISHED and not self.outbox
        return finished or self.particle.deadline_ms < now_ms

    def written(self, *, is_new: bool = False) -> Written:
        header = self.particle.header
        return Written(self.revision, header.initiator, self.size, self.particle.deadline_ms, is_new=is_new)


class _Table(dict[ParticleKey, _Kept]):
    """What is kept, and with ``guards`` the deadlines of what is gone and must not be run again."""

    def __init__(self) -> None:
        super().__init__()
        self.guards: dict[ParticleKey, int] = {}


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
            kept = _Kept(particle, sender, hops, now_ms, size)
        if entries or peers or finished:
            _append(kept, now_ms, entries, peers, finished=finished)
        self._table[particle.key] = kept
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
        removed, guards = Removed(), self._table.guards
        dead = self._oldest(most, lambda kept: kept.particle.deadline_ms < end_ms)
        if dead:
            removed.oldest_ms = end_ms - self._table[dead[0]].particle.deadline_ms
        for key in dead:
            self._remove(key, removed)
        for key in [key for key, deadline_ms in guards.items() if deadline_ms < guarded_ms][:most]:
            del guards[key]
            removed.change.append((NOBODY, -GUARD_BYTES))
        return removed

    async def _make_room(self, now_ms: int, guarded_ms: int, most: int) -> Removed:
        await anyio.lowlevel.checkpoint()
        removed = Removed()
        for key in self._oldest(most, lambda kept: kept.has_ended(now_ms)):
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

    def _oldest(self, most: int, wanted: Callable[[_Kept], bool]) -> list[ParticleKey]:
        found = sorted((kept.particle.deadline_ms, key) for key, kept in self._table.items() if wanted(kept))
        return [key for _, key in found[:most]]

    def _guard(self, key: ParticleKey, guarded_ms: int, removed: Removed) -> None:
        deadline_ms = self._table[key].particle.deadline_ms
        if deadline_ms >= guarded_ms and key not in self._table.guards:
            self._table.guards[key] = deadline_ms
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
