"""What a peer has accepted, what became of it, and to whom it must still be handed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, exists, func, select

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.database import SharedDatabase
from fluvial.storage.particle_rows import (
    Admission,
    JournalEntry,
    OutboxRow,
    ParticleState,
    ParticleSummary,
    StoredParticle,
    outbox_row_of,
    particle_of,
    summary_of,
)
from fluvial.storage.particle_tables import journal, outbox, particles, scripts
from fluvial.storage.particle_writes import addition, admission, check_entries, delivery, failure
from fluvial.tables import plain_text

if TYPE_CHECKING:
    pass

LISTED_MAX: Final = 100
"""Summaries in a list, unless asked otherwise."""

PURGED_MAX: Final = 500
"""Particles removed in one transaction, so that others need not wait long for it."""

_STATE: Final = select(particles.c.state).where(particles.c.key == bindparam("of"))
_WAITING: Final = select(outbox, particles.c.deadline_ms).join(particles)
_SUMMARY: Final = select(
    *particles.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    select(func.count()).where(outbox.c.key == particles.c.key).scalar_subquery().label("waiting"),
)


class ParticleStore:
    """The table group of particles. Every method is one transaction; those that write return after it is committed.

    Any method raises ``StorageError`` if the database fails.
    """

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database

    async def admit(
        self,
        particle: Particle,
        *,
        sender: PeerId,
        hops: int,
        now_ms: int,
        entries: Sequence[JournalEntry] = (),
        peers: Iterable[PeerId] = (),
        finished: bool = False,
    ) -> Admission:
        """Accept responsibility for a particle, with its first journal entries and deliveries.

        If it is here already, nothing of it changes, but entries and peers are recorded as :meth:`record` does.

        Args:
            particle: its signature and script hash are not checked here.
            sender: who handed it over.
            hops: how many peers this copy has been handed to.
            now_ms: milliseconds since 1970.
            entries: what to append to the journal, numbered from its end on.
            peers: who must be handed the particle.
            finished: whether nothing is left to do.

        Raises:
            StorageError: the entries do not follow the journal's last one.
            ResourceLimit: an entry is too large.
        """
        check_entries(entries)
        write = admission(
            particle,
            sender=sender,
            hops=hops,
            now_ms=now_ms,
            entries=entries,
            peers=tuple(dict.fromkeys(peers)),
            finished=finished,
        )
        return await self._database.write(write)

    async def record(
        self,
        key: ParticleKey,
        *,
        now_ms: int,
        entries: Sequence[JournalEntry] = (),
        peers: Iterable[PeerId] = (),
        finished: bool = False,
    ) -> int:
        """Append to a particle's journal and outbox, and say whether something is left to do: all of it or nothing.

        Args:
            key: the particle.
            now_ms: milliseconds since 1970.
            entries: what to append, numbered from the journal's end on.
            peers: who must be handed the particle; one who waits for it already waits on, under the new version.
            finished: whether nothing is left to do; False makes a finished particle live again.

        Returns:
            The version of the outbox rows of ``peers``.

        Raises:
            StorageError: the entries do not follow the journal's last one, or the particle is not here.
            ResourceLimit: an entry is too large.
        """
        check_entries(entries)
        wanted = tuple(dict.fromkeys(peers))
        return await self._database.write(
            addition(key, now_ms=now_ms, entries=entries, peers=wanted, finished=finished)
        )

    async def load(self, key: ParticleKey) -> StoredParticle | None:
        """All that is stored of a particle; None if it is not here.

        Raises:
            StorageError: the stored bytes are damaged.
        """

        def work(connection: Connection) -> StoredParticle | None:
            query = select(particles, scripts.c.text.label("script")).join(scripts).where(particles.c.key == key)
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            entries = connection.execute(
                select(*journal.c["seq", "at_ms", "kind", "payload"])
                .where(journal.c.key == key)
                .order_by(journal.c.seq)
            )
            waiting = connection.execute(_WAITING.where(outbox.c.key == key).order_by(outbox.c.peer))
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
        """The state of a particle; None if it is not here (and was not within the time of the replay guard)."""
        state = await self._database.read(lambda connection: connection.scalar(_STATE, {"of": key}))
        return None if state is None else ParticleState(state)

    async def live(self, now_ms: int) -> list[ParticleKey]:
        """The particles with something left to do and time left to do it, oldest first: where to go on after a restart."""
        query = (
            select(particles.c.key)
            .where(particles.c.state == ParticleState.LIVE.value, particles.c.deadline_ms > now_ms)
            .order_by(particles.c.received_at_ms, particles.c.key)
        )
        keys = await self._database.read(lambda connection: connection.scalars(query).all())
        return [ParticleKey(key) for key in keys]

    async def outbox_rows(self, now_ms: int, *, peer: PeerId | None = None) -> list[OutboxRow]:
        """What must still be handed over and has not expired, oldest first; to all peers or to one."""
        query = _WAITING.where(particles.c.deadline_ms > now_ms)
        if peer is not None:
            query = query.where(outbox.c.peer == str(peer))
        query = query.order_by(outbox.c.since_ms, outbox.c.key, outbox.c.peer)
        return await self._database.read(lambda connection: [outbox_row_of(row) for row in connection.execute(query)])

    async def delivered(self, key: ParticleKey, peer: PeerId, version: int) -> bool:
        """A peer has got the particle as it was when its outbox row had this version.

        Returns:
            Whether that was all; False if the particle was asked for again meanwhile, so that a row still waits.
        """
        return await self._database.write(delivery(key, peer, version))

    async def attempt_failed(self, key: ParticleKey, peer: PeerId, error: str) -> None:
        """Handing a particle to a peer failed; its row, if there is one, waits on. A long ``error`` is cut."""
        await self._database.write(failure(key, peer, error))

    async def find(self, id_prefix: str, *, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """The particles whose id begins with a text, newest first. Ids are their initiators' words: two may have the same."""
        low = plain_text(id_prefix, ID_CHARACTERS_MAX)
        high = low + "\U0010ffff" * ID_CHARACTERS_MAX  # no id with this prefix sorts behind it
        return await self._summaries(_SUMMARY.where(particles.c.id >= low, particles.c.id <= high), limit)

    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """The particles received last, newest first."""
        return await self._summaries(_SUMMARY, limit)

    async def purge(self, now_ms: int, *, keep_ms: int, skew_ms: int, limit: int = PURGED_MAX) -> int:
        """Forget particles that expired long ago, with journal, outbox and unused scripts; call again while it finds some.

        Args:
            now_ms: milliseconds since 1970.
            keep_ms: how long after its deadline a particle can still be looked at.
            skew_ms: how far clocks may be apart. A particle stays this long in any case: its row is the replay guard.
            limit: how many at most.

        Returns:
            How many were removed.
        """
        if keep_ms < 0 or skew_ms < 0:
            raise ValueError("keep_ms and skew_ms must not be negative: a particle's row must outlive the particle")
        expired = particles.c.deadline_ms < now_ms - max(keep_ms, skew_ms)
        query = select(particles.c.key, particles.c.script_hash).where(expired)
        query = query.order_by(particles.c.deadline_ms).limit(limit)

        def work(connection: Connection) -> int:
            rows = connection.execute(query).all()
            hashes = {row.script_hash for row in rows}
            connection.execute(delete(particles).where(particles.c.key.in_([row.key for row in rows])))
            used = exists().where(particles.c.script_hash == scripts.c.hash)
            connection.execute(delete(scripts).where(scripts.c.hash.in_(hashes), ~used))
            return len(rows)

        return await self._database.write(work)

    async def _summaries(self, query: Select[Any], limit: int) -> list[ParticleSummary]:
        query = query.order_by(particles.c.received_at_ms.desc(), particles.c.key).limit(limit)
        return await self._database.read(lambda connection: [summary_of(row) for row in connection.execute(query)])
