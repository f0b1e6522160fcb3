"""What a peer has accepted, what became of it, and to whom it must still be handed; in a database or in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.storage.account import DiskAccount, entries_bytes, particle_bytes, script_bytes
from fluvial.storage.entries import check_entries
from fluvial.storage.holdings import Holdings, Written
from fluvial.storage.retention import Retention
from fluvial.stored import Admission, HandOver, JournalEntry, OutboxRow, ParticleState, ParticleSummary, StoredParticle

LISTED_MAX: Final = 100
"""Summaries in a list, unless asked otherwise."""


class ParticleStore(ABC):
    """The table group of particles.

    Every method is one transaction; those that write return after it is committed, except where they say that nobody waits. Any method raises ``StorageError`` if the database fails.

    Args:
        holdings: what is known by heart; filled by :meth:`remember`.
        retention: over the same.

    Attributes:
        account: whose bytes are whose.
        retention: removes what is not needed any more.
    """

    def __init__(self, holdings: Holdings, retention: Retention) -> None:
        self._holdings = holdings
        self.account: Final[DiskAccount] = holdings.account
        self.retention: Final = retention

    def knows(self, particle: Particle) -> bool:
        """Whether the particle was perhaps admitted; asks no database. False is certain, if its time is not over.

        True until :meth:`remember` has been called.
        """
        return self._holdings.known.has(particle.key, particle.deadline_ms)

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
        added, script = entries_bytes(entries, len(wanted)), len(particle.script.encode())
        reserved = added + particle_bytes(particle) + script_bytes(script)
        self.account.reserve(reserved)
        try:
            written = await self._admit(
                particle,
                sender=sender,
                hops=hops,
                now_ms=now_ms,
                entries=entries,
                peers=wanted,
                finished=finished,
                added=added,
            )
        finally:
            self.account.reserve(-reserved)
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
        stays: bool = False,
    ) -> int:
        """Append to a particle's journal and outbox, and say whether something is left to do: all of it or nothing.

        Args:
            key: the particle.
            now_ms: milliseconds since 1970.
            entries: what to append, numbered from the journal's end on.
            peers: who must be handed the particle; one who waits for it already waits on, under the new version.
            finished: whether nothing is left to do; False makes a finished particle live again.
            stays: the caller knows that ``finished`` is what is stored already: then it is not written.

        Returns:
            The version of the outbox rows of ``peers``.

        Raises:
            StorageError: the entries do not follow the journal's last one, or the particle is not here.
            ResourceLimit: an entry is too large.
        """
        check_entries(entries)
        wanted = tuple(dict.fromkeys(peers))
        added = entries_bytes(entries, len(wanted))
        self.account.reserve(added)
        try:
            written = await self._record(
                key, now_ms=now_ms, entries=entries, peers=wanted, finished=finished, stays=stays, added=added
            )
        finally:
            self.account.reserve(-added)
        self._holdings.wrote(key, written, added=added, finished=finished)
        return written.version

    @abstractmethod
    async def remember(self, now_ms: int, *, skew_ms: int) -> None:
        """Read which particles are here, so that :meth:`knows` can tell; once, at the start.

        Args:
            now_ms: milliseconds since 1970.
            skew_ms: how far clocks may be apart; what is over for longer is not remembered.
        """

    @abstractmethod
    async def load(self, key: ParticleKey) -> StoredParticle | None:
        """All that is stored of a particle; None if it is not here.

        Raises:
            DamagedParticle: the stored bytes are damaged.
        """

    @abstractmethod
    async def status(self, key: ParticleKey) -> ParticleState | None:
        """The state of a particle; None if it is not here (and was not within the time of the replay guard)."""

    @abstractmethod
    async def live(self, now_ms: int) -> dict[ParticleKey, tuple[PeerId, PeerId]]:
        """The particles with something left to do and time left to do it, oldest first, each with its initiator and sender: where to go on after a restart."""

    @abstractmethod
    async def outbox_rows(self, now_ms: int, *, peer: PeerId | None = None) -> list[OutboxRow]:
        """What must still be handed over and has not expired, oldest first; to all peers or to one."""

    @abstractmethod
    def delivered(
        self,
        key: ParticleKey,
        peer: PeerId,
        version: int,
        handed: HandOver | None = None,
        *,
        failed: bool = True,
    ) -> None:
        """A peer has got the particle as it was when its outbox row had this version; if it was asked for again meanwhile, a row waits on.

        Nobody waits for this: it is durable with the next write or a moment later. A peer that ends before delivers once more.

        Args:
            key: the particle.
            peer: who has it.
            version: of the outbox row.
            handed: how the peer was found, for the story; None if nothing had to be handed over.
            failed: whether :meth:`attempt_failed` was perhaps called for the row before.
        """

    @abstractmethod
    async def handed(self, key: ParticleKey) -> list[HandOver]:
        """How those who have the particle were found, in the order of the times; of many hand-overs to one peer the first ones."""

    @abstractmethod
    def attempt_failed(self, key: ParticleKey, peer: PeerId, error: str) -> None:
        """Handing a particle to a peer failed; its row, if there is one, waits on. A long ``error`` is cut. Durable as :meth:`delivered`."""

    @abstractmethod
    async def find(self, id_prefix: str, *, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """The particles whose id begins with a text, newest first. Ids are their initiators' words: two may have the same."""

    @abstractmethod
    async def recent(self, limit: int = LISTED_MAX) -> list[ParticleSummary]:
        """The particles received last, newest first."""

    @abstractmethod
    async def story(self, key: ParticleKey) -> bytes | None:
        """What was told of a particle that was shrunk (``Retention.shrink``); None if there is none."""

    @abstractmethod
    async def is_spent(self, key: ParticleKey) -> bool:
        """Whether the particle was here, and all that is left is what keeps it from being run again."""

    @abstractmethod
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
        """See :meth:`admit`; the entries follow each other, and take ``added`` bytes in the account, with the peers."""

    @abstractmethod
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
        """See :meth:`record`; for the rest as :meth:`_admit`."""
