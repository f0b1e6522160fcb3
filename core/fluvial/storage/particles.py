"""What a peer has accepted, what became of it, and to whom it must still be handed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, exists, func, select

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.database import SharedDatabase
from fluvial.storage.known_keys import KnownKeys
from fluvial.storage.particle_rows import Purged, initiator_of, outbox_row_of, particle_of, summary_of
from fluvial.storage.particle_tables import journal, outbox, particles, scripts
from fluvial.storage.particle_writes import addition, admission, check_entries, delivery, failure
from fluvial.stored import Admission, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import plain_text

LISTED_MAX: Final = 100
"""Summaries in a list, unless asked otherwise."""

PURGED_MAX: Final = 500
"""Particles removed in one transaction, so that others need not wait long for it."""

_STATE: Final = select(particles.c.state).where(particles.c.key == bindparam("of"))
_WAITING: Final = select(outbox, particles.c.deadline_ms).join(particles)
_EXPIRED: Final = (
    select(*particles.c["key", "script_hash", "deadline_ms"])
    .where(particles.c.deadline_ms < bindparam("end"))
    .order_by(particles.c.deadline_ms)
    .limit(bindparam("most"))
)
_FORGET: Final = delete(particles).where(particles.c.key.in_(bindparam("keys", expanding=True)))
_FORGET_SCRIPTS: Final = delete(scripts).where(
    scripts.c.hash.in_(bindparam("hashes", expanding=True)), ~exists().where(particles.c.script_hash == scripts.c.hash)
)
_LOAD: Final = select(particles, scripts.c.text.label("script")).join(scripts).where(particles.c.key == bindparam("of"))
_JOURNAL: Final = (
    select(*journal.c["seq", "at_ms", "kind", "payload"])
    .where(journal.c.key == bindparam("of"))
    .order_by(journal.c.seq)
)
_OUTBOX: Final = _WAITING.where(outbox.c.key == bindparam("of")).order_by(outbox.c.peer)
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
        self._known = KnownKeys()

    def knows(self, particle: Particle) -> bool:
        """Whether the particle was perhaps admitted; asks no database. False is certain, if its time is not over.

        True until :meth:`remember` has been called.
        """
        return self._known.has(particle.key, particle.deadline_ms)

    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """Read which particles are here, so that :meth:`knows` can tell; once, at the start.

        Args:
            now_ms: milliseconds since 1970.
            skew_ms: how far clocks may be apart; what is over for longer is not remembered.
        """
        query = select(*particles.c["key", "deadline_ms"]).where(particles.c.deadline_ms >= now_ms - skew_ms)

        def work(connection: Connection) -> list[tuple[ParticleKey, int]]:
            return [(ParticleKey(key), deadline_ms) for key, deadline_ms in connection.execute(query)]

        self._known.fill(await self._database.read(work))

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
        self._known.add(particle.key, particle.deadline_ms)
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
        """The state of a particle; None if it is not here (and was not within the time of the replay guard)."""
        state = await self._database.read(lambda connection: connection.scalar(_STATE, {"of": key}))
        return None if state is None else ParticleState(state)

    async def live(self, now_ms: int) -> dict[ParticleKey, PeerId]:
        """The particles with something left to do and time left to do it, oldest first, each with its initiator: where to go on after a restart."""
        query = (
            select(*particles.c["key", "header"])
            .where(particles.c.state == ParticleState.LIVE.value, particles.c.deadline_ms > now_ms)
            .order_by(particles.c.received_at_ms, particles.c.key)
        )
        return await self._database.read(
            lambda connection: {ParticleKey(row.key): initiator_of(row) for row in connection.execute(query)}
        )

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
        """Forget particles that expired long ago; how many. See :meth:`purge_step`."""
        return (await self.purge_step(now_ms, keep_ms=keep_ms, skew_ms=skew_ms, limit=limit)).count

    async def purge_step(self, now_ms: int, *, keep_ms: int, skew_ms: int, limit: int) -> Purged:
        """Forget particles that expired long ago, with journal, outbox and unused scripts; call again while it finds some.

        Args:
            now_ms: milliseconds since 1970.
            keep_ms: how long after its deadline a particle can still be looked at.
            skew_ms: how far clocks may be apart. A particle stays this long in any case: its row is the replay guard.
            limit: how many at most.
        """
        if keep_ms < 0 or skew_ms < 0:
            raise ValueError("keep_ms and skew_ms must not be negative: a particle's row must outlive the particle")
        self._known.forget(now_ms - skew_ms)
        end_ms = now_ms - max(keep_ms, skew_ms)

        def work(connection: Connection) -> Purged:
            began = time.perf_counter()
            rows = connection.execute(_EXPIRED, {"end": end_ms, "most": limit}).all()
            if not rows:
                return Purged(0, 0, 0.0)
            connection.execute(_FORGET, {"keys": [row.key for row in rows]})
            connection.execute(_FORGET_SCRIPTS, {"hashes": list({row.script_hash for row in rows})})
            took = 0.0 if self._database.inline else time.perf_counter() - began
            return Purged(len(rows), end_ms - rows[0].deadline_ms, took)

        return await self._database.write(work)

    async def _summaries(self, query: Select[Any], limit: int) -> list[ParticleSummary]:
        query = query.order_by(particles.c.received_at_ms.desc(), particles.c.key).limit(limit)
        return await self._database.read(lambda connection: [summary_of(row) for row in connection.execute(query)])
