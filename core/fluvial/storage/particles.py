"""What a peer has accepted, what became of it, and to whom it must still be handed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, bindparam, func, literal_column, select

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.database import SharedDatabase
from fluvial.storage.holdings import LARGE_BYTES, Holdings
from fluvial.storage.particle_rows import outbox_row_of, particle_of, summary_of
from fluvial.storage.particle_tables import journal, outbox, particles, replay_guards, scripts, stories
from fluvial.storage.particle_writes import (
    addition,
    admission,
    check_entries,
    delivery,
    entries_bytes,
    failure,
    particle_bytes,
    script_bytes,
)
from fluvial.storage.removal import contents
from fluvial.storage.retention import Retention
from fluvial.stored import Admission, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import plain_text

LISTED_MAX: Final = 100
"""Summaries in a list, unless asked otherwise."""

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
_SUMMARY: Final = select(
    *particles.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    select(func.count()).where(outbox.c.key == particles.c.key).scalar_subquery().label("waiting"),
)
_STORY_SUMMARY: Final = select(
    *stories.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    literal_column("0").label("waiting"),
)


class ParticleStore:
    """The table group of particles. Every method is one transaction; those that write return after it is committed.

    Any method raises ``StorageError`` if the database fails.

    Attributes:
        account: whose bytes are whose.
        retention: removes what is not needed any more.
    """

    def __init__(self, database: SharedDatabase) -> None:
        self._database = database
        self._holdings = holdings = Holdings()
        self.account: Final = holdings.account
        self.retention: Final = Retention(database, holdings)

    def knows(self, particle: Particle) -> bool:
        """Whether the particle was perhaps admitted; asks no database. False is certain, if its time is not over.

        True until :meth:`remember` has been called.
        """
        return self._holdings.known.has(particle.key, particle.deadline_ms)

    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """Read which particles are here, so that :meth:`knows` can tell; once, at the start.

        Args:
            now_ms: milliseconds since 1970.
            skew_ms: how far clocks may be apart; what is over for longer is not remembered.
        """
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
        self._holdings.known.add(particle.key, particle.deadline_ms)
        wanted = tuple(dict.fromkeys(peers))
        write = admission(
            particle, sender=sender, hops=hops, now_ms=now_ms, entries=entries, peers=wanted, finished=finished
        )
        added, script = entries_bytes(entries, len(wanted)), len(particle.script.encode())
        with self.account.reserved(added + particle_bytes(particle) + script_bytes(script)):
            written = await self._database.write(write)
        self._holdings.wrote(particle.key, written, added=added, script=script, finished=finished)
        return Admission(written.is_new, written.version)

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
        added = entries_bytes(entries, len(wanted))
        with self.account.reserved(added):
            written = await self._database.write(
                addition(key, now_ms=now_ms, entries=entries, peers=wanted, finished=finished)
            )
        self._holdings.wrote(key, written, added=added, finished=finished)
        return written.version

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

        def work(connection: Connection) -> str | None:
            return connection.scalar(_STATE, {"of": key}) or connection.scalar(_STORY_STATE, {"of": key})

        state = await self._database.read(work)
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
        return await self._summaries(limit, lambda table: [table.c.id >= low, table.c.id <= high])

    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """The particles received last, newest first."""
        return await self._summaries(limit, lambda _: [])

    async def story(self, key: ParticleKey) -> bytes | None:
        """What was told of a particle that was shrunk (``Retention.shrink``); None if there is none."""
        return await self._database.read(lambda connection: connection.scalar(_STORY, {"of": key}))

    async def is_spent(self, key: ParticleKey) -> bool:
        """Whether the particle was here, and all that is left is what keeps it from being run again."""
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
