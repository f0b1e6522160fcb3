"""What a peer keeps of particles, as values: the store makes them of rows, and code that only reads them needs no database."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey


class ParticleState(StrEnum):
    """Whether there is anything left to do for a particle on this peer."""

    LIVE = "live"
    FINISHED = "finished"


class JournalEntry(msgspec.Struct, frozen=True):
    """One thing that happened to a particle.

    Attributes:
        seq: its number: 0, 1, 2 … for each particle.
        at_ms: when, milliseconds since 1970.
        kind: a short word that says what the payload is.
        payload: bytes of whoever writes the journal.
    """

    seq: int
    at_ms: int
    kind: str
    payload: bytes


class OutboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """A particle that must be handed to a peer.

    Attributes:
        key: the particle.
        peer: who must get it.
        version: grows whenever it is asked for again; never used twice for a pair.
        since_ms: when it was first asked for, milliseconds since 1970.
        attempts: how often handing it over failed since it was last delivered.
        last_error: why it failed last; empty before that.
        deadline_ms: when the particle dies, milliseconds since 1970.
        initiator: whose it is.
        sender: who handed it over first.
    """

    key: ParticleKey
    peer: PeerId
    version: int
    since_ms: int
    attempts: int
    last_error: str
    deadline_ms: int
    initiator: PeerId
    sender: PeerId


class HandOver(msgspec.Struct, frozen=True):
    """How a particle got to a peer.

    Attributes:
        peer: who has taken it.
        at_ms: when, milliseconds since 1970.
        way: how the peer was found: ``connection``, ``known``, ``found`` or ``relay``.
        via: the addresses that were dialled, best first with commas between, or the relay's peer id; empty for an open connection.
    """

    peer: PeerId
    at_ms: int
    way: str
    via: str = ""


class Admission(msgspec.Struct, frozen=True):
    """What came of admitting a particle.

    Attributes:
        is_new: it was not here before.
        version: version of the outbox rows asked for along with it.
    """

    is_new: bool
    version: int


class StoredParticle(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored of a particle, in one snapshot.

    Attributes:
        particle: the immutable part.
        sender: who handed it to this peer first.
        hops: how many peers that copy had been handed to.
        received_at_ms: when that was, milliseconds since 1970.
        state: whether something is left to do.
        journal: what happened, in order.
        outbox: who must still be handed it.
    """

    particle: Particle
    sender: PeerId
    hops: int
    received_at_ms: int
    state: ParticleState
    journal: tuple[JournalEntry, ...]
    outbox: tuple[OutboxRow, ...]


class ParticleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A particle in a list.

    Attributes:
        key: names it.
        id: the initiator's name for it.
        initiator: who began it.
        sender: who handed it to this peer first.
        hops: how many peers that copy had been handed to.
        received_at_ms: when that was, milliseconds since 1970.
        deadline_ms: when it dies, milliseconds since 1970.
        state: whether something is left to do.
        entries: length of the journal.
        waiting: peers that must still be handed it.
    """

    key: ParticleKey
    id: str
    initiator: PeerId
    sender: PeerId
    hops: int
    received_at_ms: int
    deadline_ms: int
    state: ParticleState
    entries: int
    waiting: int
