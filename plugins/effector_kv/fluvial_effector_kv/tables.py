"""The tables: entries, and what each store takes."""

from __future__ import annotations

from collections.abc import Mapping

from fluvial.tables import SortedText, new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, bindparam, delete, select

metadata = new_metadata()
entries = Table(
    "kv_entries",
    metadata,
    Column("store", SortedText, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
usage = Table(
    "kv_usage",
    metadata,
    Column("store", SortedText, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("entries", BigInteger, nullable=False),
)

_PUT = per_dialect(
    lambda insert: (new := insert(entries)).on_conflict_do_update(
        index_elements=["store", "key"], set_={"value": new.excluded.value}
    )
)
_COUNT = per_dialect(
    lambda insert: (new := insert(usage)).on_conflict_do_update(
        index_elements=["store"], set_={"bytes": new.excluded.bytes, "entries": new.excluded.entries}
    )
)
_DELETE = delete(entries).where(entries.c.store == bindparam("s"), entries.c.key == bindparam("k"))


def read_usage(connection: Connection, store: str) -> tuple[int, int]:
    """What a store takes: bytes and entries."""
    row = connection.execute(select(usage.c.bytes, usage.c.entries).where(usage.c.store == store)).one_or_none()
    return (0, 0) if row is None else (row.bytes, row.entries)


def read_value(connection: Connection, store: str, key: bytes) -> bytes | None:
    """The value of a key; None if it has none."""
    found = connection.scalar(select(entries.c.value).where(entries.c.store == store, entries.c.key == key))
    return None if found is None else bytes(found)


def read_keys(connection: Connection, store: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
    """The first keys that begin with ``prefix`` and come after ``after``, in the order of their bytes."""
    query = select(entries.c.key).where(entries.c.store == store, entries.c.key >= prefix).order_by(entries.c.key)
    if after:
        query = query.where(entries.c.key > after)
    if (beyond := _beyond(prefix)) is not None:
        query = query.where(entries.c.key < beyond)
    return [bytes(key) for key in connection.scalars(query.limit(limit))]


def _beyond(prefix: bytes) -> bytes | None:
    """The first bytes that no longer begin with a prefix; None if there are none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def write(connection: Connection, store: str, changes: Mapping[bytes, bytes | None], used: tuple[int, int]) -> None:
    """Write all changes of a call, and what the store takes then; a value of None deletes the key."""
    put = [{"store": store, "key": key, "value": value} for key, value in changes.items() if value is not None]
    gone = [{"s": store, "k": key} for key, value in changes.items() if value is None]
    dialect = connection.dialect.name
    if put:
        connection.execute(_PUT[dialect], put)
    if gone:
        connection.execute(_DELETE, gone)
    connection.execute(_COUNT[dialect], [{"store": store, "bytes": used[0], "entries": used[1]}])


def forget(connection: Connection, store: str) -> None:
    """Delete a store."""
    connection.execute(delete(entries).where(entries.c.store == store))
    connection.execute(delete(usage).where(usage.c.store == store))
