"""Two nodes never run on one database: who writes to it stands in it, with a lease.

The first line of defence are locks (``sqlite.py``, ``postgresql.py``), which end with the process that holds them. Behind them stands one row: who
owns the database (a token that is new at each start, host, process) and a beat that the owner counts up.

1. Whoever has the lock and finds no row, or one of the same host, takes over at once: the lock proves that the owner is gone.
2. A row of another host may be that of a process that the lock does not hold off (a network share, a pooler). It is watched for the length of its
   lease: if the beat moves, its owner is alive, and the newcomer is refused; if not, the newcomer takes over. No clocks are compared.
3. An owner that does not find its token any more has lost the database: somebody took it over, or it was replaced by a copy. Nothing is
   written then until the node is started anew.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    Row,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    update,
)

from fluvial.errors import StorageError
from fluvial.storage.tables import metadata

LEASE_S: Final = 20.0
BEAT_S: Final = 5.0
"""How often the beat is counted up; a quarter of the lease, so that a slow disk does not end it."""

LOOK_S: Final = 0.25
"""Between two looks at the beat of another host."""

TOKEN_BYTES: Final = 16

owners: Final = Table(
    "fluvial_owner",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("token", LargeBinary(TOKEN_BYTES), nullable=False),
    Column("host", Text, nullable=False),
    Column("process", BigInteger, nullable=False),
    Column("path", Text, nullable=False),  # of a file: the name under which its log lies
    Column("lease_ms", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
)

_FIND: Final = select(owners)


class OwnershipLost(StorageError):
    """The database is another one's now, or is not the one that was opened."""


class Ownership:
    """The right to write to a database; made by :func:`claim`.

    Args:
        token: what stands in the row.
        where: names the database in messages.
    """

    def __init__(self, token: bytes, where: str) -> None:
        self._mine = owners.c.token == token
        self._where = where

    def verify(self, connection: Connection) -> None:
        """Raises OwnershipLost if the row is not this owner's any more."""
        if connection.scalar(select(owners.c.id).where(self._mine)) is None:
            raise self._lost(connection)

    def renew(self, connection: Connection) -> None:
        """Count up the beat, within a write. Raises OwnershipLost as :meth:`verify`."""
        if not connection.execute(update(owners).where(self._mine).values(beat=owners.c.beat + 1)).rowcount:
            raise self._lost(connection)

    def release(self, connection: Connection) -> None:
        """Leave the database to whoever comes next."""
        connection.execute(delete(owners).where(self._mine))

    def _lost(self, connection: Connection) -> OwnershipLost:
        other = connection.execute(_FIND).first()
        who = "it was replaced by another" if other is None else f"{_described(other)} has taken it over"
        return OwnershipLost(
            f"{self._where}: this process does not own it any more: {who}",
            hint="stop one of the two, then start the node anew",
        )


def wait_until_free(engine: Engine, where: str, path: Path | None) -> None:
    """Make sure that nobody writes to the database whom the lock does not hold off.

    Args:
        engine: the writer's; its lock is held.
        where: names the database in messages.
        path: the database's file, all links resolved; None for a server.

    Raises:
        StorageError: a process of another host is alive, or the file has a second name under which a log may lie.
    """
    found = _look(engine)
    if found is None:
        return
    _check_name(found, where, path)
    if found.host == platform.node():
        return
    end = time.monotonic() + found.lease_ms / 1000
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        now = _look(engine)
        if now is None:
            return
        if (now.token, now.beat) != (found.token, found.beat):
            raise StorageError(
                f"{where}: another process writes to it: {_described(now)}",
                hint="stop the other node, or give this one a database of its own",
            )


def claim(connection: Connection, where: str, path: Path | None) -> Ownership:
    """Become the owner, within a transaction; whoever was it before has lost it."""
    token = secrets.token_bytes(TOKEN_BYTES)
    connection.execute(delete(owners))
    connection.execute(
        insert(owners),
        {
            "id": 1,
            "token": token,
            "host": platform.node(),
            "process": os.getpid(),
            "path": "" if path is None else str(path),
            "lease_ms": round(LEASE_S * 1000),
            "beat": 0,
        },
    )
    return Ownership(token, where)


def _look(engine: Engine) -> Row[Any] | None:
    with engine.connect() as connection:
        return connection.execute(_FIND).first() if inspect(connection).has_table(owners.name) else None


def _check_name(found: Row[Any], where: str, path: Path | None) -> None:
    """A file with two names has a log beside each; one that a crashed process left would be forgotten."""
    other = Path(found.path)
    if path is not None and found.path and other != path and other.exists() and other.samefile(path):
        raise StorageError(
            f"{where}: a process that did not end in order has written to the same file under the name {other}",
            hint="start the node with that name once, so that nothing of it is lost, or remove one of the two links",
        )


def _described(row: Row[Any]) -> str:
    return f"process {row.process} on {row.host}"
