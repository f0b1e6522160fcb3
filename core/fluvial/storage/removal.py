"""What is removed from the store, and what is left of it; functions of a transaction.

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

from fluvial.particle import ParticleKey
from fluvial.prepared import Transaction
from fluvial.storage.account import GUARD_BYTES, NOBODY, STORY_BYTES, row_bytes, script_bytes
from fluvial.storage.holdings import Place, Removed
from fluvial.storage.kept import PARTICLES

_DEAD: Final = PARTICLES["dead"]
_TIED: Final = PARTICLES["tied"]
_LATER: Final = PARTICLES["later"]
_ENDED: Final = PARTICLES["ended"]
_OLD_STORIES: Final = PARTICLES["old_stories"]
_FORGET: Final = PARTICLES["forget"]
_FORGET_SCRIPTS: Final = PARTICLES["forget_scripts"]
_FORGET_STORIES: Final = PARTICLES["forget_stories"]
_FORGET_GUARDS: Final = PARTICLES["forget_guards"]
_ADD_GUARD: Final = PARTICLES["add_guard"]
_ADD_STORY: Final = PARTICLES["add_story"]
_BYTES: Final = (PARTICLES["bytes"], PARTICLES["story_bytes"])
_SCRIPT_BYTES: Final = PARTICLES["script_bytes"]
_GUARDS: Final = PARTICLES["guards"]


LOOKED_AT_MAX: Final = 500
"""So many particles whose time is not over one step looks at beside as many as it may remove: the others who write wait meanwhile."""


def forget(transaction: Transaction, *, end_ms: int, guarded_ms: int, most: int, bytes_most: int) -> Removed:
    """Remove what died before a time, the oldest first.

    Args:
        transaction: of a write.
        end_ms: when; milliseconds since 1970.
        guarded_ms: guards of particles that died before this are not needed.
        most: how many.
        bytes_most: stops when so many are free.
    """
    began, removed = time.perf_counter(), Removed()
    bounds = {"end": end_ms, "most": most}
    rows = _first(transaction.rows(_DEAD, bounds), bytes_most)
    told = _first(transaction.rows(_OLD_STORIES, {**bounds, "end": end_ms - 1}), bytes_most)
    _remove(transaction, rows, removed)
    _remove_stories(transaction, told, removed)
    gone = transaction.change(_FORGET_GUARDS, {"end": guarded_ms, "most": most})
    removed.change.append((NOBODY, -gone * GUARD_BYTES))
    if oldest := [found[0].deadline_ms for found in (rows, told) if found]:
        removed.oldest_ms = end_ms - min(oldest)
    removed.work_s = time.perf_counter() - began
    return removed


def make_room(
    transaction: Transaction,
    *,
    now_ms: int,
    guarded_ms: int,
    most: int,
    bytes_most: int,
    since: Place | None = None,
) -> Removed:
    """Remove what has ended, the oldest first, whether or not it is old; guards are left where they are needed.

    Args:
        transaction: of a write.
        now_ms: milliseconds since 1970.
        guarded_ms: particles that died before this need no guard.
        most: how many.
        bytes_most: stops when so many are free.
        since: where the step before has come to; None: begin with the oldest.
    """
    began, removed = time.perf_counter(), Removed()
    dead = transaction.rows(_DEAD, {"end": now_ms, "most": most})
    seen, more = _look(transaction, now_ms, since, most - len(dead)) if len(dead) < most else ([], False)
    ended = [row for row in seen if row.ended]
    rows = _first([*dead, *ended[: most - len(dead)]], bytes_most)
    if len(rows) < len(dead) + len(ended):
        removed.reached = _place(rows[-1]) if len(rows) > len(dead) else since
    elif more:
        removed.reached = _place(seen[-1])
    newest = rows[-1].deadline_ms if rows else seen[-1].deadline_ms if removed.reached else now_ms + 2**40
    told = _first(transaction.rows(_OLD_STORIES, {"end": newest, "most": most}), bytes_most)
    _remove(transaction, rows, removed)
    _remove_stories(transaction, told, removed)
    _guard(transaction, [row for row in rows if row.deadline_ms >= guarded_ms], removed)
    removed.work_s = time.perf_counter() - began
    return removed


def shrink(transaction: Transaction, key: ParticleKey, story: bytes, *, now_ms: int, guarded_ms: int) -> Removed:
    """Put a story in the place of a particle; nothing happens if something is left to do for it.

    Args:
        transaction: of a write.
        key: the particle.
        story: its story.
        now_ms: milliseconds since 1970.
        guarded_ms: a particle that died before this needs no guard.
    """
    removed = Removed()
    row = transaction.row(_ENDED, {"of": key, "end": now_ms})
    if row is None:
        return removed
    _remove(transaction, [row], removed)
    _guard(transaction, [row] if row.deadline_ms >= guarded_ms else [], removed)
    size = row_bytes(len(story) + len(row.header), STORY_BYTES)
    if transaction.row(_ADD_STORY, {**row._asdict(), "bytes": size, "story": story}) is not None:  # else it lived twice
        removed.change.append((row.initiator, size))
    return removed


def _look(transaction: Transaction, now_ms: int, since: Place | None, wanted: int) -> tuple[list[Any], bool]:
    """Particles whose time is not over, from a place on, until so many of them have ended or enough were looked at; and whether there may be more."""
    seen: list[Any] = []
    for most in (wanted, LOOKED_AT_MAX):  # most often the oldest have ended, and more need not be looked at
        part = _unexpired(transaction, now_ms, _place(seen[-1]) if seen else since, most)
        seen += part
        if len(part) < most:
            return seen, False
        if sum(bool(row.ended) for row in seen) >= wanted:
            break
    return seen, True


def _unexpired(transaction: Transaction, now_ms: int, since: Place | None, most: int) -> list[Any]:
    """Particles whose time is not over, from a place on."""
    found: list[Any] = []
    deadline_ms = now_ms - 1
    if since is not None and since[0] > deadline_ms:
        deadline_ms = since[0]
        found = transaction.rows(_TIED, {"since": deadline_ms, "after": since[1], "most": most})
    if len(found) < most:
        found += transaction.rows(_LATER, {"since": deadline_ms, "most": most - len(found)})
    return found


def _place(row: Any) -> Place:
    return row.deadline_ms, row.place


def _first(rows: Sequence[Any], bytes_most: int) -> list[Any]:
    """Rows from the beginning, one at least, until they come to so many bytes."""
    taken: list[Any] = []
    size = 0
    for row in rows:
        if taken and size > bytes_most:
            break
        taken.append(row)
        size += row.size
    return taken


def _remove(transaction: Transaction, rows: Sequence[Any], removed: Removed) -> None:
    """Remove particles with journal and outbox, and the scripts that nobody else needs."""
    if not rows:
        return
    transaction.change(_FORGET, {"keys": [row.key for row in rows]})
    unused = transaction.rows(_FORGET_SCRIPTS, {"hashes": list({row.script_hash for row in rows})})
    removed.change += [(initiator, -script_bytes(size)) for initiator, size in unused]
    removed.change += [(row.initiator, -row.bytes) for row in rows]
    removed.keys += [ParticleKey(row.key) for row in rows]
    removed.count += len(rows)


def _remove_stories(transaction: Transaction, rows: Sequence[Any], removed: Removed) -> None:
    if not rows:
        return
    transaction.change(_FORGET_STORIES, {"keys": [row.key for row in rows]})
    removed.change += [(row.initiator, -row.bytes) for row in rows]
    removed.count += len(rows)


def _guard(transaction: Transaction, rows: Iterable[Any], removed: Removed) -> None:
    found = [{"key": row.key, "deadline_ms": row.deadline_ms} for row in rows]
    if found:
        transaction.change(_ADD_GUARD, found)
        removed.change.append((NOBODY, len(found) * GUARD_BYTES))


def contents(transaction: Transaction) -> list[tuple[bytes, int]]:
    """Who has how many bytes here; reads all rows once."""
    found = [(bytes(initiator), int(size)) for query in _BYTES for initiator, size in transaction.each(query)]
    found += [(bytes(initiator), script_bytes(size)) for initiator, size in transaction.each(_SCRIPT_BYTES)]
    return [*found, (NOBODY, (transaction.value(_GUARDS) or 0) * GUARD_BYTES)]
