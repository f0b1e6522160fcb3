"""The mark beside a peer's key: this key may have voted on these ledgers. It outlives the database, and is locked while the peer runs.

Who has lost the database does not know what it has signed: a fresh database beside a mark must not vote. Two processes with one key would sign twice:
the second one finds the mark locked.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection

from fluvial.errors import ConfigError
from fluvial.hosting.log import ConsensusLog
from fluvial.ports import Database


class KeyMark:
    """The open and locked mark of a key.

    Args:
        key_file: the key; the mark is the file beside it with the suffix ``.voted``.

    Raises:
        ConfigError: another process uses this key for a ledger, or the mark cannot be opened.
    """

    def __init__(self, key_file: Path) -> None:
        self._path = key_file.with_suffix(".voted")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"{self._path}: the mark of a key that votes cannot be opened: {error.strerror}"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise ConfigError(
                f"{self._path}: another process votes with this key",
                hint="a validator that runs twice signs twice and loses its place; stop the other one",
            ) from error

    def has_voted(self, chain: bytes) -> bool:
        """Whether the key may have voted on a ledger."""
        return chain.hex() in os.pread(self._handle, 1 << 20, 0).decode(errors="replace").split()

    def note(self, chain: bytes) -> None:
        """Note that the key votes on a ledger from now on; durable on return."""
        if self.has_voted(chain):
            return
        end = os.lseek(self._handle, 0, os.SEEK_END)
        os.pwrite(self._handle, f"{chain.hex()}\n".encode(), end)
        os.fsync(self._handle)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go."""
        os.close(self._handle)


async def may_vote(
    mark: KeyMark, database: Database, table: ConsensusLog, me: bytes, chain: bytes, genesis: str
) -> bool:
    """Whether a key may vote on a ledger with a database, which belongs to both from then on.

    Args:
        mark: of the key.
        database: of the peer.
        table: in it.
        me: the public key.
        chain: id of the ledger.
        genesis: its file, for errors.

    Raises:
        ConfigError: the database belongs to another ledger or another key.
    """

    def look(connection: Connection) -> tuple[tuple[bytes, bool] | None, bool]:
        return table.voter(connection, me), table.others(connection, me)

    known, of_others = await database.read(look)
    if known is not None and known[0] != chain:
        raise ConfigError(
            f"{genesis}: the peer's database belongs to another ledger, {known[0].hex()[:12]}…",
            hint="one database is for one ledger: name the genesis of that one, or give the peer a new folder",
        )
    if of_others:
        raise ConfigError(
            "the peer's database belongs to another key of a ledger",
            hint="a validator's database and key go together",
        )
    if known is not None:
        return not known[1]
    silent = mark.has_voted(chain)
    await database.write(lambda connection: table.register(connection, me, chain, silent=silent))
    return not silent
