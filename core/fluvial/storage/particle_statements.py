"""All statements about particles, as SQLAlchemy has them; not imported by a peer on SQLite, which has their texts (``particle_statements.sql``).

``particle_writes.py`` (what every particle needs), ``sql_particles.py`` (what is read) and ``removal.py`` (what goes) ask for them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnClause,
    ColumnElement,
    Executable,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from fluvial.prepared import Statement
from fluvial.storage.holdings import LARGE_BYTES
from fluvial.storage.particle_tables import journal, outbox, particles, replay_guards, scripts, stories, ways
from fluvial.storage.ways import TOLD_CHARACTERS_MAX
from fluvial.stored import ParticleState
from fluvial.tables import per_dialect

if TYPE_CHECKING:
    from fluvial.tables import Insert


def _text(value: str) -> ColumnClause[str]:
    """A text of ours within the statement: not a parameter."""
    return literal_column(f"'{value}'", Text)


_ONE: Final[ColumnClause[int]] = literal_column("1")
_LARGE_BYTES: Final[ColumnClause[int]] = literal_column(str(LARGE_BYTES))
_TOLD_MAX: Final[ColumnClause[int]] = literal_column(str(TOLD_CHARACTERS_MAX))
_LIVE: Final = _text(ParticleState.LIVE.value)
_FINISHED: Final = _text(ParticleState.FINISHED.value)
_ZERO: Final[ColumnClause[int]] = literal_column(
    "0"
)  # SQLite's dialect makes a parameter of an offset that is not given
_OF: Final[BindParameter[Any]] = bindparam("of")
_END: Final[BindParameter[Any]] = bindparam("end")
_MOST: Final[BindParameter[Any]] = bindparam("most")

# --- writing ----------------------------------------------------------------------------------------------------------------

_GROWN: Final = particles.c.entries + bindparam("count")
_FOLLOWED: Final = case((particles.c.entries == bindparam("first"), particles.c.entries + bindparam("count")))
"""The new length of a journal; NULL, which the column refuses, where the entries do not come next. So the check needs no round trip of its
own, and nothing after it is done."""

_WRITTEN: Final = particles.c["revision", "initiator", "bytes", "deadline_ms"]


def _touch(length: Any, **state: Any) -> Statement:
    change = update(particles).where(particles.c.key == _OF)
    change = change.values(
        **state,
        entries=length,
        revision=particles.c.revision + _ONE,
        bytes=particles.c.bytes + bindparam("more"),
    )
    return Statement(change.returning(*_WRITTEN))


def _admit(insert: Callable[[Table], Insert]) -> Executable:
    """Add a particle with its first entries; one that is here grows by them, if it has none yet."""
    admit = insert(particles)
    new, here = admit.excluded, particles.c
    follows = case(
        (new.entries == literal_column("0"), here.entries), (here.entries == literal_column("0"), new.entries)
    )
    admit = admit.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "state": new.state,
            "entries": follows,
            "revision": here.revision + _ONE,
            "bytes": here.bytes + bindparam("more"),
        },
    )
    return admit.returning(*_WRITTEN)


def _request(insert: Callable[[Table], Insert]) -> Insert:
    version = select(particles.c.revision).where(particles.c.key == _OF).scalar_subquery()
    request = insert(outbox).values(version=version)
    return request.on_conflict_do_update(index_elements=["key", "peer"], set_={"version": request.excluded.version})


def _tell_way(insert: Callable[[Table], Insert]) -> Insert:
    """Nothing if the particle has gone meanwhile."""
    row = select(particles.c.key, cast(bindparam("to"), Text), cast(bindparam("told"), Text))
    tell = insert(ways).from_select(["key", "peer", "told"], row.where(particles.c.key == _OF))
    room = func.length(ways.c.told) <= _TOLD_MAX
    text = case((room, ways.c.told + _text(" ") + tell.excluded.told), else_=ways.c.told)
    return tell.on_conflict_do_update(index_elements=["key", "peer"], set_={"told": text})


_ROW: Final = (outbox.c.key == _OF) & (outbox.c.peer == bindparam("to"))

_WRITES: Final[Mapping[str, Statement]] = {
    "add_script": Statement(
        per_dialect(lambda insert: insert(scripts).on_conflict_do_nothing()), columns=scripts.c.keys()
    ),
    "add_particle": Statement(
        per_dialect(
            lambda insert: insert(particles).on_conflict_do_nothing().returning(particles.c.revision)  # of a new one
        ),
        columns=particles.c.keys(),
    ),
    "admit": Statement(per_dialect(_admit), columns=particles.c.keys()),
    "touch": _touch(_GROWN, state=bindparam("to")),
    "advance": _touch(_FOLLOWED, state=bindparam("to")),
    "advance_as_it_is": _touch(_FOLLOWED),  # SQLite would write the index of states anew, also of one that stays
    "length": Statement(select(particles.c.entries).where(particles.c.key == _OF)),
    "as_it_is": Statement(select(*_WRITTEN).where(particles.c.key == _OF)),
    "add_entry": Statement(insert(journal), columns=journal.c.keys()),
    "request": Statement(
        per_dialect(_request),
        columns=[name for name in outbox.c.keys() if name != "version"],  # noqa: SIM118 - no dict
    ),
    "delivered": Statement(delete(outbox).where(_ROW, outbox.c.version <= bindparam("up_to"))),
    "tried": Statement(update(outbox).where(_ROW).values(attempts=bindparam("tries"), last_error=bindparam("why"))),
    "failed": Statement(
        update(outbox).where(_ROW).values(attempts=outbox.c.attempts + _ONE, last_error=bindparam("why"))
    ),
    "way": Statement(per_dialect(_tell_way)),
}

# --- reading ----------------------------------------------------------------------------------------------------------------

_WAITING: Final = select(outbox, *particles.c["deadline_ms", "initiator", "sender"]).join(particles)
_DUE: Final = _WAITING.where(particles.c.deadline_ms > bindparam("now"))
_IN_TURN: Final = (outbox.c.since_ms, outbox.c.key, outbox.c.peer)
_SHOWN: Final = ("key", "id", "header", "sender", "hops", "received_at_ms", "deadline_ms", "state", "entries")
_SUMMARY: Final[Select[Any]] = select(
    *particles.c[_SHOWN],
    select(func.count()).where(outbox.c.key == particles.c.key).scalar_subquery().label("waiting"),
)
_STORY_SUMMARY: Final[Select[Any]] = select(*stories.c[_SHOWN], literal_column("0").label("waiting"))


def _recent(summary: Select[Any], table: Table) -> Select[Any]:
    return summary.order_by(table.c.received_at_ms.desc(), table.c.key).limit(_MOST).offset(_ZERO)


def _found(summary: Select[Any], table: Table) -> Select[Any]:
    return _recent(summary.where(table.c.id >= bindparam("low"), table.c.id <= bindparam("high")), table)


def _keys(table: Table) -> Statement:
    return Statement(select(*table.c["key", "deadline_ms"]).where(table.c.deadline_ms >= bindparam("since")))


def _sums(table: Table) -> Statement:
    return Statement(select(table.c.initiator, func.sum(table.c.bytes)).group_by(table.c.initiator))


_READS: Final[Mapping[str, Statement]] = {
    "keys": _keys(particles),
    "guarded_keys": _keys(replay_guards),
    "large": Statement(
        select(*particles.c["key", "initiator", "deadline_ms", "state"]).where(particles.c.bytes > _LARGE_BYTES)
    ),
    "bytes": _sums(particles),
    "story_bytes": _sums(stories),
    "script_bytes": Statement(select(scripts.c.initiator, func.length(scripts.c.text))),
    "guards": Statement(select(func.count()).select_from(replay_guards)),
    "live": Statement(
        select(*particles.c["key", "header", "sender"])
        .where(particles.c.state == _LIVE, particles.c.deadline_ms > bindparam("now"))
        .order_by(particles.c.received_at_ms, particles.c.key)
    ),
    "state": Statement(select(particles.c.state).where(particles.c.key == _OF)),
    "load": Statement(select(particles, scripts.c.text.label("script")).join(scripts).where(particles.c.key == _OF)),
    "journal": Statement(
        select(*journal.c["seq", "at_ms", "kind", "payload"]).where(journal.c.key == _OF).order_by(journal.c.seq)
    ),
    "outbox": Statement(_WAITING.where(outbox.c.key == _OF).order_by(outbox.c.peer)),
    "due": Statement(_DUE.order_by(*_IN_TURN)),
    "due_to": Statement(_DUE.where(outbox.c.peer == bindparam("to")).order_by(*_IN_TURN)),
    "ways": Statement(select(ways.c.peer, ways.c.told).where(ways.c.key == _OF).order_by(ways.c.peer)),
    "story": Statement(select(stories.c.story).where(stories.c.key == _OF)),
    "story_state": Statement(select(stories.c.state).where(stories.c.key == _OF)),
    "guard": Statement(select(replay_guards.c.key).where(replay_guards.c.key == _OF)),
    "recent": Statement(_recent(_SUMMARY, particles)),
    "recent_stories": Statement(_recent(_STORY_SUMMARY, stories)),
    "found": Statement(_found(_SUMMARY, particles)),
    "found_stories": Statement(_found(_STORY_SUMMARY, stories)),
}

# --- removing ---------------------------------------------------------------------------------------------------------------

_SCRIPT_BYTES: Final = (
    select(func.length(scripts.c.text)).where(scripts.c.hash == particles.c.script_hash).scalar_subquery()
)
_HEAD: Final[Select[Any]] = select(
    *particles.c["key", "script_hash", "deadline_ms", "initiator", "bytes"],
    (particles.c.bytes + _SCRIPT_BYTES).label("size"),
)
_BY_AGE: Final = particles.c.deadline_ms
_WAITS: Final = exists().where(outbox.c.key == particles.c.key)
_OLD_GUARDS: Final = (
    select(replay_guards.c.key).where(replay_guards.c.deadline_ms < _END).limit(_MOST).offset(_ZERO).scalar_subquery()
)

_SINCE: Final[BindParameter[Any]] = bindparam("since")
_PLACES: Final[Mapping[str, ColumnElement[Any]]] = {
    "sqlite": literal_column("particles.rowid", BigInteger),
    "postgresql": particles.c.key,
}
"""What tells particles with one deadline apart. An index of SQLite has the row's number behind what it is of, so nothing is to be sorted."""


