"""What a peer has accepted, what became of it, and to whom it must still be handed, in a database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, func, literal_column, select

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.database import SharedDatabase
from fluvial.storage.holdings import LARGE_BYTES, Holdings, Written
from fluvial.storage.particle_rows import initiator_of, outbox_row_of, particle_of, summary_of
from fluvial.storage.particle_tables import journal, outbox, particles, replay_guards, scripts, stories, ways
from fluvial.storage.particle_writes import addition, admission, delivery, failure
from fluvial.storage.particles import LISTED_MAX, ParticleStore
from fluvial.storage.removal import contents
from fluvial.storage.sql_retention import SqlRetention
from fluvial.storage.ways import hand_overs
from fluvial.stored import HandOver, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import plain_text

_LARGE: Final = select(*particles.c["key", "initiator", "deadline_ms", "state"]).where(particles.c.bytes > LARGE_BYTES)
_STATE: Final = select(particles.c.state).where(particles.c.key == bindparam("of"))
_WAITING: Final = select(outbox, particles.c.deadline_ms).join(particles)
_STORY_STATE: Final = select(stories.c.state).where(stories.c.key == bindparam("of"))
_STORY: Final = select(stories.c.story).where(stories.c.key == bindparam("of"))
_GUARD: Final = select(replay_guards.c.key).where(replay_guards.c.key == bindparam("of"))
_LOAD: Final = select(particles, scripts.c.text.label("script")).join(scripts).where(particles.c.key == bindparam("of"))
_JOURNAL: Final = (
    select(*journal.c["seq", "at_ms", "kind", "payload"])
    .where(journal.c.key == bindparam("of"))
    .order_by(journal.c.seq)
)
_OUTBOX: Final = _WAITING.where(outbox.c.key == bindparam("of")).order_by(outbox.c.peer)
_WAYS: Final = select(ways.c.peer, ways.c.told).where(ways.c.key == bindparam("of")).order_by(ways.c.peer)
_SUMMARY: Final = select(
    *particles.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    select(func.count()).where(outbox.c.key == particles.c.key).scalar_subquery().label("waiting"),
)
_STORY_SUMMARY: Final = select(
    *stories.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    literal_column("0").label("waiting"),
)


class SqlParticles(ParticleStore):
    """See :class:`ParticleStore`.

    Args:
        database: the open database.
    """

    def __init__(self, database: SharedDatabase) -> None:
        holdings = Holdings()
        super().__init__(holdings, SqlRetention(database, holdings))
        self._database = database

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
    ) -> Written:
        return await self._database.write(
            admission(
                particle, sender=sender, hops=hops, now_ms=now_ms, entries=entries, peers=peers, finished=finished
            )
        )

    async def _record(
        self,
        key: ParticleKey,
        *,
        now_ms: int,
        entries: Sequence[JournalEntry],
        peers: Sequence[PeerId],
        finished: bool,
    ) -> Written:
        return await self._database.write(addition(key, now_ms=now_ms, entries=entries, peers=peers, finished=finished))

    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """See :class:`ParticleStore`."""
        since = now_ms - skew_ms
        keys = [
            select(*table.c["key", "deadline_ms"]).where(table.c.deadline_ms >= since)
            for table in (particles, replay_guards)
        ]

        def work(connection: Connection) -> None:
            self._holdings.fill(
                keys=[(ParticleKey(key), at_ms) for query in keys for key, at_ms in connection.execute(query)],
                large=[
                    (ParticleKey(key), initiator, deadline_ms, state == ParticleState.FINISHED.value)
                    for key, initiator, deadline_ms, state in connection.execute(_LARGE)
                ],
                rows=contents(connection),
            )

        await self._database.read(work)

    async def load(self, key: ParticleKey) -> StoredParticle | None:
        """See :class:`ParticleStore`."""

        def work(connection: Connection) -> StoredParticle | None:
            row = connection.execute(_LOAD, {"of": key}).one_or_none()
            if row is None:
                return None
            entries = connection.execute(_JOURNAL, {"of": key})
            waiting = connection.execute(_OUTBOX, {"of": key})
            return StoredParticle(
                particle=particle_of(row),
                sender=PeerId(row.sender),
                hops=row.hops,
                received_at_ms=row.received_at_ms,
                state=ParticleState(row.state),
                journal=tuple(JournalEntry(*entry) for entry in entries),
                outbox=tuple(map(outbox_row_of, waiting)),
            )

        return await self._database.read(work)

    async def status(self, key: ParticleKey) -> ParticleState | None:
        """See :class:`ParticleStore`."""

        def work(connection: Connection) -> str | None:
            return connection.scalar(_STATE, {"of": key}) or connection.scalar(_STORY_STATE, {"of": key})

        state = await self._database.read(work)
        return None if state is None else ParticleState(state)

    async def live(self, now_ms: int) -> dict[ParticleKey, PeerId]:
        """See :class:`ParticleStore`."""
        query = (
            select(*particles.c["key", "header"])
            .where(particles.c.state == ParticleState.LIVE.value, particles.c.deadline_ms > now_ms)
            .order_by(particles.c.received_at_ms, particles.c.key)
        )
        return await self._database.read(
            lambda connection: {ParticleKey(row.key): initiator_of(row) for row in connection.execute(query)}
        )

    async def outbox_rows(self, now_ms: int, *, peer: PeerId | None = None) -> list[OutboxRow]:
        """See :class:`ParticleStore`."""
        query = _WAITING.where(particles.c.deadline_ms > now_ms)
        if peer is not None:
            query = query.where(outbox.c.peer == str(peer))
        query = query.order_by(outbox.c.since_ms, outbox.c.key, outbox.c.peer)
        return await self._database.read(lambda connection: [outbox_row_of(row) for row in connection.execute(query)])

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
        self._database.defer(delivery(key, peer, version, handed, failed=failed))

    async def handed(self, key: ParticleKey) -> list[HandOver]:
        """See :class:`ParticleStore`."""
        rows = await self._database.read(lambda connection: connection.execute(_WAYS, {"of": key}).all())
        return sorted(
            (one for row in rows for one in hand_overs(PeerId(row.peer), row.told)), key=lambda one: one.at_ms
        )

    def attempt_failed(self, key: ParticleKey, peer: PeerId, error: str) -> None:
        """See :class:`ParticleStore`."""
        self._database.defer(failure(key, peer, error))

    async def find(self, id_prefix: str, *, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """See :class:`ParticleStore`."""
        low = plain_text(id_prefix, ID_CHARACTERS_MAX)
        high = low + "\U0010ffff" * ID_CHARACTERS_MAX  # no id with this prefix sorts behind it
        return await self._summaries(limit, lambda table: [table.c.id >= low, table.c.id <= high])

    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """See :class:`ParticleStore`."""
        return await self._summaries(limit, lambda _: [])

    async def story(self, key: ParticleKey) -> bytes | None:
        """See :class:`ParticleStore`."""
        return await self._database.read(lambda connection: connection.scalar(_STORY, {"of": key}))

    async def is_spent(self, key: ParticleKey) -> bool:
        """See :class:`ParticleStore`."""
        found = await self._database.read(lambda connection: connection.scalar(_GUARD, {"of": key}))
        return found is not None

    async def _summaries(
        self, limit: int, where: Callable[[Table], list[ColumnElement[bool]]]
    ) -> list[ParticleSummary]:
        """Of particles and of those that are only stories now, newest first."""
        queries: list[Select[Any]] = [
            query.where(*where(table)).order_by(table.c.received_at_ms.desc(), table.c.key).limit(limit)
            for query, table in ((_SUMMARY, particles), (_STORY_SUMMARY, stories))
        ]

        def work(connection: Connection) -> list[ParticleSummary]:
            found = [summary_of(row) for query in queries for row in connection.execute(query)]
            return sorted(found, key=lambda one: (-one.received_at_ms, one.key))[:limit]

        return await self._database.read(work)
