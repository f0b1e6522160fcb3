"""What is removed from the store, and what is left of it; functions of a connection, each a part of one transaction.

A particle that has ended goes through up to three states, each smaller than the one before:

1. whole: its row with journal and outbox, and its script;
2. its *story* (table ``stories``), if it was large: what ``fluvial particle show`` tells, told once and kept in place of all that;
3. its *replay guard* (table ``replay_guards``): its key alone, as long as its age is no reason to refuse it; so it is never run again.

Age takes it away from wherever it is; if there is no room, the oldest go to 3 before that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, delete, exists, func, insert, or_, select

from fluvial.particle import ParticleKey
from fluvial.storage.account import GUARD_BYTES, NOBODY, STORY_BYTES, row_bytes, script_bytes
from fluvial.storage.holdings import Removed
from fluvial.storage.particle_tables import outbox, particles, replay_guards, scripts, stories
from fluvial.stored import ParticleState
from fluvial.tables import per_dialect

_SCRIPT_BYTES: Final = (
    select(func.length(scripts.c.text)).where(scripts.c.hash == particles.c.script_hash).scalar_subquery()
)
_HEAD: Final[Select[Any]] = select(
    *particles.c["key", "script_hash", "deadline_ms", "initiator", "bytes"],
    (particles.c.bytes + _SCRIPT_BYTES).label("size"),
)
_BY_AGE: Final = particles.c.deadline_ms
_WAITS: Final = exists().where(outbox.c.key == particles.c.key)
_DEAD: Final = _HEAD.where(particles.c.deadline_ms < bindparam("end")).order_by(_BY_AGE).limit(bindparam("most"))
_FINISHED: Final = (
    _HEAD.where(particles.c.deadline_ms >= bindparam("end"), particles.c.state == ParticleState.FINISHED.value, ~_WAITS)
    .order_by(_BY_AGE)
    .limit(bindparam("most"))
)
_ENDED: Final = select(particles).where(
    particles.c.key == bindparam("of"),
    or_(particles.c.deadline_ms < bindparam("end"), (particles.c.state == ParticleState.FINISHED.value) & ~_WAITS),
)
_OLD_STORIES: Final[Select[Any]] = (
    select(*stories.c["key", "deadline_ms", "initiator", "bytes"], stories.c.bytes.label("size"))
    .where(stories.c.deadline_ms <= bindparam("end"))
    .order_by(stories.c.deadline_ms)
    .limit(bindparam("most"))
)
_FORGET: Final = delete(particles).where(particles.c.key.in_(bindparam("keys", expanding=True)))
_FORGET_SCRIPTS: Final = (
    delete(scripts)
    .where(
        scripts.c.hash.in_(bindparam("hashes", expanding=True)),
        ~exists().where(particles.c.script_hash == scripts.c.hash),
    )
    .returning(scripts.c.initiator, func.length(scripts.c.text))
)
_FORGET_STORIES: Final = delete(stories).where(stories.c.key.in_(bindparam("keys", expanding=True)))
_OLD_GUARDS: Final = (
    select(replay_guards.c.key)
    .where(replay_guards.c.deadline_ms < bindparam("end"))
    .limit(bindparam("most"))
    .scalar_subquery()
)
_FORGET_GUARDS: Final = delete(replay_guards).where(replay_guards.c.key.in_(_OLD_GUARDS))
_ADD_GUARD: Final = per_dialect(lambda insert: insert(replay_guards).on_conflict_do_nothing())


def forget(connection: Connection, *, end_ms: int, guarded_ms: int, most: int, bytes_most: int) -> Removed:
    """Remove what died before a time, the oldest first.

    Args:
        connection: in a transaction.
        end_ms: when; milliseconds since 1970.
        guarded_ms: guards of particles that died before this are not needed.
        most: how many.
        bytes_most: stops when so many are free.
    """
    began, removed = time.perf_counter(), Removed()
    bounds = {"end": end_ms, "most": most}
    rows = _first(connection.execute(_DEAD, bounds).all(), bytes_most)
    told = _first(connection.execute(_OLD_STORIES, {**bounds, "end": end_ms - 1}).all(), bytes_most)
    _remove(connection, rows, removed)
    _remove_stories(connection, told, removed)
    gone = connection.execute(_FORGET_GUARDS, {"end": guarded_ms, "most": most}).rowcount
    removed.change.append((NOBODY, -gone * GUARD_BYTES))
    if oldest := [found[0].deadline_ms for found in (rows, told) if found]:
        removed.oldest_ms = end_ms - min(oldest)
    removed.work_s = time.perf_counter() - began
    return removed


def make_room(connection: Connection, *, now_ms: int, guarded_ms: int, most: int, bytes_most: int) -> Removed:
    """Remove what has ended, the oldest first, whether or not it is old; guards are left where they are needed.

    Args:
        connection: in a transaction.
        now_ms: milliseconds since 1970.
        guarded_ms: particles that died before this need no guard.
        most: how many.
        bytes_most: stops when so many are free.
    """
    began, removed = time.perf_counter(), Removed()
    rows = list(connection.execute(_DEAD, {"end": now_ms, "most": most}))
    if len(rows) < most:
        rows += connection.execute(_FINISHED, {"end": now_ms, "most": most - len(rows)})
    rows = _first(rows, bytes_most)
    newest = rows[-1].deadline_ms if rows else now_ms + 2**40
    told = _first(connection.execute(_OLD_STORIES, {"end": newest, "most": most}).all(), bytes_most)
    _remove(connection, rows, removed)
    _remove_stories(connection, told, removed)
    _guard(connection, [row for row in rows if row.deadline_ms >= guarded_ms], removed)
    removed.work_s = time.perf_counter() - began
    return removed


def shrink(connection: Connection, key: ParticleKey, story: bytes, *, now_ms: int, guarded_ms: int) -> Removed:
    """Put a story in the place of a particle; nothing happens if something is left to do for it.

    Args:
        connection: in a transaction.
        key: the particle.
        story: its story.
        now_ms: milliseconds since 1970.
        guarded_ms: a particle that died before this needs no guard.
    """
    removed = Removed()
    row = connection.execute(_ENDED, {"of": key, "end": now_ms}).one_or_none()
    if row is None:
        return removed
    _remove(connection, [row], removed)
    _guard(connection, [row] if row.deadline_ms >= guarded_ms else [], removed)
    size = row_bytes(len(story) + len(row.header), STORY_BYTES)
    kept = {name: value for name, value in row._mapping.items() if name in stories.c}
    connection.execute(insert(stories), {**kept, "bytes": size, "story": story})
    removed.change.append((row.initiator, size))
    return removed


def _first(rows: Sequence[Row[Any]], bytes_most: int) -> list[Row[Any]]:
    """Rows from the beginning, one at least, until they come to so many bytes."""
    taken: list[Row[Any]] = []
    size = 0
    for row in rows:
        if taken and size > bytes_most:
            break
        taken.append(row)
        size += row.size
    return taken


def _remove(connection: Connection, rows: Sequence[Row[Any]], removed: Removed) -> None:
    """Remove particles with journal and outbox, and the scripts that nobody else needs."""
    if not rows:
        return
    connection.execute(_FORGET, {"keys": [row.key for row in rows]})
    unused = connection.execute(_FORGET_SCRIPTS, {"hashes": list({row.script_hash for row in rows})})
    removed.change += [(initiator, -script_bytes(size)) for initiator, size in unused]
    removed.change += [(row.initiator, -row.bytes) for row in rows]
    removed.keys += [ParticleKey(row.key) for row in rows]
    removed.count += len(rows)


def _remove_stories(connection: Connection, rows: Sequence[Row[Any]], removed: Removed) -> None:
    if not rows:
        return
    connection.execute(_FORGET_STORIES, {"keys": [row.key for row in rows]})
    removed.change += [(row.initiator, -row.bytes) for row in rows]
    removed.count += len(rows)


def _guard(connection: Connection, rows: Iterable[Row[Any]], removed: Removed) -> None:
    found = [{"key": row.key, "deadline_ms": row.deadline_ms} for row in rows]
    if found:
        connection.execute(_ADD_GUARD[connection.dialect.name], found)
        removed.change.append((NOBODY, len(found) * GUARD_BYTES))


def contents(connection: Connection) -> list[tuple[bytes, int]]:
    """Who has how many bytes here; reads all rows once."""
    found: list[tuple[bytes, int]] = []
    queries: list[Select[Any]] = [
        select(table.c.initiator, func.sum(table.c.bytes)).group_by(table.c.initiator) for table in (particles, stories)
    ]
    for query in queries:
        found += [(bytes(initiator), int(size)) for initiator, size in connection.execute(query)]
    texts = select(scripts.c.initiator, func.length(scripts.c.text))
    found += [(bytes(initiator), script_bytes(size)) for initiator, size in connection.execute(texts)]
    kept = connection.scalar(select(func.count()).select_from(replay_guards)) or 0
    return [*found, (NOBODY, kept * GUARD_BYTES)]