def _unexpired(where: Callable[[ColumnElement[Any]], ColumnElement[bool]]) -> Statement:
    """Particles, whether or not they have ended, in the order of the index of deadlines.

    With a condition on the state SQLite takes the index of states, which gives all that has finished, whether or not it waits, to be sorted.
    """
    ended = and_(particles.c.state == _FINISHED, ~_WAITS).label("ended")
    return Statement(
        {
            dialect: _HEAD.add_columns(ended, place.label("place"))
            .where(where(place))
            .order_by(_BY_AGE, place)
            .limit(_MOST)
            .offset(_ZERO)
            for dialect, place in _PLACES.items()
        }
    )


_REMOVALS: Final[Mapping[str, Statement]] = {
    "dead": Statement(_HEAD.where(particles.c.deadline_ms < _END).order_by(_BY_AGE).limit(_MOST).offset(_ZERO)),
    "tied": _unexpired(lambda place: (particles.c.deadline_ms == _SINCE) & (place > bindparam("after"))),
    "later": _unexpired(lambda place: particles.c.deadline_ms > _SINCE),
    "ended": Statement(
        select(particles).where(
            particles.c.key == _OF,
            or_(particles.c.deadline_ms < _END, (particles.c.state == _FINISHED) & ~_WAITS),
        )
    ),
    "old_stories": Statement(
        select(*stories.c["key", "deadline_ms", "initiator", "bytes"], stories.c.bytes.label("size"))
        .where(stories.c.deadline_ms <= _END)
        .order_by(stories.c.deadline_ms)
        .limit(_MOST)
        .offset(_ZERO)
    ),
    "forget": Statement(delete(particles).where(particles.c.key.in_(bindparam("keys", expanding=True)))),
    "forget_scripts": Statement(
        delete(scripts)
        .where(
            scripts.c.hash.in_(bindparam("hashes", expanding=True)),
            ~exists().where(particles.c.script_hash == scripts.c.hash),
        )
        .returning(scripts.c.initiator, func.length(scripts.c.text))
    ),
    "forget_stories": Statement(delete(stories).where(stories.c.key.in_(bindparam("keys", expanding=True)))),
    "forget_guards": Statement(delete(replay_guards).where(replay_guards.c.key.in_(_OLD_GUARDS))),
    "add_guard": Statement(
        per_dialect(lambda insert: insert(replay_guards).on_conflict_do_nothing()), columns=replay_guards.c.keys()
    ),
    "add_story": Statement(
        per_dialect(lambda insert: insert(stories).on_conflict_do_nothing().returning(stories.c.bytes)),
        columns=stories.c.keys(),
    ),
}

STATEMENTS: Final[Mapping[str, Statement]] = {**_WRITES, **_READS, **_REMOVALS}
