"""Two nodes never run on one database: who writes to it stands in it, with a lease.

The first line of defence are locks (``sqlite.py``, ``postgresql.py``), which end with the process that holds them. Behind them stands one row: who
owns the database (a token that is new at each start, host, process) and a beat that the owner counts up.

1. Whoever has the lock and finds no row, or one of the same host, takes over at once: the lock proves that the owner is gone.
2. A row of another host may be that of a process that the lock does not hold off (a network share, a pooler). It is watched for the length of its
   lease: if the beat moves, its owner is alive, and the newcomer is refused; if not, the newcomer takes over. No clocks are compared.
3. A row of this host that names another file, which somebody writes to, came along with a copy of that file: two peers with one key. The newcomer is refused.
   A copy that was taken to another host looks like 2.; that its owner was never heard is told.
4. An owner that does not find its token any more has lost the database: somebody took it over, or it was replaced by a copy. Nothing is
   written then until the node is started anew.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fluvial.errors import StorageError
from fluvial.prepared import Transaction
from fluvial.storage.kept import OWNERS
from fluvial.storage.locked import is_locked

LEASE_S: Final = 20.0
BEAT_S: Final = 5.0
"""How often the beat is counted up; a quarter of the lease, so that a slow disk does not end it."""

LOOK_S: Final = 0.25
"""Between two looks at the beat of another host."""

TOKEN_BYTES: Final = 16

OWNER_TABLE: Final = "fluvial_owner"

_FIND: Final = OWNERS["find"]
_VERIFY: Final = OWNERS["verify"]
_RENEW: Final = OWNERS["renew"]
_RELEASE: Final = OWNERS["release"]
_CLEAR: Final = OWNERS["clear"]
_CLAIM: Final = OWNERS["claim"]


class OwnershipLost(StorageError):
    """The database is another one's now, or is not the one that was opened."""


class Ownership:
    """The right to write to a database; made by :func:`claim`.

    Args:
        token: what stands in the row.
        where: names the database in messages.
        before: who had it and did not give it back, elsewhere; empty if nobody.

    Attributes:
        before: as above.
    """

    def __init__(self, token: bytes, where: str, before: str = "") -> None:
        self._mine = {"mine": token}
        self._where = where
        self.before: Final = before

    def verify(self, transaction: Transaction) -> None:
        """Raises OwnershipLost if the row is not this owner's any more."""
        if transaction.value(_VERIFY, self._mine) is None:
            raise self._lost(transaction)

    def renew(self, transaction: Transaction) -> None:
        """Count up the beat, within a write. Raises OwnershipLost as :meth:`verify`."""
        if not transaction.change(_RENEW, self._mine):
            raise self._lost(transaction)

    def release(self, transaction: Transaction) -> None:
        """Leave the database to whoever comes next."""
        transaction.change(_RELEASE, self._mine)

    def _lost(self, transaction: Transaction) -> OwnershipLost:
        other = transaction.row(_FIND)
        who = "it was replaced by another" if other is None else f"{_described(other)} has taken it over"
        return OwnershipLost(
            f"{self._where}: this process does not own it any more: {who}",
            hint="stop one of the two, then start the node anew",
        )


def wait_until_free(
    look: Callable[[], Any | None], where: str, path: Path | None, *, watching: Callable[[str, float], None]
) -> None:
    """Make sure that nobody writes to the database whom the lock does not hold off.

    Args:
        look: finds the row of the owner, see :func:`owner_of`; the lock is held.
        where: names the database in messages.
        path: the database's file, all links resolved; None for a server.
        watching: told whose beat is watched, and for how many seconds at most, before that begins.

    Raises:
        StorageError: a process of another host is alive, the file has a second name under which a log may lie, or it is a copy of one that is in use.
    """
    found = look()
    if found is None:
        return
    _check_name(found, where, path)
    if found.host == platform.node():
        return
    watching(_described(found), found.lease_ms / 1000)
    end = time.monotonic() + found.lease_ms / 1000
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        now = look()
        if now is None:
            return
        if (now.token, now.beat) != (found.token, found.beat):
            raise StorageError(
                f"{where}: another process writes to it: {_described(now)}",
                hint="stop the other node, or give this one a database of its own",
            )


def claim(transaction: Transaction, where: str, path: Path | None) -> Ownership:
    """Become the owner, within a transaction; whoever was it before has lost it."""
    token = secrets.token_bytes(TOKEN_BYTES)
    found = transaction.row(_FIND)
    name = "" if path is None else str(path)
    elsewhere = found is not None and (found.host, found.path) != (platform.node(), name)
    transaction.change(_CLEAR)
    transaction.change(
        _CLAIM,
        {
            "id": 1,
            "token": token,
            "host": platform.node(),
            "process": os.getpid(),
            "path": name,
            "lease_ms": round(LEASE_S * 1000),
            "beat": 0,
        },
    )
    return Ownership(token, where, _described(found) if elsewhere else "")


def owner_of(transaction: Transaction) -> Any | None:
    """The row of the owner; None if there is none."""
    return transaction.row(_FIND) if transaction.has_table(OWNER_TABLE) else None


def _check_name(found: Any, where: str, path: Path | None) -> None:
    """A file with two names has a log beside each; one that a crashed process left would be forgotten."""
    other = Path(found.path)
    if path is None or not found.path or other == path or not other.exists():
        return
    if other.samefile(path):
        raise StorageError(
            f"{where}: a process that did not end in order has written to the same file under the name {other}",
            hint="start the node with that name once, so that nothing of it is lost, or remove one of the two links",
        )
    if found.host == platform.node() and is_locked(other):
        raise StorageError(
            f"{where}: it is a copy of {other}, to which process {found.process} writes now",
            hint="two nodes with one key and one past do harm to each other and to their flows: stop that one first, or make a new peer with `fluvial init`",
        )


def _described(row: Any) -> str:
    return f"process {row.process} on {row.host}" + (f" ({row.path})" if row.path else "")
