"""What is written for every particle, as direct writes (``direct.py``): admission, journal and outbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.particle import ID_CHARACTERS_MAX, Particle, ParticleKey
from fluvial.prepared import Parameters, Statement
from fluvial.storage.account import particle_bytes
from fluvial.storage.direct import DirectWrite, Result, Step
from fluvial.storage.entries import ERROR_CHARACTERS_MAX, not_here, not_next
from fluvial.storage.holdings import Written
from fluvial.storage.kept import PARTICLES
from fluvial.storage.ways import told
from fluvial.stored import HandOver, JournalEntry, ParticleState
from fluvial.tables import plain_text

_ADD_SCRIPT: Final = PARTICLES["add_script"]
_ADD_PARTICLE: Final = PARTICLES["add_particle"]
_ADMIT: Final = PARTICLES["admit"]
_ADD_ENTRY: Final = PARTICLES["add_entry"]
_TOUCH: Final = PARTICLES["touch"]
_ADVANCE: Final = PARTICLES["advance"]
_ADVANCE_AS_IT_IS: Final = PARTICLES["advance_as_it_is"]
_LENGTH: Final = PARTICLES["length"]
_AS_IT_IS: Final = PARTICLES["as_it_is"]
_REQUEST: Final = PARTICLES["request"]
_DELIVERED: Final = PARTICLES["delivered"]
_TRIED: Final = PARTICLES["tried"]
_FAILED: Final = PARTICLES["failed"]
_WAY: Final = PARTICLES["way"]

_FIRST_REVISION: Final = 1
"""Of a particle that was not here; one that was has a later one when something is added."""


def admission(
    particle: Particle,
    *,
    sender: PeerId,
    hops: int,
    now_ms: int,
    entries: Sequence[JournalEntry],
    peers: Sequence[PeerId],
    finished: bool,
    added: int,
) -> DirectWrite[Written]:
    """See ``ParticleStore.admit``; entries and peers take ``added`` bytes in the account."""
    initiator = particle.header.initiator
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
        "revision": _FIRST_REVISION,
        "initiator": initiator,
        "bytes": particle_bytes(particle),
    }
    script = particle.script.encode()
    add_script: Step = (_ADD_SCRIPT, {"hash": particle.header.script_hash, "text": script, "initiator": initiator})
    steps, finish = _first(particle.key, row, entries, peers, now_ms, finished=finished, added=added)
    size = len(script) + sum(len(entry.payload) for entry in entries)
    return DirectWrite([add_script, *steps], finish, _blame(particle.key, entries, missing=0), size)


def _first(
    key: ParticleKey,
    row: Mapping[str, Any],
    entries: Sequence[JournalEntry],
    peers: Sequence[PeerId],
    now_ms: int,
    *,
    finished: bool,
    added: int,
) -> tuple[list[Step], Callable[[Sequence[Result]], Written]]:
    """The steps of an admission after its script, and what comes of their results."""
    if (entries or peers or finished) and (not entries or entries[0].seq == 0):
        # What every new particle needs: one statement for its row.
        grown = {
            "state": _state(finished),
            "entries": len(entries),
            "bytes": row["bytes"] + added,
        }
        steps = [(_ADMIT, {**row, **grown, "more": added}), *_contents(key, entries, peers, now_ms)]

        def admitted(results: Sequence[Result]) -> Written:
            version, of, size, deadline_ms = results[1]
            is_new, new_script = version == _FIRST_REVISION, bool(results[0])
            return Written(version, of, size, deadline_ms, is_new=is_new, new_script=new_script)

        return steps, admitted
    steps = [(_ADD_PARTICLE, row)]
    if entries:
        steps += _appending(key, entries, peers, now_ms, finished=finished, added=added)
    else:
        steps.append((_AS_IT_IS, {"of": key}))

    def was_added(results: Sequence[Result]) -> Written:
        version, of, size, deadline_ms = results[2]
        is_new, new_script = results[1] is not None, bool(results[0])
        return Written(version, of, size, deadline_ms, is_new=is_new, new_script=new_script)

    return steps, was_added


_LIVE: Final = ParticleState.LIVE.value
_FINISHED: Final = ParticleState.FINISHED.value


def _state(finished: bool) -> str:
    return _FINISHED if finished else _LIVE


def addition(
    key: ParticleKey,
    *,
    now_ms: int,
    entries: Sequence[JournalEntry],
    peers: Sequence[PeerId],
    finished: bool,
    stays: bool,
    added: int,
) -> DirectWrite[Written]:
    """See ``ParticleStore.record``; entries and peers take ``added`` bytes in the account."""

    def finish(results: Sequence[Result]) -> Written:
        if results[0] is None:
            raise not_here(key)
        return Written(*results[0])

    steps = _appending(key, entries, peers, now_ms, finished=finished, stays=stays, added=added)
    size = sum(len(entry.payload) for entry in entries)
    return DirectWrite(steps, finish, _blame(key, entries, missing=None), size)


def delivery(
    key: ParticleKey, peer: PeerId, version: int, handed: HandOver | None, *, failed: bool
) -> DirectWrite[None]:
    """See ``ParticleStore.delivered``."""
    row = {"of": key, "to": str(peer)}
    steps: list[Step] = [(_DELIVERED, {**row, "up_to": version})]
    if failed:  # if it was asked for again, the failures before this success say nothing about the next attempt
        steps.append((_TRIED, {**row, "tries": 0, "why": ""}))
    if handed is not None:
        steps.append((_WAY, {**row, "told": told(handed)}))
    return DirectWrite(steps, lambda _: None)


def failure(key: ParticleKey, peer: PeerId, error: str) -> DirectWrite[None]:
    """See ``ParticleStore.attempt_failed``."""
    row = {"of": key, "to": str(peer), "why": plain_text(error, ERROR_CHARACTERS_MAX)}
    return DirectWrite([(_FAILED, row)], lambda _: None)


def _appending(
    key: ParticleKey,
    entries: Sequence[JournalEntry],
    peers: Sequence[PeerId],
    now_ms: int,
    *,
    finished: bool,
    added: int,
    stays: bool = False,
) -> list[Step]:
    """Append entries and outbox rows and set the state, unless it stays as it is; the first step returns the new revision.

    The counter in the particle's row decides whether the entries come next; its update locks the row, so that this holds even
    between several writers.
    """
    change: dict[str, Any] = {"of": key, "count": len(entries), "more": added}
    statement = _TOUCH
    if entries:
        change["first"] = entries[0].seq
        statement = _ADVANCE_AS_IT_IS if stays else _ADVANCE
    if statement is not _ADVANCE_AS_IT_IS:
        change["to"] = _state(finished)
    return [(statement, change), *_contents(key, entries, peers, now_ms)]


def _contents(key: ParticleKey, entries: Sequence[JournalEntry], peers: Sequence[PeerId], now_ms: int) -> list[Step]:
    """The rows of journal and outbox."""
    steps: list[Step] = []
    if entries:
        rows = [{"key": key, "seq": e.seq, "at_ms": e.at_ms, "kind": e.kind, "payload": e.payload} for e in entries]
        steps.append((_ADD_ENTRY, rows if len(rows) > 1 else rows[0]))
    if peers:
        waiting = [
            {"key": key, "of": key, "peer": str(peer), "since_ms": now_ms, "attempts": 0, "last_error": ""}
            for peer in peers
        ]
        steps.append((_REQUEST, waiting if len(waiting) > 1 else waiting[0]))
    return steps


def _blame(
    key: ParticleKey, entries: Sequence[JournalEntry], *, missing: int | None
) -> tuple[Statement, Parameters, Callable[[Result], Exception | None]]:
    """What to say when a step was refused; ``missing`` is the length of the journal of a particle that is not here."""

    def say(row: Result) -> Exception | None:
        length = missing if row is None else row[0]
        if length is None:
            return not_here(key)
        if not entries or entries[0].seq == length:
            return None
        return not_next(key, entries[0].seq, length)

    return _LENGTH, {"of": key}, say
