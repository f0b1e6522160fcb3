"""Writes what a commit of a session asks for: one transaction, for which the initiator's part of the disk is asked; and reports what cannot be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from logging import WARNING
from typing import Final

from fluvial.errors import ResourceLimit
from fluvial.fairness import Payer
from fluvial.particle import Particle
from fluvial.particles.context import ActorContext
from fluvial.particles.session import ParticlePhase, ParticleSession
from fluvial.particles.session_outputs import Writes
from fluvial.storage.account import entries_bytes, particle_bytes, script_bytes
from fluvial.stored import JournalEntry, OutboxRow

IMPOSSIBLE_REPORTED_MAX: Final = 8
"""Names that are no peer ids of which the initiator is told after one run."""


async def store_writes(
    writes: Writes, entries: Sequence[JournalEntry], session: ParticleSession, context: ActorContext
) -> int:
    """The version of the outbox rows, when all of it is durable.

    Args:
        writes: what the session asks for.
        entries: its journal entries.
        session: the session.
        context: has the store.

    Raises:
        Refused: ``quota``, there is no room for it; ``busy``, the session is broken, or it is new, and those who brought it have enough in line for a
            peer that it goes to.
        StorageError: it could not be stored.
    """
    session.check()
    store, particle, is_new = context.store, session.particle, session.phase is ParticlePhase.NEW
    more = entries_bytes(entries, len(writes.peers))
    size = more + particle_bytes(particle) + script_bytes(len(particle.script)) if is_new else more
    if is_new and session.upstream.sender != context.keys.peer_id:
        context.outbox.check_room(writes.peers, session.upstream)
    context.quota.spend(particle, session.upstream, size, journal=session.journal_bytes + more)
    session.journal_bytes += more
    if not is_new:
        return await store.record(
            particle.key,
            now_ms=writes.at_ms,
            entries=entries,
            peers=writes.peers,
            finished=writes.finished,
            stays=writes.finished == session.finished,
        )
    admission = await store.admit(
        particle,
        sender=session.upstream.sender,
        hops=session.hops,
        now_ms=writes.at_ms,
        entries=entries,
        peers=writes.peers,
        finished=writes.finished,
    )
    return admission.version


def report_undeliverable(writes: Writes, particle: Particle, context: ActorContext, *, payer: Payer) -> None:
    """Tell the log and the initiator of peers to which the particle cannot go from here."""
    if writes.lost:
        error = "this is no peer id"
        context.throttled.note(
            "delivery_impossible", "name", level=WARNING, particle=particle.id, to=writes.lost[0], error=error
        )
    for lost in writes.lost[:IMPOSSIBLE_REPORTED_MAX]:
        context.reporter.impossible(particle, payer, lost)
    if writes.beyond:
        limit = context.limits.destinations_max
        why = f"a particle is sent to at most {limit} peers from here; it does not go to {writes.beyond} more"
        context.throttled.note("delivery_impossible", "too_many", level=WARNING, particle=particle.id, error=why)
        beyond = ResourceLimit(why, hint="see `[particles] destinations_max`")
        context.reporter.broken(particle, payer, beyond)


def outbox_rows(writes: Writes, version: int, session: ParticleSession) -> Iterator[OutboxRow]:
    """What the outbox has of deliveries that were just written."""
    particle = session.particle
    for peer in writes.peers:
        yield OutboxRow(
            key=particle.key,
            peer=peer,
            version=version,
            since_ms=writes.at_ms,
            attempts=0,
            last_error="",
            deadline_ms=particle.deadline_ms,
            initiator=particle.initiator,
            sender=session.upstream.sender,
        )
