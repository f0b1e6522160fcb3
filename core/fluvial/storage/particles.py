"""What a peer has accepted, what became of it, and to whom it must still be handed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, exists, func, insert, select, update

from fluvial.encoding import encode
from fluvial.errors import ResourceLimit, StorageError
from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.storage.database import SharedDatabase
from fluvial.storage.particle_rows import outbox_row_of, particle_of, summary_of
from fluvial.storage.particle_tables import journal, outbox, particles, scripts
from fluvial.stored import Admission, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import per_dialect, plain_text

if TYPE_CHECKING:
    from fluvial.tables import Insert

KIND_CHARACTERS_MAX: Final = 32
PAYLOAD_BYTES_MAX: Final = 64 * 2**20
"""Of one journal entry; far above a frame, so that nothing that arrived can fail to be stored."""

ERROR_CHARACTERS_MAX: Final = 500
"""Of an outbox row's last error; the rest is cut off."""

LISTED_MAX: Final = 100
"""Summaries in a list, unless asked otherwise."""

PURGED_MAX: Final = 500
"""Particles removed in one transaction, so that others need not wait long for it."""

# Statements are built once: building one takes longer than running it.
_ADD_SCRIPT: Final = per_dialect(lambda insert: insert(scripts).on_conflict_do_nothing())
_ADD_PARTICLE: Final = per_dialect(
    lambda insert: insert(particles).on_conflict_do_nothing().returning(particles.c.revision)  # of a new one
)
_ADD_ENTRY: Final = insert(journal)
_TOUCH: Final = (
    update(particles)
    .where(particles.c.key == bindparam("of"))
    .values(
        state=bindparam("to"),
        entries=particles.c.entries + bindparam("count"),
        revision=particles.c.revision + 1,
    )
    .returning(particles.c.revision)
)
_ADVANCE: Final = _TOUCH.where(particles.c.entries == bindparam("first"))
_STATE: Final = select(particles.c.state).where(particles.c.key == bindparam("of"))
_WAITING: Final = select(outbox, particles.c.deadline_ms).join(particles)
_SUMMARY: Final = select(
    *particles.c["key", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries"],
    select(func.count()).where(outbox.c.key == particles.c.key).scalar_subquery().label("waiting"),
)


def _raise_version(request: Insert) -> Insert:
    return request.on_conflict_do_update(index_elements=["key", "peer"], set_={"version": request.excluded.version})


_REQUEST: Final = per_dialect(lambda insert: _raise_version(insert(outbox).values(attempts=0, last_error="")))


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

        Raises:
            StorageError: the entries do not follow the journal's last one.
            ResourceLimit: an entry is too large.
        """
        _check_entries(entries)
        wanted = tuple(dict.fromkeys(peers))

        def work(connection: Connection) -> Admission:
            is_new = _insert_particle(connection, particle, sender, hops, now_ms)
            if not is_new and not entries and not wanted:
                return Admission(is_new, _require(connection, particle.key).revision)
            return Admission(is_new, _append(connection, particle.key, entries, wanted, now_ms, ParticleState.LIVE))

        return await self._database.write(work)

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
        _check_entries(entries)
        wanted = tuple(dict.fromkeys(peers))
        state = ParticleState.FINISHED if finished else ParticleState.LIVE
        return await self._database.write(lambda connection: _append(connection, key, entries, wanted, now_ms, state))

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
        row = (outbox.c.key == key) & (outbox.c.peer == str(peer))

        def work(connection: Connection) -> bool:
            if connection.execute(delete(outbox).where(row, outbox.c.version <= version)).rowcount:
                return True
            # Asked for again, or gone already. The failures before this success say nothing about the next attempt.
            return not connection.execute(update(outbox).where(row).values(attempts=0, last_error="")).rowcount

        return await self._database.write(work)

    async def attempt_failed(self, key: ParticleKey, peer: PeerId, error: str) -> None:
        """Handing a particle to a peer failed; its row, if there is one, waits on. A long ``error`` is cut."""
        change = (
            update(outbox)
            .where(outbox.c.key == key, outbox.c.peer == str(peer))
            .values(attempts=outbox.c.attempts + 1, last_error=plain_text(error, ERROR_CHARACTERS_MAX))
        )
        await self._database.write(lambda connection: connection.execute(change))

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


# --- writing ----------------------------------------------------------------------------------------------------------


def _check_entries(entries: Sequence[JournalEntry]) -> None:
    for offset, entry in enumerate(entries):
        if entry.seq != entries[0].seq + offset:
            raise StorageError(
                f"journal entry {entry.seq} does not follow {entries[offset - 1].seq}",
                hint="this is a bug of the caller",
            )
        if len(entry.payload) > PAYLOAD_BYTES_MAX or len(entry.kind) > KIND_CHARACTERS_MAX:
            raise ResourceLimit(
                f"journal entry {entry.seq} is too large: {len(entry.payload)} bytes, kind of {len(entry.kind)} characters",
                hint=f"{PAYLOAD_BYTES_MAX} bytes and {KIND_CHARACTERS_MAX} characters are allowed",
            )


def _insert_particle(connection: Connection, particle: Particle, sender: PeerId, hops: int, now_ms: int) -> bool:
    """Insert script and particle unless they are there; returns whether the particle is new."""
    script = {"hash": particle.header.script_hash, "text": particle.script.encode()}
    connection.execute(_ADD_SCRIPT[connection.dialect.name], script)
    row = {
        "key": particle.key,
        "id": plain_text(particle.id, ID_CHARACTERS_MAX),
        "header": encode(particle.header),
        "signature": particle.signature,
        "script_hash": particle.header.script_hash,
        "deadline_ms": particle.deadline_ms,
        "received_at_ms": now_ms,
        "sender": str(sender),
        "hops": hops,
        "state": ParticleState.LIVE.value,
        "entries": 0,
        "revision": 0,
    }
    return connection.scalar(_ADD_PARTICLE[connection.dialect.name], row) is not None


def _append(
    connection: Connection,
    key: ParticleKey,
    entries: Sequence[JournalEntry],
    peers: Sequence[PeerId],
    now_ms: int,
    state: ParticleState,
) -> int:
    """Append entries and outbox rows and set the state; returns the new revision.

    The counter in the particle's row decides whether the entries come next; its update locks the row, so that this holds even
    between several writers.
    """
    change = {"of": key, "count": len(entries), "to": state.value}
    if entries:
        revision = connection.scalar(_ADVANCE, {**change, "first": entries[0].seq})
    else:
        revision = connection.scalar(_TOUCH, change)
    if revision is None:
        row = _require(connection, key)
        raise StorageError(
            f"particle {key.hex()}: journal entry {entries[0].seq} does not follow: {row.entries} comes next",
            hint="two writers for one particle, or a bug of the caller",
        )
    if entries:
        rows = [{"key": key, "seq": e.seq, "at_ms": e.at_ms, "kind": e.kind, "payload": e.payload} for e in entries]
        connection.execute(_ADD_ENTRY, rows)
    if peers:
        rows = [{"key": key, "peer": str(peer), "version": revision, "since_ms": now_ms} for peer in peers]
        connection.execute(_REQUEST[connection.dialect.name], rows)
    return int(revision)


def _require(connection: Connection, key: ParticleKey) -> Row[Any]:
    row = connection.execute(select(*particles.c["entries", "revision"]).where(particles.c.key == key)).one_or_none()
    if row is None:
        raise StorageError(f"particle {key.hex()} is not here", hint="admit it before recording anything about it")
    return row
