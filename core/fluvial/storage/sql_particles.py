"""What a peer has accepted, what became of it, and to whom it must still be handed, in a database."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any, Final

from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.prepared import Parameters, Prepared, Statement, Transaction
from fluvial.storage.database import SharedDatabase
from fluvial.storage.holdings import Holdings, Written
from fluvial.storage.kept import PARTICLES
from fluvial.storage.particle_rows import initiator_of, outbox_row_of, particle_of, summary_of
from fluvial.storage.particle_writes import addition, admission, delivery, failure
from fluvial.storage.particles import LISTED_MAX, ParticleStore
from fluvial.storage.removal import contents
from fluvial.storage.sql_retention import SqlRetention
from fluvial.storage.ways import hand_overs
from fluvial.stored import HandOver, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle
from fluvial.tables import plain_text

_KEYS: Final = (PARTICLES["keys"], PARTICLES["guarded_keys"])
_LARGE: Final = PARTICLES["large"]
_LIVE: Final = PARTICLES["live"]
_STATES: Final = (PARTICLES["state"], PARTICLES["story_state"])
_LOAD: Final = PARTICLES["load"]
_JOURNAL: Final = PARTICLES["journal"]
_OUTBOX: Final = PARTICLES["outbox"]
_DUE: Final = PARTICLES["due"]
_DUE_TO: Final = PARTICLES["due_to"]
_WAYS: Final = PARTICLES["ways"]
_STORY: Final = PARTICLES["story"]
_GUARD: Final = PARTICLES["guard"]
_RECENT: Final = (PARTICLES["recent"], PARTICLES["recent_stories"])
_FOUND: Final = (PARTICLES["found"], PARTICLES["found_stories"])


class SqlParticles(ParticleStore):
    """See :class:`ParticleStore`.

    Args:
        database: the open database.
    """

    def __init__(self, database: SharedDatabase) -> None:
        holdings = Holdings()
        super().__init__(holdings, SqlRetention(database, holdings))
        self._database = database

    def _admit(
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
    ) -> Coroutine[Any, Any, Written]:
        return self._database.write(
            admission(
                particle,
                sender=sender,
                hops=hops,
                now_ms=now_ms,
                entries=entries,
                peers=peers,
                finished=finished,
                added=added,
            )
        )

    def _record(
        self,
        key: ParticleKey,
        *,
        now_ms: int,
        entries: Sequence[JournalEntry],
        peers: Sequence[PeerId],
        finished: bool,
        stays: bool,
        added: int,
    ) -> Coroutine[Any, Any, Written]:
        return self._database.write(
            addition(key, now_ms=now_ms, entries=entries, peers=peers, finished=finished, stays=stays, added=added)
        )

    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """See :class:`ParticleStore`."""
        since = {"since": now_ms - skew_ms}

        def work(transaction: Transaction) -> None:
            self._holdings.fill(
                keys=[(ParticleKey(key), at_ms) for query in _KEYS for key, at_ms in transaction.each(query, since)],
                large=[
                    (ParticleKey(key), initiator, deadline_ms, state == ParticleState.FINISHED.value)
                    for key, initiator, deadline_ms, state in transaction.each(_LARGE)
                ],
                rows=contents(transaction),
                since_ms=now_ms - skew_ms,
            )

        await self._database.read(Prepared(work))

    async def load(self, key: ParticleKey) -> StoredParticle | None:
        """See :class:`ParticleStore`."""
        return await self._database.read(Prepared(_loaded, key))

    async def status(self, key: ParticleKey) -> ParticleState | None:
        """See :class:`ParticleStore`."""

        def work(transaction: Transaction) -> str | None:
            found = (transaction.value(query, {"of": key}) for query in _STATES)
            return next(filter(None, found), None)

        state = await self._database.read(Prepared(work))
        return None if state is None else ParticleState(state)

    async def live(self, now_ms: int) -> dict[ParticleKey, tuple[PeerId, PeerId]]:
        """See :class:`ParticleStore`."""

        def work(transaction: Transaction) -> dict[ParticleKey, tuple[PeerId, PeerId]]:
            rows = transaction.each(_LIVE, {"now": now_ms})
            return {ParticleKey(row.key): (initiator_of(row), PeerId(row.sender)) for row in rows}

        return await self._database.read(Prepared(work))

    async def outbox_rows(self, now_ms: int, *, peer: PeerId | None = None) -> list[OutboxRow]:
        """See :class:`ParticleStore`."""

        def work(transaction: Transaction) -> list[OutboxRow]:
            now = {"now": now_ms}
            rows = transaction.each(_DUE, now) if peer is None else transaction.each(_DUE_TO, {**now, "to": str(peer)})
            return list(map(outbox_row_of, rows))

        return await self._database.read(Prepared(work))

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
        rows = await self._database.read(Prepared(lambda transaction: transaction.rows(_WAYS, {"of": key})))
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
        return await self._database.read(Prepared(_summaries, _FOUND, {"low": low, "high": high}, limit))

    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """See :class:`ParticleStore`."""
        return await self._database.read(Prepared(_summaries, _RECENT, {}, limit))

    async def story(self, key: ParticleKey) -> bytes | None:
        """See :class:`ParticleStore`."""
        return await self._database.read(Prepared(lambda transaction: transaction.value(_STORY, {"of": key})))

    async def is_spent(self, key: ParticleKey) -> bool:
        """See :class:`ParticleStore`."""
        found = await self._database.read(Prepared(lambda transaction: transaction.value(_GUARD, {"of": key})))
        return found is not None


def _loaded(transaction: Transaction, key: ParticleKey) -> StoredParticle | None:
    """All that is kept of a particle."""
    row = transaction.row(_LOAD, {"of": key})
    if row is None:
        return None
    entries = transaction.rows(_JOURNAL, {"of": key})
    waiting = transaction.rows(_OUTBOX, {"of": key})
    return StoredParticle(
        particle=particle_of(row),
        sender=PeerId(row.sender),
        hops=row.hops,
        received_at_ms=row.received_at_ms,
        state=ParticleState(row.state),
        journal=tuple(JournalEntry(*entry) for entry in entries),
        outbox=tuple(map(outbox_row_of, waiting)),
    )


def _summaries(
    transaction: Transaction, queries: Sequence[Statement], bounds: Parameters, limit: int
) -> list[ParticleSummary]:
    """Of particles and of those that are only stories now, newest first."""
    found = [summary_of(row) for query in queries for row in transaction.rows(query, {**bounds, "most": limit})]
    return sorted(found, key=lambda one: (-one.received_at_ms, one.key))[:limit]
