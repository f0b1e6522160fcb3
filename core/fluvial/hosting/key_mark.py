"""The mark beside a peer's key: up to which epoch this key may have voted on each ledger. It outlives the database, and is locked while the peer runs.

Who has lost the database does not know what it has signed: a fresh database beside a mark must not vote in any epoch up to the one that the mark names. In later ones
the key has signed nothing, since the mark is on the disk before the first vote of an epoch leaves. Two processes with one key would sign twice: the second one finds the mark locked.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from fluvial.errors import ConfigError, StorageError
from fluvial.hosting.log import ConsensusLog
from fluvial.ledger.statements import SLOT_MAX
from fluvial.ports import Database
from fluvial.prepared import Prepared, Transaction

NEVER: Final = SLOT_MAX


class KeyMark:
    """The open and locked mark of a key.

    Args:
        key_file: the key; the mark is the file beside it with the suffix ``.voted``.

    Raises:
        ConfigError: another process uses this key for a ledger, or the mark cannot be opened.
    """

    def __init__(self, key_file: Path) -> None:
        self._path = mark_of(key_file)
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

    def votes_from(self, chain: bytes) -> int:
        """The first epoch of a ledger in which the key has certainly signed nothing; 0 if it has never voted on it."""
        return first_epoch(os.pread(self._handle, os.fstat(self._handle).st_size, 0), chain)

    def note(self, chain: bytes, epoch: int) -> None:
        """Note that the key votes in an epoch of a ledger from now on; durable on return.

        Raises:
            StorageError: it cannot be written, so the key must not vote.
        """
        if self.votes_from(chain) > epoch:
            return
        try:
            end = os.lseek(self._handle, 0, os.SEEK_END)
            # A crash may have torn the line before, whose epoch nothing was signed in then.
            os.pwrite(self._handle, f"\n{chain.hex()} {epoch}\n".encode(), end)
            os.fsync(self._handle)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise StorageError(
                f"{self._path}: the mark of a key that votes cannot be written: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Let go."""
        os.close(self._handle)


def mark_of(key_file: Path) -> Path:
    """Where the mark of a key is."""
    return key_file.with_suffix(".voted")


def first_epoch(mark: bytes, chain: bytes) -> int:
    """The first epoch of a ledger in which a key has certainly signed nothing, by the bytes of its mark."""
    found = [line.split() for line in mark.decode(errors="replace").splitlines()]
    return max((_epoch(words) + 1 for words in found if words and words[0] == chain.hex()), default=0)


def _epoch(words: list[str]) -> int:
    """The epoch of a line; what cannot be read may have named any."""
    return int(words[1]) if len(words) == 2 and words[1].isdecimal() else NEVER


async def may_vote_from(
    mark: KeyMark, database: Database, table: ConsensusLog, me: bytes, chain: bytes, genesis: str
) -> int:
    """The first epoch of a ledger in which a key may vote with a database, which belongs to both from then on.

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

    def look(transaction: Transaction) -> tuple[tuple[bytes, int] | None, bool]:
        return table.voter(transaction, me), table.others(transaction, me)

    known, of_others = await database.read(Prepared(look))
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
        return known[1]
    first = mark.votes_from(chain)
    await database.write(Prepared(table.register, me, chain, votes_from=first))
    return first
